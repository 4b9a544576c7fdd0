"""Numba: its settings, the compile cache, and explicit vectors."""
