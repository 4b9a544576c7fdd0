"""The results of a project as one zip archive: what `tinynet nuclei predict` writes, for the corrected nuclei."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from ...data import to_rgb8
from ...data.microscopy import Plane
from ...errors import DataError
from ...imaging.instances import drop_small
from ..outputs import Result, Tables
from ..outputs.results import RECORDS
from .project import StoredImage

MAX_NAME_BYTES = 120  # without the suffix: some programs still have trouble with long paths
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows, these are devices
PACKED = (".zip", ".png", ".tif")  # already compressed


def write_zip(file: BinaryIO, images: Sequence[StoredImage]) -> None:
    """Write an archive of all images in which nuclei were searched or drawn to an open file.

    Raises DataError if there is none.
    """
    chosen = [image for image in images if image.entry.searched or image.entry.nuclei]
    if not chosen:
        raise DataError("there is nothing to export: find nuclei first")
    with tempfile.TemporaryDirectory() as folder:
        with Tables(folder) as tables:
            for image, name in zip(chosen, file_names(image.entry.name for image in chosen)):
                tables.add(result_of(image, name))
        with zipfile.ZipFile(file, "w") as archive:
            for path in sorted(Path(folder).rglob("*")):
                inside = path.relative_to(folder)
                if path.is_file() and inside.parts[0] != RECORDS:
                    method = zipfile.ZIP_STORED if path.suffix in PACKED else zipfile.ZIP_DEFLATED
                    archive.write(path, inside.as_posix(), method)


def result_of(image: StoredImage, name: str) -> Result:
    """What the files of one image are made of. The nuclei are numbered 1, 2, ... without gaps."""
    with image.lock:
        pixels, entry = image.pixels(), image.entry
        labels = drop_small(image.labels(), 1)
        plane = Plane(name, pixels, image.channels(pixels), entry.pixel_size, entry.name)
    return Result(plane, to_rgb8(pixels, entry.name), labels, entry.doubt)


def file_names(names: Iterable[str]) -> list[str]:
    """A name for the files of each image, which every file system takes and which is not used twice."""
    taken: set[str] = set()
    result = []
    for name in names:
        plain = re.sub(r"[^\w ()+=,.-]", "_", name).strip(" .") or "image"
        plain = f"_{plain}" if RESERVED.fullmatch(plain) else plain
        plain = plain.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(" .")
        number, unique = 1, plain
        while unique.casefold() in taken:
            number += 1
            unique = f"{plain}_{number}"
        taken.add(unique.casefold())
        result.append(unique)
    return result
