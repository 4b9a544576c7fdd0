"""tinynet: a from-scratch deep-learning framework to learn from.

`__init__.pyi` lists every public name and the module it lives in. A name is imported when it is first used, so that
`import tinynet` is quick.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

import lazy_loader

__version__ = "0.1.0"
_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used; AttributeError, with what to write instead, for any other name."""
    if name not in __all__ and name.startswith("_"):
        return _find(name)
    from .engine import foreign

    if name not in __all__:
        importlib.import_module(".nn", __name__)  # so that `Linear` is found there
        raise foreign.missing(name, sys.modules[__name__])
    value = _find(name)
    if isinstance(value, FunctionType):
        value = globals()[name] = foreign.explained(value, __name__, name)
    return value


# Modules that users import by a short name, `from tinynet.optim import Adam`, and the folders they live in.
_SHORT_NAMES = {
    "tinynet.boxes": "tinynet.imaging.boxes",
    "tinynet.cli": "tinynet.tools.cli",
    "tinynet.cuda": "tinynet.backends.cuda",
    "tinynet.cuda.launch": "tinynet.backends.launch",
    "tinynet.cusim": "tinynet.backends.cusim",
    "tinynet.exercises": "tinynet.learn.exercises",
    "tinynet.gradcheck": "tinynet.learn.gradcheck",
    "tinynet.instances": "tinynet.imaging.instances",
    "tinynet.io": "tinynet.training.io",
    "tinynet.kernels": "tinynet.backends.registry",
    "tinynet.metrics": "tinynet.imaging.metrics",
    "tinynet.optim": "tinynet.nn.optim",
    "tinynet.random": "tinynet.engine.random",
    "tinynet.segment": "tinynet.imaging.segment",
    "tinynet.tensor": "tinynet.engine.tensor",
    "tinynet.train": "tinynet.training.train",
    "tinynet.viz": "tinynet.imaging.viz",
}


class _ShortNames:
    """Finds the modules in `_SHORT_NAMES`, and says what foreign ones are called here.

    Python asks it after it has looked for a file of that name.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in _SHORT_NAMES:
            return importlib.util.spec_from_loader(name, _ShortNames)
        if name.startswith("tinynet."):  # also `from tinynet.nn import Dense`, after nn has no such attribute
            from .engine import foreign

            if answer := foreign.answer(name.rpartition(".")[2]):
                raise ModuleNotFoundError(f"there is no {name}: {answer}")
        return None

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(_SHORT_NAMES[spec.name])
        spec.loader_state = module.__spec__  # importing by a short name must not change the module
        return module

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state


class _Package(ModuleType):
    """This package. `import tinynet.gradcheck` must not put a module in the place of the function of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in ("gradcheck", "tensor") and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple:  # cloudpickle (joblib, dask, ray) knows modules of the plain type only
        return importlib.import_module, (self.__name__,)


sys.meta_path.append(_ShortNames)
sys.modules[__name__].__class__ = _Package
