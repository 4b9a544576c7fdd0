"""activations.cu, the file of all activation functions: each room's `cuda.py` names its kernels."""

from __future__ import annotations

from pathlib import Path

from ..cuda.source import Source
from .elementwise_cuda import VARIANTS

SOURCE = Source(Path(__file__).with_name("activations.cu"), VARIANTS)
