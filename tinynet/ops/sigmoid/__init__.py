"""The logistic sigmoid; start with derivation.md."""
