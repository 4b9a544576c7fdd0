"""Import a script of examples/, which is no package, as a module."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load_example(path: str) -> ModuleType:
    """The module of examples/<path>, e.g. 'segmentation/unet_nuclei.py', imported once."""
    name = "example_" + Path(path).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their own module up while it is being imported
        spec.loader.exec_module(module)
    return sys.modules[name]
