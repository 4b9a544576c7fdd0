"""The MNI templates: the average head of 152 people in several contrasts, which the package nilearn brings with it.

Fonov et al., Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54, 2011 (ICBM 152, nonlinear,
symmetric, 2009a). nilearn itself is not imported, because that takes seconds: only the file in its folder is read.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from ..errors import DataError, how_to_install
from .volumes import read_volume

CONTRASTS = ("t1", "gm", "wm")
FILE = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
TEMPLATE_SHAPE = (189, 233, 197)


def mni_template(contrast: str = "t1") -> np.ndarray:
    """One contrast of the MNI head: float32 (189, 233, 197), 0 to 255, voxels of 1 mm.

    The axes (z, y, x) go up, to the face and to the right. contrast: 't1' (the T1-weighted image without the skull),
    'gm' or 'wm' (the share of gray or of white matter, 255 for all). The three fit voxel by voxel. Raises ValueError
    for another contrast, and DataError if nilearn or nibabel is not installed or the file is not the expected one.
    """
    if contrast not in CONTRASTS:
        raise ValueError(f"mni_template: contrast is {contrast!r}; it must be one of {', '.join(CONTRASTS)}")
    package = importlib.util.find_spec("nilearn")
    if package is None or package.origin is None:
        raise DataError(f"mni_template: the template is part of nilearn: {how_to_install('examples')}")
    return read_template(Path(package.origin).parent / FILE.format(contrast))


def read_template(path: Path) -> np.ndarray:
    """Read a template and check its shape and voxels. Raises DataError as `mni_template`."""
    volume = read_volume(path)
    if volume.image.shape != TEMPLATE_SHAPE or not np.allclose(volume.spacing, 1):
        raise DataError(
            f"{path}: shape {volume.image.shape}, voxels of {volume.spacing} mm; {TEMPLATE_SHAPE} voxels of 1 mm are "
            "needed"
        )
    low, high = float(volume.image.min()), float(volume.image.max())
    if low < 0 or high > 255:
        raise DataError(f"{path}: values from {low:g} to {high:g}; 0 to 255 are needed")
    return volume.image


def synthetic_template(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A head of ellipsoids in place of the real one: {"t1": ..., "gm": ...}, each as `mni_template` returns it.

    A cortex with folds surrounds white matter; inside are two ventricles and four nuclei of gray matter at random
    places.
    """
    sides = (np.linspace(-1, 1, n, dtype=np.float32) for n in TEMPLATE_SHAPE)
    z, y, x = np.meshgrid(*sides, indexing="ij", sparse=True)

    def inside(center: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        (cx, cy, cz), (rx, ry, rz) = center, radii
        return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1)

    folds = 0.05 * np.sin(14 * x + rng.uniform(0, 6)) * np.sin(11 * y + 2 * z + rng.uniform(0, 6))
    distance = (x / 0.72) ** 2 + (y / 0.8) ** 2 + (z / 0.85) ** 2
    brain, white = distance < 1, distance < 0.72 + 2.5 * folds
    for _ in range(4):
        center = (rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4))
        white &= ~inside(center, (0.1, 0.18, 0.3))
    liquid = inside((-0.12, 0.05, 0.1), (0.07, 0.3, 0.35)) | inside((0.12, -0.02, 0.1), (0.07, 0.38, 0.35))
    gray = brain & ~white & ~liquid
    t1 = np.where(liquid, 60, np.where(gray, 150, 220)) * brain
    return {"t1": t1.astype(np.float32), "gm": 255 * gray.astype(np.float32)}
