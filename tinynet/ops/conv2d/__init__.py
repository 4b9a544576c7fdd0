"""2-D convolution; start with derivation.md."""
