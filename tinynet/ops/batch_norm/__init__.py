"""Batch normalisation; start with derivation.md."""
