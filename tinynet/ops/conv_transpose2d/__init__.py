"""2-D transposed convolution; start with derivation.md."""
