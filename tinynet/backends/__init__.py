"""Where kernels run: which implementation is chosen, memory, and what Numba, CUDA and the emulator need."""
