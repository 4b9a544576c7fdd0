"""Parametric ReLU; start with derivation.md."""
