"""The scripts of examples/ as modules: the net that is measured is the one that students read.

The examples are no package. In a checkout they lie beside `tinynet/`, and an installed wheel has a copy of
them inside of it, made by setup.py.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parents[2]
FOLDERS = (PACKAGE.parent / "examples", PACKAGE / "examples")


def load_example(path: str) -> ModuleType:
    """The module of examples/<path>, e.g. 'segmentation/unet_nuclei.py', imported once.

    Raises FileNotFoundError where the examples are in neither place.
    """
    name = "_".join(("example", *Path(path).with_suffix("").parts))
    if name not in sys.modules:
        file = next((folder / path for folder in FOLDERS if (folder / path).is_file()), None)
        if file is None:
            raise FileNotFoundError(f"examples/{path} is neither in {FOLDERS[0]} nor in {FOLDERS[1]}")
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their own module up while it is being imported
        spec.loader.exec_module(module)
    return sys.modules[name]
