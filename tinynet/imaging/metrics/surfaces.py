"""How far apart the surfaces of two segmentations are, in millimeters."""

from collections.abc import Sequence

import numpy as np

from .label_images import _foregrounds


def surface_distance(
    true_mask: np.ndarray, pred_mask: np.ndarray, spacing: Sequence[float], percentile: float = 95
) -> float:
    """The percentile of the distances between two surfaces, in the unit of `spacing`; 100 is the Hausdorff distance.

    true_mask, pred_mask: bool or integer arrays of one shape, (H, W) or (D, H, W). spacing: the side of a pixel or
    voxel along each axis: a thick slice counts with its thickness. The distances are measured from every surface voxel
    of each mask to the nearest surface voxel of the other. 0 if both masks are empty, infinite if one is.
    Raises ValueError if spacing does not hold a positive number for each axis.
    """
    from scipy import ndimage

    true_mask, pred_mask = _foregrounds("surface_distance", true_mask, pred_mask)
    if len(spacing) != true_mask.ndim or not all(step > 0 for step in spacing):
        raise ValueError(
            f"surface_distance: spacing is {tuple(spacing)}; {true_mask.ndim} positive numbers are needed, one for "
            "each axis of the masks"
        )
    if not (true_mask.any() and pred_mask.any()):
        return 0.0 if true_mask.any() == pred_mask.any() else float("inf")
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (true_mask, pred_mask)]
    away = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return float(np.percentile(np.concatenate([away[1][surfaces[0]], away[0][surfaces[1]]]), percentile))
