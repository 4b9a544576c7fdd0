"""The training loop and its checkpoints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["distributed", "io", "train"])
