"""One room per operation that has a hand-written kernel; see docs/design.md for the files in a room."""

from . import settings  # noqa: F401 (here, because it must come before any room imports Numba)
