"""Photographs of the retina with traced vessels: CHASE_DB1, and drawings that can replace it.

CHASE_DB1 holds both eyes of 14 children, each 999 x 960 pixels, with the vessels as two observers traced them
(Fraz et al., An ensemble classification-based approach applied to retinal blood vessel segmentation, IEEE Transactions
on Biomedical Engineering 59, 2012). The official archive has all files in one folder and no masks of the field of view.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from ..errors import DataError
from .class_folders import find_archive
from .eight_bits import to_rgb8
from .files import ImageFiles

CHASE = "chase_db1/CHASEDB1.zip"
ADDRESS = "https://blogs.kingston.ac.uk/retinal/chasedb1 (CHASEDB1.zip)"  # a web page, which `fetch` cannot use
# Children. As in most papers, the first 20 images are for training and the last 8 for tests.
HELD_OUT = ("11", "12", "13", "14")
NAME = re.compile(r"Image_(\d+)([LR])", re.IGNORECASE)
DARK = 20  # outside the field of view no channel of a photograph is brighter (JPEG leaves some noise there)


@dataclass
class Retina:
    """A photograph of one eye and its vessels.

    id: child and eye, such as "01L". image: uint8 (H, W, 3). vessels, second: bool (H, W), as the first and the second
    observer traced them; second is None if there is none. field: bool (H, W), the field of view; scores count only it.
    """

    id: str
    image: np.ndarray
    vessels: np.ndarray
    second: np.ndarray | None
    field: np.ndarray

    @property
    def child(self) -> str:
        return self.id[:-1]


def read_vessels(given: str | Path | None = None, limit: int | None = None) -> list[Retina]:
    """The photographs of CHASE_DB1, sorted by id.

    given: the archive, a folder with it, or a folder with its files; the default is what `data_path` finds. limit: read
    only the first so many. A missing mask is computed by `field_of_view`; a missing tracing of the second observer is
    None. Tracings may be gray: a vessel is where they are at least 128, or 1 if no pixel is larger.

    Raises DataError, which names the file, if nothing is found, there are no photographs, a tracing of the first
    observer is missing, two files are the same part of one eye, files of one eye differ in size, the field of view is
    empty, or a file cannot be read.
    """
    path = find_archive(CHASE, ADDRESS, given)
    if (path / Path(CHASE).name).is_file():
        path = path / Path(CHASE).name
    with ImageFiles(path) as files:
        parts = _by_eye(files)
        if not parts:
            raise DataError(
                f"{path}: no photographs; need files such as Image_01L.jpg and Image_01L_1stHO.png; get {CHASE} from "
                f"{ADDRESS}"
            )
        eyes = sorted(parts)[:limit]
        return [_read_eye(files, eye, parts[eye]) for eye in tqdm(eyes, "retinas", leave=False, disable=None)]


def _by_eye(files: ImageFiles) -> dict[str, dict[str, str]]:
    """{"01L": {"image": name, "first": name, "second": name, "mask": name}}, with the files that are there."""
    parts: dict[str, dict[str, str]] = {}
    for name in files.names:
        folder, _, base = name.rpartition("/")
        match = NAME.match(base)
        if match:
            kind = "first" if "1stHO" in base else "second" if "2ndHO" in base else "image"
            kind = "mask" if folder.endswith("mask") or "mask" in base else kind
            eye = parts.setdefault(f"{int(match[1]):02d}{match[2].upper()}", {})
            if kind in eye:
                raise DataError(f"{files.where(name)}: {eye[kind]} is the same part of this eye; remove one of them")
            eye[kind] = name
    return {eye: names for eye, names in parts.items() if "image" in names}


def _read_eye(files: ImageFiles, eye: str, names: dict[str, str]) -> Retina:
    if "first" not in names:
        raise DataError(f"{files.where(names['image'])}: the tracing of the first observer, *_1stHO.png, is missing")
    image = to_rgb8(files.read_array(names["image"]), files.where(names["image"]))
    masks = {}
    for kind in ("first", "second", "mask"):
        if kind in names:
            gray = to_rgb8(files.read_array(names[kind]), files.where(names[kind])).max(axis=2)
            if gray.shape != image.shape[:2]:
                raise DataError(
                    f"{files.where(names[kind])}: {gray.shape[0]} x {gray.shape[1]} pixels; the photograph has "
                    f"{image.shape[0]} x {image.shape[1]}"
                )
            masks[kind] = gray >= (128 if gray.max() > 1 else 1)  # some programs save masks as 0 and 1
    field = masks["mask"] if "mask" in masks else field_of_view(image)
    if not field.any():
        where = files.where(names.get("mask", names["image"]))
        raise DataError(f"{where}: the field of view is empty; need a photograph brighter than {DARK}, or its mask")
    return Retina(eye, image, masks["first"], masks.get("second"), field)


def field_of_view(image: np.ndarray) -> np.ndarray:
    """Where the camera saw the eye, bool (H, W): the largest bright region of uint8 (H, W, 3), without its holes."""
    bright = ndimage.binary_opening(image.max(axis=2) > DARK, iterations=2)
    regions, count = ndimage.label(bright)
    if count == 0:
        return np.zeros(bright.shape, dtype=bool)
    largest = 1 + np.argmax(np.bincount(regions.ravel())[1:])
    return ndimage.binary_fill_holes(regions == largest)


def split_children(retinas: Sequence[Retina]) -> tuple[list[Retina], list[Retina]]:
    """(training, held out): both eyes of a child are in the same part. Held out are the children 11 to 14."""
    held_out = [retina for retina in retinas if retina.child in HELD_OUT]
    return [retina for retina in retinas if retina.child not in HELD_OUT], held_out


# ---------------------------------------------------------------------------------------- drawings
def synthetic_retina(rng: np.random.Generator, size: int = 128) -> Retina:
    """A drawing for trying out a program: dark vessels, which branch and become thinner, on a round orange field.

    The second observer misses the thinnest vessels. Results on these drawings have no medical meaning.
    """
    rows, columns = np.mgrid[0:size, 0:size]
    field = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (0.46 * size) ** 2
    width = np.zeros((size, size))
    start = np.array([size * rng.uniform(0.4, 0.6), size * 0.25])
    for angle in rng.uniform(-1.3, 1.3, 4):
        _draw_vessel(width, start, angle, size / 35, rng)
    light = 0.75 + 0.25 * np.exp(-((rows - size / 2) ** 2 + (columns - size * rng.uniform(0.3, 0.7)) ** 2) / size**2)
    light = light * (1 - 0.35 * (width > 0)) + rng.normal(0, 0.03, (size, size))
    image = np.clip(light[..., None] * (200, 110, 50) * field[..., None], 0, 255).astype(np.uint8)
    vessels = (width > 0) & field
    return Retina("00L", image, vessels, vessels & (width > 1.5), field)


def _draw_vessel(width: np.ndarray, at: np.ndarray, angle: float, thickness: float, rng: np.random.Generator) -> None:
    """Draw one vessel and its branches into `width`, which keeps the thickness in pixels at each of their pixels."""
    while thickness > 0.7 and at.min() >= 0 and at.max() < len(width):
        first = np.maximum(np.floor(at - thickness).astype(int), 0)
        window = width[first[0] : first[0] + 2 * int(thickness) + 3, first[1] : first[1] + 2 * int(thickness) + 3]
        rows, columns = np.indices(window.shape)
        near = (rows + first[0] - at[0]) ** 2 + (columns + first[1] - at[1]) ** 2 <= (thickness / 2) ** 2 + 0.5
        window[near] = np.maximum(window[near], thickness)
        angle += rng.normal(0, 0.15)
        at = at + 1.5 * np.array([np.sin(angle), np.cos(angle)])
        if rng.random() < 0.03:
            _draw_vessel(width, at, angle + rng.choice((-0.7, 0.7)), 0.7 * thickness, rng)
            thickness *= 0.9
