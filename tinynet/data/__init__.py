"""Reading, augmenting and making images with their labels. Names are imported when first used: see `__init__.pyi`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
