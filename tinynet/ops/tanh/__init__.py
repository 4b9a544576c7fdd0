"""The hyperbolic tangent; start with derivation.md."""
