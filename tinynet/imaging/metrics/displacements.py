"""Scores of displacement fields: does a warp fold the image?"""

import numpy as np


def jacobian_determinant(displacement: np.ndarray) -> np.ndarray:
    """By which factor the map p -> p + displacement[p] changes volume (in 2-D: area) at each pixel: float64.

    1: nothing changes; 2: what lies around p is twice as large in the image that `tn.warp` reads; 0 or less: the map
    folds, so some places of that image are read several times, in part mirrored.

    displacement: (D, H, W, 3) or (H, W, 2), in pixels along the axes in their order, as for `tn.warp`. Returns the
    determinant of I + d displacement / dp, (D, H, W) or (H, W). The derivatives are central differences, one-sided at
    the border, so a field that alternates from pixel to pixel hides its folds.

    Raises ValueError for another shape or an axis with fewer than 2 pixels.
    """
    field = np.asarray(displacement, dtype=np.float64)
    axes = field.ndim - 1
    if axes not in (2, 3) or field.shape[-1] != axes or min(field.shape[:-1]) < 2:
        raise ValueError(
            f"jacobian_determinant: displacement has shape {field.shape}; (H, W, 2) or (D, H, W, 3) with at least "
            "2 pixels along each axis is needed"
        )
    # derivatives[..., a, b]: of displacement a along axis b
    derivatives = np.stack([np.gradient(field, axis=axis) for axis in range(axes)], axis=-1)
    return np.linalg.det(derivatives + np.eye(axes))


def folded_share(displacement: np.ndarray) -> float:
    """The share of pixels where the map p -> p + displacement[p] folds: its Jacobian determinant is 0 or less.

    Arguments and errors as in `jacobian_determinant`. Source: Balakrishnan et al., VoxelMorph, IEEE TMI 38(8), 2019,
    section V.
    """
    return float(np.mean(jacobian_determinant(displacement) <= 0))
