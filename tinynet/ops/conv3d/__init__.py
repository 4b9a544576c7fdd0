"""3-D convolution and its transpose; start with derivation.md."""
