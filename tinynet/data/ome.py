"""OME-XML, which an OME-TIFF holds in its first page: axes, names of channels, pixel size, the page of each plane.

tifffile reads it too, but it fills planes that are missing with zeros, and opens other files that the XML names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..errors import DataError
from .pixel_size import micrometers, square

AXES = "TZC"


@dataclass
class OmeImage:
    """One image of an OME-TIFF. pages (T, Z, C): the number of the page of each plane."""

    pages: np.ndarray
    channels: list[str]
    samples: int
    size: tuple[int, int]
    pixel_size: float | None


def parse_ome(xml: str, page_count: int, file_name: str, where: str) -> list[OmeImage]:
    """The images whose planes are pages of this file. Raises `DataError` if the XML is damaged or does not fit it."""
    if "<!DOCTYPE" in xml:
        raise DataError(f"{where}: refused: its OME-XML defines entities, which can fill any memory")
    try:
        root = ElementTree.fromstring(xml)
        pixels = [element for element in root.iter() if _tag(element) == "Pixels"]
        images = [_image(each, root.get("UUID"), page_count, file_name, where) for each in pixels]
    except (ElementTree.ParseError, KeyError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: its OME-XML is corrupt ({type(error).__name__}: {error}); save it once more"
        ) from error
    found = [image for image in images if image is not None]
    if images and not found:
        raise DataError(f"{where}: its OME-XML names no page of this file; read the other files of its set")
    return found


def _tag(element: Any) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: Any, tag: str) -> list[Any]:
    return [child for child in element if _tag(child) == tag]


def _image(pixels: Any, uuid: str | None, page_count: int, file_name: str, where: str) -> OmeImage | None:
    channels = _children(pixels, "Channel")
    samples = {int(channel.get("SamplesPerPixel", 1)) for channel in channels} or {1}
    if len(samples) > 1 or min(samples) < 1:
        raise ValueError(f"channels of {sorted(samples)} samples in one image")
    (per_pixel,) = samples
    sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "XYZCT"}
    sizes["C"] //= per_pixel
    planes = sizes["T"] * sizes["Z"] * sizes["C"]
    if min(sizes.values()) < 1 or planes > page_count + 10**6:
        raise ValueError(f"sizes {sizes}")
    order = pixels.attrib["DimensionOrder"][2:]
    if sorted(order) != ["C", "T", "Z"]:
        raise ValueError(f"DimensionOrder {pixels.attrib['DimensionOrder']!r}")
    pages, several_files = _pages(pixels, sizes, order, uuid, file_name)
    if (pages < 0).all() and several_files:
        return None
    names = [channel.get("Name") or "" for channel in channels]
    names = names if len(names) == sizes["C"] else [""] * sizes["C"]
    if several_files:  # those planes that this file holds
        held = [np.flatnonzero((pages >= 0).any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        pages, names = pages[np.ix_(*held)], [names[i] for i in held[2]]
    missing = np.count_nonzero((pages < 0) | (pages >= page_count))
    if missing:
        raise DataError(
            f"{where}: its OME-XML describes {pages.size} planes, {missing} of them are not in the file: truncated, or "
            f"one of several files; save it as one whole file"
        )
    x, y = (
        micrometers(float(pixels.get(f"PhysicalSize{axis}", "nan")), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "XY"
    )
    return OmeImage(pages, names, per_pixel, (sizes["Y"], sizes["X"]), square(x, y, where))


def _pages(pixels: Any, sizes: dict[str, int], order: str, uuid: str | None, name: str) -> tuple[np.ndarray, bool]:
    """(pages (T, Z, C), True if other files hold planes too). -1 marks a plane without a page in this file."""
    slowest_first = order[::-1]
    shape = tuple(sizes[axis] for axis in slowest_first)
    pages = np.full(math.prod(shape), -1, np.int64)
    blocks = _children(pixels, "TiffData")
    files = [_file_of(block) for block in blocks]
    mine = [file is None or (uuid is not None and file[0] == uuid) or file[1].lower() == name.lower() for file in files]
    if len(set(files)) == 1:  # a file that was renamed
        mine = [True] * len(files)
    for block, is_mine in zip(blocks, mine):
        if not is_mine:
            continue
        first = np.ravel_multi_index([int(block.get(f"First{axis}", 0)) for axis in slowest_first], shape)
        ifd = int(block.get("IFD", 0))
        count = int(block.get("PlaneCount", 1 if "IFD" in block.attrib else pages.size - first))
        if ifd < 0 or count < 0 or first + count > pages.size:
            raise ValueError(f"TiffData of {count} planes, from plane {first} of {pages.size} and page {ifd}")
        pages[first : first + count] = np.arange(ifd, ifd + count)
    by_axis = pages.reshape(shape).transpose([slowest_first.index(axis) for axis in AXES])
    return by_axis, not all(mine)


def _file_of(block: Any) -> tuple[str, str] | None:
    """(UUID, name) of the file that a block of planes lies in, None if it does not say."""
    uuids = _children(block, "UUID")
    return ((uuids[0].text or "").strip(), uuids[0].get("FileName") or "") if uuids else None
