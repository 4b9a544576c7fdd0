"""What the CUDA kernels of several operations share."""
