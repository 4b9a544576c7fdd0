"""PNG, JPEG and BMP, and the pages of TIFF files that tifffile does not know: read by Pillow.

Pillow alone is not enough: it keeps one byte of 16-bit colors, and leaves the rows black that a truncated PNG lacks.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError
from .limits import check_size

# The first bytes of files that are often taken for images of the kinds that are read.
OTHER_KINDS = {
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xffO\xffQ": "JPEG 2000",
    b"RIFF": "WebP",
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
}


def other_kind(data: bytes) -> str | None:
    """The name of a file format that is not read, if `data` starts like one."""
    return next((name for start, name in OTHER_KINDS.items() if data.startswith(start)), None)


def read_image(data: bytes, where: str, palette_as_index: bool = False) -> np.ndarray:
    """A PNG, JPEG or BMP, upright: (H, W), (H, W, 2) gray + alpha, (H, W, 3) or (H, W, 4) with alpha."""
    kind = other_kind(data)
    if kind:
        raise DataError(f"{where}: a {kind} file, which is not read; save it as PNG or TIFF")
    png = _png_pixels(data, where) if data.startswith(b"\x89PNG") else None
    try:
        image = _open(io.BytesIO(data))
    except Image.UnidentifiedImageError as error:  # its own message names an object in memory
        raise DataError(
            f"{where}: not a readable image; its first bytes are of no known kind (PNG, TIFF, JPEG, BMP)"
        ) from error
    if getattr(image, "n_frames", 1) > 1 and image.format == "PNG":
        raise DataError(f"{where}: an animation of {image.n_frames} images; need a single one")  # type: ignore[attr-defined]
    check_size(where, (image.height, image.width, len(image.getbands())), 32 if image.mode in "IF" else 8)
    deep = _sixteen_bits(data, image) if png else None
    if png:
        _check_rows(image, *png, where)
    return _samples(image, palette_as_index) if deep is None else deep


def read_tiff_page(file: BinaryIO, number: int, palette_as_index: bool) -> np.ndarray | None:
    """A page of a TIFF whose size was checked, of at most 8 bits a sample; None if Pillow does not know it either."""
    try:
        file.seek(0)
        image = _open(file)
        image.seek(number)
        return _samples(image, palette_as_index)
    except Image.UnidentifiedImageError:
        return None


def _samples(image: Image.Image, palette_as_index: bool) -> np.ndarray:
    ImageOps.exif_transpose(image, in_place=True)  # otherwise it copies the image
    if (image.mode == "P" and not palette_as_index) or image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA"):
        image = image.convert("RGB")
    return np.asarray(image)


def _open(file: BinaryIO) -> Image.Image:
    """Only these formats: for an EPS file, whatever its name, Pillow would start Ghostscript."""
    with warnings.catch_warnings():  # `check_size` has a limit of its own
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file, formats=("PNG", "JPEG", "BMP", "TIFF"))


def _sixteen_bits(data: bytes, image: Image.Image) -> np.ndarray | None:
    """The samples of a 16-bit PNG in color or with alpha; None for any other. Pillow keeps one byte of each sample.

    So the file is decoded twice: once with the byte order that keeps the high bytes, once with the one that keeps the
    low bytes. Gray + alpha has no second order, but its 4 bytes a pixel can be taken for the channels of RGBA.
    """
    tile: Any = image.tile[0]  # type: ignore[attr-defined]
    channels, deep, _ = tile[3].partition(";16B")
    if not deep or channels == "I":
        return None

    def load(rawmode: str) -> np.ndarray:
        again = _open(io.BytesIO(data))
        again.tile = [tile._replace(args=rawmode) if hasattr(tile, "_replace") else (*tile[:3], rawmode)]  # type: ignore[attr-defined]
        return np.asarray(ImageOps.exif_transpose(again))

    if channels == "LA":
        return np.ascontiguousarray(load("RGBA")).view(">u2")
    high, low = load(channels + ";16B"), load(channels + ";16L")  # the first and the last byte of each sample
    return high.astype(np.uint16) << 8 | low


def _png_pixels(data: bytes, where: str) -> tuple[bytes, int]:
    """(the compressed pixels of a PNG, their number of bytes unpacked), after a check of every chunk's checksum."""
    packed, at, name = [], 8, b""
    if data[12:16] != b"IHDR":
        raise DataError(f"{where}: not a readable image, corrupt: it has no header")
    while name != b"IEND":
        if at + 12 > len(data):
            raise DataError(f"{where}: not a readable image, truncated")
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if data[at + 8 + length : at + 12 + length] != struct.pack(">I", zlib.crc32(name + body)):
            raise DataError(f"{where}: not a readable image, corrupt or truncated (wrong checksum of {name!r})")
        if name == b"IHDR":
            width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", body)
        elif name == b"IDAT":
            packed.append(body)
        at += 12 + length
    bits = depth * {2: 3, 4: 2, 6: 4}.get(color, 1)
    check_size(where, (height, width), bits)
    # An interlaced image is 7 images, of every 8th, 4th or 2nd pixel: first row and column, steps.
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    expected = 0
    for row, column, down, right in passes if interlaced else ((0, 0, 1, 1),):
        rows, columns = len(range(row, height, down)), len(range(column, width, right))
        expected += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return b"".join(packed), expected


def _check_rows(image: Image.Image, packed: bytes, expected: int, where: str) -> None:
    """Refuse a PNG whose pixels end early: Pillow leaves the missing rows as they were.

    To unpack all pixels once more takes long. So a mask is first filled with white, on which a last row that was
    decoded is seen, because the last row of most masks is black; and that of most other images is not.
    """
    before = 255 if image.mode == "L" else 0
    if before:
        image.im = Image.new("L", image.size, before).im
    last = np.asarray(image.crop((0, image.height - 1, image.width, image.height)))
    if (last == before).all() or image.info.get("interlace"):
        found = len(zlib.decompressobj().decompress(packed, expected + 1))
        if found < expected:
            raise DataError(f"{where}: not a readable image, truncated ({found:,} of {expected:,} bytes of pixels)")
