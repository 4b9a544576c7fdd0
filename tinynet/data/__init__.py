"""Reading, augmenting and making images with their labels. Names are imported when first used: see `__init__.pyi`."""

import lazy_loader

from ..engine.foreign import module_getattr

_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_missing = module_getattr(__name__)


def __getattr__(name: str) -> object:
    return _find(name) if name in __all__ or name.startswith("_") else _missing(name)
