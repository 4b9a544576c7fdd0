"""Batch normalization; start with derivation.md."""
