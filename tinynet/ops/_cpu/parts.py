"""Arrays as the convolution kernels take them: in one piece, contiguous."""

from __future__ import annotations

import numpy as np


def whole(x: np.ndarray | tuple[np.ndarray, ...]) -> np.ndarray:
    """x as one contiguous array; the channels of a tuple of arrays follow each other. Copies only if it has to."""
    return np.ascontiguousarray(np.concatenate(x, axis=-1) if isinstance(x, tuple) else x)
