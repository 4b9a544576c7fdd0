"""What the Numba kernels of several ops share."""
