"""Numba: its settings, the compile cache, and explicit vectors."""

from . import settings  # noqa: F401  before any module of this folder imports Numba
