"""Gray images in folders that are named after their classes: `{train,test}/{class}/name.jpg`, in a zip or a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import DataError
from .download import data_path
from .eight_bits import to_rgb8
from .files import ImageFiles
from .mnist import ImageSet


def find_archive(name: str, address: str, given: str | Path | None) -> Path:
    """Where the file `name` lies, as `data_path`; raises DataError, which says where to get it, if nowhere.

    address: a web page with a form, which `fetch` cannot use.
    """
    path = data_path(name, given)
    if path is None:
        raise DataError(
            f"{name} was not found in TINYNET_DATA or in the cache; get it from {address} and name it with --data"
        )
    return path


def read_class_folders(
    path: Path, part: str, folders: Sequence[str], size: int, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(images, labels, stems): uint8 (N, size, size, 1), int64 (N,), the file names without folder and suffix.

    folders: the name of the folder of each class, below the folder `part`. Averaging squeezes the images to squares.
    limit: at most so many images of each class, the first ones by name. Raises DataError, which names the file, if a
    class has no images or an image cannot be read.
    """
    images, labels, stems = [], [], []
    with ImageFiles(path) as files:
        for label, folder in enumerate(folders):
            found = [m for m in files.names if PurePosixPath(m).parts[-3:-1] == (part, folder)]
            # Some archives hold every file twice, in folder/ and in folder/folder/.
            members = list({PurePosixPath(m).name: m for m in found}.values())[:limit]
            if not members:
                raise DataError(f"{path}: no images in {part}/{folder}; need a folder for each class in {part}/")
            for member in tqdm(members, f"{part}/{folder}", leave=False, disable=None):
                image = Image.fromarray(to_rgb8(files.read_array(member), files.where(member))).convert("L")
                images.append(np.asarray(image.resize((size, size), Image.Resampling.BOX)))
                labels.append(label)
                stems.append(PurePosixPath(member).stem)
    return np.stack(images)[..., None], np.array(labels, dtype=np.int64), stems


def patients_of(stems: Sequence[str], pattern: re.Pattern[str]) -> np.ndarray:
    """The patient's part of each file name, group 1 of the pattern; the whole name if its form is not known: (N,)."""
    matches = [pattern.match(stem) for stem in stems]
    return np.array([match.group(1) if match else stem for match, stem in zip(matches, stems)])


Images = tuple[ImageSet, np.ndarray]  # images of a part, and the patient of each


def real_or_drawings(
    name: str,
    read: Callable[[str], Images],
    draw: Callable[[int, np.random.Generator], Images],
    counts: Mapping[str, int],
    given: str | Path | None,
    seed: int,
    synthetic: bool,
) -> tuple[dict[str, Images], str]:
    """({part: (images, patients)}, their description): real images if they are found, else drawings.

    name: of the images, plural. read(part), draw(count, rng): the two sources. counts: of the drawings of each part.
    given: what the user named; then drawings do not replace it. synthetic: do not look for other real images. Raises
    DataError if what `given` names cannot be read.
    """
    reason = "asked for"
    if given is not None or not synthetic:
        try:
            parts = {part: read(part) for part in counts}
            return parts, f"{name} ({_sizes(parts)})"
        except DataError as error:
            if given is not None:
                raise
            reason = f"because {error}"
    generators = [np.random.default_rng((seed, number)) for number in range(len(counts))]
    parts = {part: draw(counts[part], rng) for part, rng in zip(counts, generators)}
    return parts, f"drawings in place of {name} ({_sizes(parts)}), {reason}"


def _sizes(parts: Mapping[str, Images]) -> str:
    return " + ".join(f"{len(images):,}" for images, _ in parts.values())
