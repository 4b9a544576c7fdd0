"""An uploaded file as the planes that it holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...data.files import IMAGE_SUFFIXES
from ...data.microscopy import WHERE_TO_CHOOSE, Plane, read_planes
from ...errors import DataError

STEM = "upload"  # of the temporary file: no part of the given name becomes a path
WHERE_ON_THE_PAGE = "in “Channels, slices”, and choose the file again"


def read_upload(data: bytes, name: str, channel: int | str | None = None, project: bool = False) -> Iterator[Plane]:
    """The planes of a file, with names and errors that begin with the name that the person gave it.

    channel, project: which channel shows the nuclei, and whether the slices of a stack are projected, as `read_planes`
    takes them. Raises DataError if the file cannot be read.
    """
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{name}: not an image by its name; need one of {', '.join(IMAGE_SUFFIXES)}")
    stem = name[: -len(suffix)] or "image"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, STEM + suffix)
        path.write_bytes(data)
        try:
            for plane in read_planes(path, channel, "max" if project else None):
                yield replace(plane, name=stem + plane.name.removeprefix(STEM), source=name)
        except DataError as error:
            sentence = str(error).replace(str(path), name).replace(WHERE_TO_CHOOSE, WHERE_ON_THE_PAGE)
            raise DataError(sentence) from error
