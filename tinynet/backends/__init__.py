"""What runs a kernel: the registry, the memory pool, Numba, CUDA and its emulator."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["arrays", "cuda", "cusim", "devices", "launch", "memory", "numba", "registry"]
)
