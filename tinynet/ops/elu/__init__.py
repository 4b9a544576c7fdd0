"""The exponential linear unit; start with derivation.md."""
