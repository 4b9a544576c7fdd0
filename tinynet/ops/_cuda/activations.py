"""activations.cu, the file of all activation functions: each room's `cuda.py` names its kernels."""

from __future__ import annotations

from pathlib import Path

from ...backends.cuda.source import Source
from .elementwise import VARIANTS

SOURCE = Source(Path(__file__).with_name("activations.cu"), VARIANTS)
