"""max_pool3d: the pooling of images, twice."""

from __future__ import annotations

from ...engine.tensor import Tensor
from .._shared.geometry import Triple
from .._shared.pooling import over_volumes
from .op import max_pool2d


def max_pool3d(
    x: Tensor, size: int | Triple = 2, stride: int | Triple | None = None, padding: int | Triple = 0
) -> Tensor:
    """The largest value of each window of a volume, channels last.

    x: (N, D, H, W, C), float. size: of the window. stride: between windows, `size` if None. padding: voxels on each
    side, less than size. Each is a number or (z, y, x). Returns (N, OD, OH, OW, C), sizes as in `max_pool2d`.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    """
    return over_volumes("max_pool3d", max_pool2d, x, size, stride, padding)
