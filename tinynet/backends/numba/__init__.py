"""What the Numba kernels are made of: the compile cache and vectors."""
