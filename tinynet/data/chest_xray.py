"""Chest X-rays of children with and without pneumonia (Kermany et al., Identifying medical diagnoses and treatable
diseases by image-based deep learning, Cell 172, 2018), and simple drawings that can replace them.

The files are `chest_xray/{train,test}/{NORMAL,PNEUMONIA}/*.jpeg`, in a zip archive or a folder.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from .class_folders import find_archive, patients_of, read_class_folders, real_or_drawings
from .mnist import ImageSet

CHEST = "chest_xray/chest_xray.zip"
ADDRESS = "https://data.mendeley.com/datasets/rscbjbr9sj (ChestXRay2017.zip)"  # a web page, which `fetch` cannot use
PARTS = ("train", "test")
CLASSES = ("normal", "pneumonia")
# person12_bacteria_46.jpeg, IM-0117-0001.jpeg, NORMAL2-IM-0381-0001-0002.jpeg: the patient, then numbers of the image.
PATIENT = re.compile(r"(person\d+|(?:NORMAL\d*-)?IM-\d+)")


def read_chest_xrays(part: str, given: str | Path | None = None, size: int = 112) -> tuple[ImageSet, np.ndarray]:
    """(X-rays, patients) of the part "train" or "test". Class 1 is pneumonia.

    images: (N, size, size, 1), gray; averaging squeezes them to squares. patients: a word for each image, (N,), the
    same for all images of one patient, so that a split can keep them together. given: the archive, its folder, or a
    data folder with it; the default is what `data_path` finds. Raises DataError if nothing is found, a class has no
    images, or an image cannot be read.
    """
    if part not in PARTS:
        raise ValueError(f"read_chest_xrays: part is {part!r}; it must be 'train' or 'test'")
    path = find_archive(CHEST, ADDRESS, given)
    images, labels, stems = read_class_folders(path, part, [name.upper() for name in CLASSES], size)
    return ImageSet(images, labels, CLASSES), patients_of(stems, PATIENT)


def chest_xrays_or_synthetic(
    given: str | Path | None,
    seed: int,
    counts: tuple[int, int] = (100, 100),
    size: int = 112,
    synthetic: bool = False,
) -> tuple[dict[str, tuple[ImageSet, np.ndarray]], str]:
    """({"train": (X-rays, patients), "test": ...}, their description): real ones if found, else drawings.

    given: as for `read_chest_xrays`. seed, counts: of the drawings, counts for train and test. size: height and width,
    pixels. synthetic: do not look for the X-rays unless `given` names them. Raises DataError if what `given` names
    cannot be read.
    """
    return real_or_drawings(
        "chest X-rays",
        lambda part: read_chest_xrays(part, given, size),
        lambda count, rng: synthetic_chest_xrays(count, rng, size),
        dict(zip(PARTS, counts)),
        given,
        seed,
        synthetic,
    )


def synthetic_chest_xrays(count: int, rng: np.random.Generator, size: int = 112) -> tuple[ImageSet, np.ndarray]:
    """Drawings for trying out a program: dark lungs in a gray chest; every other one has white patches (pneumonia).

    Returns the same types as `read_chest_xrays`; every drawing has a patient of its own. Results on these drawings have
    no medical meaning.
    """
    rows, columns = np.mgrid[0:size, 0:size] / size

    def blob(row: float, column: float, height: float, width: float) -> np.ndarray:
        return np.exp(-((((rows - row) / height) ** 2 + ((columns - column) / width) ** 2) ** 2))

    images, labels = [], np.arange(count) % 2
    for label in labels:
        row, offset = rng.normal(0.5, 0.03), rng.normal(0.22, 0.015)
        chest = 0.7 * blob(0.55, 0.5, 0.6, 0.5)
        chest -= 0.45 * (blob(row, 0.5 - offset, 0.3, 0.13) + blob(row, 0.5 + offset, 0.3, 0.13))
        for _ in range(3 * label):
            side = rng.choice((-1, 1))
            chest += 0.35 * blob(rng.normal(row, 0.12), 0.5 + side * rng.normal(offset, 0.03), 0.09, 0.08)
        chest = rng.uniform(0.8, 1.2) * chest + rng.normal(0, 0.03, (size, size))
        images.append(np.clip(np.rint(255 * chest), 0, 255).astype(np.uint8))
    patients = np.array([f"drawing {i}" for i in range(count)])
    return ImageSet(np.stack(images)[..., None], labels.astype(np.int64), CLASSES), patients
