"""Dropout, with masks that are drawn again rather than stored; start with derivation.md."""
