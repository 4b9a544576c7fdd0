"""What a file of images holds: stacks of planes along the axes time, depth and others, each plane with its channels.

A plane is decoded when it is asked for. Numbers of planes and channels start at 1, as microscopes' programs show them.
"""

from __future__ import annotations

import copy
import logging
import math
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO

import numpy as np

from ..errors import DataError
from . import pillow_images
from .ome import parse_ome
from .pixel_size import pixel_size_of_tags
from .tiff_pages import TIFF_STARTS, channels_of, is_color, read_page

MAX_CHANNELS = 8  # an array (H, W, C) of up to so many channels is often written as H planes of W x C pixels
DESCRIPTION = 270  # a tag of TIFF
GRAY = "gray"  # the name of an only channel if the file does not name it
PAGE = "p"  # the axis of pages whose meaning the file does not say
AXIS_NAMES = {"I": PAGE, "Q": PAGE, "P": "pos"}  # tifffile's letters; other axes keep theirs, in lower case


@dataclass
class Stack:
    """One image of a file.

    axes: (name, length) of each axis with two or more planes, such as ("t", 3) or ("z", 9); channels: their names,
    if they have none "1", "2", ..., or "gray" of a single one; color: planes are (H, W, 3). `load(position, channel)`
    decodes one plane, (H, W) or (H, W, 3) of the file's dtype: position has an index for each axis, channel is an index
    too, both from 0.
    """

    axes: list[tuple[str, int]]
    channels: list[str]
    color: bool
    pixel_size: float | None
    load: Callable[[tuple[int, ...], int], np.ndarray]


@contextmanager
def open_stacks(
    file: BinaryIO, where: str, stored: bool = False, palette_as_index: bool = False
) -> Iterator[list[Stack]]:
    """The stacks of an open file, for as long as the `with` block lasts. `where` names the file in errors.

    `stored`: prefer numbers as stored where their display is ambiguous. Raises `DataError` if the file is damaged.
    """
    with ExitStack() as opened:
        with _damage_named(where):
            start = file.read(4)
            file.seek(0)
            if start in TIFF_STARTS:
                import tifffile

                tiff = opened.enter_context(tifffile.TiffFile(file))
                stacks = [_lazily(layout, where, stored, palette_as_index) for layout in _layouts(tiff, where)]
            else:
                stacks = [_single(pillow_images.read_image(file.read(), where, palette_as_index))]
        yield stacks


@contextmanager
def _damage_named(where: str) -> Iterator[None]:
    """tifffile and Pillow raise many kinds of errors on damaged files; a `DataError` names the file.

    tifffile also logs what it guesses on damaged files. A `DataError` says it, so the log would only be noise.
    """
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}: not a readable image, corrupt or truncated ({reason})") from error
    finally:
        logger.setLevel(level)


def _single(image: np.ndarray) -> Stack:
    if image.ndim == 3:  # gray + alpha or RGB + alpha
        image = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, 0]
    return Stack([], [GRAY], image.ndim == 3, None, lambda position, channel: image)


# --- TIFF ---------------------------------------------------------------------------------------------------


@dataclass
class _Layout:
    """pages: an array of the axes and the channels, of `tifffile.TiffPage`; samples: channels in each page."""

    axes: list[str]
    pages: np.ndarray
    samples: int
    names: list[str]
    pixel_size: float | None


