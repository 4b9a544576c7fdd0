"""Knee X-rays with grades of osteoarthritis (Chen et al., Fully automatic knee osteoarthritis severity grading using
deep neural networks with a novel ordinal loss, Computerized Medical Imaging and Graphics 75, 2019; images of the
Osteoarthritis Initiative), and simple drawings that can replace them.

The files are `{train,val,test}/{0..4}/9001695L.jpg`, in a zip archive or a folder: the grade of Kellgren and Lawrence
is the folder's name, the seven digits are the patient, and L or R is the side.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from .class_folders import find_archive, patients_of, read_class_folders, real_or_drawings
from .mnist import ImageSet

KNEES = "knee_oa/knee_oa_112.zip"
ADDRESS = "https://data.mendeley.com/datasets/56rmx5bjcr (kneeKL224.zip)"  # a web page, which `fetch` cannot use
PARTS = ("train", "val", "test")
GRADES = ("0: none", "1: doubtful", "2: mild", "3: moderate", "4: severe")
PATIENT = re.compile(r"(\d{7})[LR]")


def read_knees(
    part: str, given: str | Path | None = None, size: int = 112, limit: int | None = None
) -> tuple[ImageSet, np.ndarray]:
    """(X-rays, patients) of the part "train", "val" or "test". The class is the grade, 0 to 4.

    images: (N, size, size, 1), gray, one joint each; averaging brings them to this size. patients: a word for each
    image, (N,), the same for both knees of one patient. limit: at most so many images of each grade, the first ones.
    given: the archive, its folder, or a data folder with it; the default is what `data_path` finds. Raises ValueError
    for another part, and DataError if nothing is found, a grade has no images, or an image cannot be read.
    """
    if part not in PARTS:
        raise ValueError(f"read_knees: part is {part!r}; it must be one of {', '.join(PARTS)}")
    path = find_archive(KNEES, ADDRESS, given)
    images, labels, stems = read_class_folders(path, part, [grade[0] for grade in GRADES], size, limit)
    return ImageSet(images, labels, GRADES), patients_of(stems, PATIENT)


def knees_or_synthetic(
    given: str | Path | None,
    seed: int,
    counts: tuple[int, int, int] = (100, 50, 50),
    size: int = 112,
    synthetic: bool = False,
) -> tuple[dict[str, tuple[ImageSet, np.ndarray]], str]:
    """({"train": (X-rays, patients), "val": ..., "test": ...}, their description): real ones if found, else drawings.

    given: as for `read_knees`. seed, counts: of the drawings, counts for train, val and test. size: height and width,
    pixels. synthetic: do not look for the X-rays unless `given` names them. Raises DataError if what `given` names
    cannot be read.
    """
    return real_or_drawings(
        "knee X-rays",
        lambda part: read_knees(part, given, size),
        lambda count, rng: synthetic_knees(count, rng, size),
        dict(zip(PARTS, counts)),
        given,
        seed,
        synthetic,
    )


def synthetic_knees(count: int, rng: np.random.Generator, size: int = 112) -> tuple[ImageSet, np.ndarray]:
    """Drawings for trying out a program: two bones, whose gap is narrower and whose edges are whiter in higher grades.

    Returns the same types as `read_knees`; two drawings in a row are of one patient. Results on these drawings have no
    medical meaning.
    """
    rows, columns = np.mgrid[0:size, 0:size] / size
    images, labels = [], np.arange(count) % len(GRADES)
    for grade in labels:
        middle, tilt = rng.normal(0.5, 0.03), rng.normal(0, 0.05)
        gap = 0.09 - 0.018 * grade + rng.normal(0, 0.006)
        distance = np.abs(rows - middle - tilt * (columns - 0.5)) - gap / 2  # from the gap's edge, into the bone
        width = 0.38 + 0.03 * np.exp(-(((rows - middle) / 0.15) ** 2))
        bone = 1 / (1 + np.exp(-distance / 0.01)) / (1 + np.exp((np.abs(columns - 0.5) - width) / 0.02))
        edge = np.exp(-((distance / 0.02) ** 2)) * (distance > 0)
        image = 0.15 + bone * (0.45 + 0.08 * grade * edge) + rng.normal(0, 0.04, (size, size))
        images.append(np.clip(np.rint(255 * rng.uniform(0.8, 1.2) * image), 0, 255).astype(np.uint8))
    patients = np.array([f"drawing {i // 2}" for i in range(count)])
    return ImageSet(np.stack(images)[..., None], labels.astype(np.int64), GRADES), patients
