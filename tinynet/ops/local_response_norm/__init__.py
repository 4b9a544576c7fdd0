"""Local response normalisation; start with derivation.md."""
