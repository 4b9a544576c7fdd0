"""Nuclei in your own images, found by the shipped U-Net. Names are imported when first used: see `__init__.pyi`.

`tinynet.nuclei.segment(image)` returns int32 (H, W): 0 is background, 1, 2, ... are the nuclei.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
