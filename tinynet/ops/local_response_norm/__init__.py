"""Local response normalization; start with derivation.md."""
