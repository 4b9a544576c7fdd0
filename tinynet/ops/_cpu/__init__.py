"""What the Numba kernels of several operations share."""