def _lazily(layout: _Layout, where: str, stored: bool, palette_as_index: bool) -> Stack:
    first = layout.pages.flat[0].aspage()
    lengths = layout.pages.shape[:-1]
    kept = tuple(0 if length == 1 else slice(None) for length in lengths)
    pages = layout.pages[kept]

    def load(position: tuple[int, ...], channel: int) -> np.ndarray:
        frame = pages[position][channel // layout.samples]
        place = f"{where}: page {frame.index + 1}" if layout.pages.size > 1 else where
        with _damage_named(place):
            page = frame.aspage()
            if page.shape != first.shape or page.dtype != first.dtype:
                kinds = f"{page.shape} {page.dtype}, the first {first.shape} {first.dtype}"
                raise DataError(f"{place}: another kind of plane than the first of its stack: {kinds}")
            array = read_page(page, place, stored, palette_as_index)
        return array[:, :, channel % layout.samples] if layout.samples > 1 else array

    axes = [(name, length) for name, length in zip(layout.axes, lengths) if length > 1]
    names = _unique(layout.names, layout.pages.shape[-1] * layout.samples)
    return Stack(axes, names, is_color(first), layout.pixel_size, load)


def _unique(names: list[str], count: int) -> list[str]:
    """A name for each channel: its number where it has none, and its number before names that occur twice.

    An only channel without a name is "gray".
    """
    names = [" ".join(name.split()) for name in names] if len(names) == count else [""] * count
    names = [name or (GRAY if count == 1 else str(number)) for number, name in enumerate(names, 1)]
    return names if len(set(names)) == count else [f"{number} {name}" for number, name in enumerate(names, 1)]


def _layouts(tiff: Any, where: str) -> list[_Layout]:
    _check_whole(tiff, where)
    if tiff.is_ome:
        layouts = _ome_layouts(tiff, where)
        if layouts:
            return layouts
    else:
        kind = "shaped" if tiff.is_shaped else "imagej" if tiff.is_imagej else None
        ome_damaged = re.search(r"<(\w+:)?OME\b", tiff.pages.first.description[:1000])
        if ome_damaged or (kind and tiff.series[0].kind != kind):
            raise DataError(f"{where}: its pages do not fit its description ({kind or 'OME'}): truncated or damaged")
        whole = [series for series in tiff.series if not series.keyframe.is_reduced] or tiff.series  # no thumbnails
        return [_series_layout(tiff, series, where) for series in whole]
    pages = list(tiff.pages)  # an OME-TIFF whose XML is in another file
    return [_Layout([PAGE], _objects(pages, (len(pages), 1)), channels_of(pages[0]), [], None)]


def _check_whole(tiff: Any, where: str) -> None:
    """Refuse a file whose chain of pages is broken, or whose description is lost: tifffile reads on without them."""
    handle, header = tiff.filehandle, tiff.tiff
    if not len(tiff.pages):
        raise DataError(f"{where}: not a readable image: a TIFF without a page")
    handle.seek(tiff.pages.next_page_offset)
    (following,) = struct.unpack(header.offsetformat, handle.read(header.offsetsize))
    if following:
        raise DataError(f"{where}: corrupt or truncated: page {len(tiff.pages) + 1} cannot be found")
    first = tiff.pages.first
    handle.seek(first.offset)
    (count,) = struct.unpack(header.tagnoformat, handle.read(header.tagnosize))
    tags = handle.read(count * header.tagsize)
    codes = [struct.unpack_from(f"{tiff.byteorder}H", tags, i * header.tagsize)[0] for i in range(count)]
    if DESCRIPTION in codes and DESCRIPTION not in first.tags:
        raise DataError(f"{where}: corrupt or truncated: its description, which says what its pages are, is lost")


def _ome_layouts(tiff: Any, where: str) -> list[_Layout]:
    name = PurePath(where).name
    layouts = []
    for image in parse_ome(tiff.pages.first.description, len(tiff.pages), name, where):
        pages = _objects([tiff.pages[int(number)] for number in image.pages.flat], image.pages.shape)
        first = pages.flat[0].aspage()
        found = (first.imagelength, first.imagewidth, first.samplesperpixel)
        if found != (*image.size, image.samples):
            raise DataError(f"{where}: its OME-XML describes planes of {(*image.size, image.samples)}, not {found}")
        layouts.append(_Layout(["t", "z"], pages, channels_of(first), image.channels, image.pixel_size))
    return layouts


def _series_layout(tiff: Any, series: Any, where: str) -> _Layout:
    page = series.keyframe
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    if axes[-1] == "S" and shape[-1] == 1:
        axes, shape = axes[:-1], shape[:-1]
    outer = len(axes) - len(page.axes)
    inner = axes[outer:].replace("C", "S")
    if outer < 0 or inner != page.axes or tuple(shape[outer:]) != page.shape or axes[:outer].count("C") > 1:
        raise DataError(
            f"{where}: its axes {axes} of sizes {tuple(shape)} do not fit its pages, {page.axes} {page.shape}"
        )
    order = sorted((i for i in range(outer) if axes[i] != "C"), key=lambda i: "TZ".find(axes[i]) % 3)
    channel_axis = [i for i in range(outer) if axes[i] == "C"]

    def arranged(items: list[Any]) -> np.ndarray:  # the channels last
        array = _objects(items, tuple(shape[:outer])).transpose([*order, *channel_axis])
        return array if channel_axis else array[..., None]

    if outer and min(page.imagelength, page.imagewidth) <= MAX_CHANNELS < math.prod(shape[:outer]):
        raise DataError(
            f"{where}: a stack of {math.prod(shape[:outer])} planes of {page.imagewidth} x {page.imagelength} pixels: "
            f"its channels were written as the width of an image; save it with the axes CYX"
        )
    pages = arranged(_pages(series, math.prod(shape[:outer]), where))
    names = [AXIS_NAMES.get(axes[i], axes[i].lower()) for i in order]
    imagej = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
    labels = imagej.get("Labels")
    channels = _common(arranged(labels)) if isinstance(labels, list) and len(labels) == pages.size else []
    size = pixel_size_of_tags(page, str(imagej.get("unit") or ""), where)
    return _Layout(names, pages, channels_of(page), channels, size)


def _pages(series: Any, count: int, where: str) -> list[Any]:
    """The pages of a series. ImageJ and tifffile write long stacks with one page, and the planes behind each other."""
    if len(series.pages) == count and all(page is not None for page in series.pages):
        return list(series.pages)
    first = series.keyframe
    if (
        len(series.pages) > 1
        or not first.is_contiguous
        or first.dataoffsets[0] + count * first.nbytes > first.parent.filehandle.size
    ):
        raise DataError(
            f"{where}: {count} planes by its description, {len(series.pages)} in the file: truncated or damaged"
        )
    pages = []
    for number in range(count):
        page = copy.copy(first)
        page.dataoffsets = tuple(offset + number * first.nbytes for offset in first.dataoffsets)
        pages.append(page)
    return pages


def _common(labels: np.ndarray) -> list[str]:
    """The names of channels: ImageJ's labels (..., C) of planes, if all planes of a channel have the same label."""
    by_channel = labels.reshape(-1, labels.shape[-1])
    names = [str(label) for label in by_channel[0]]
    numbered = any(re.match(r"[ctz]:\d+/\d+", name) for name in names)  # as Bio-Formats labels planes
    return names if (by_channel == by_channel[0]).all() and not numbered else []


def _objects(pages: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(pages), object)
    array[:] = pages
    return array.reshape(shape)
