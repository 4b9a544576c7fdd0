"""A step of the optimizer Adam; start with derivation.md."""
