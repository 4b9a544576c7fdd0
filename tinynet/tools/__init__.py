"""The command line, the benchmarks and the example runner."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["cli"])
