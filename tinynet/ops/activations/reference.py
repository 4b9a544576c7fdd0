"""The definitions are the formulas of the entries, on arrays. The other tiers must agree."""

from __future__ import annotations

from .entries import ACTIVATIONS

PARTS = {op: activation.kernels for op, activation in ACTIVATIONS.items()}
