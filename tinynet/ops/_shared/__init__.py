"""What the kernels of an op share on all tiers: geometry and epilogue of a convolution."""
