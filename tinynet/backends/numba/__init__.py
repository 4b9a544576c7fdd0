"""Numba: its settings, the compile cache, and explicit vectors."""

from . import settings  # before any module of this folder imports Numba
