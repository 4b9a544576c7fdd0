"""A step of the optimiser Adam; start with derivation.md."""
