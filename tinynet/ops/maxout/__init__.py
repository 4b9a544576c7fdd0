"""Maxout: the largest of each few channels; start with derivation.md."""
