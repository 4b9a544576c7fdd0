"""The pixels of one page of a TIFF file, as a viewer would show them.

tifffile (which comes with scikit-image) finds the pages and unpacks most of them. Pillow unpacks LZW and ZSTD, and it
reads pages whose compression or color model tifffile does not know, if they have at most 8 bits a sample.
Whatever cannot be read right is refused with a `DataError`: a damaged page, or a page that claims more than it holds.
"""

from __future__ import annotations

import copy
import io
import lzma
import math
import struct
import zlib
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from ..errors import DataError
from . import pillow_images
from .limits import check_size

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG_COMPRESSIONS = (6, 7, 33007, 34892)
LZW, ZSTD = 5, 50000
INFLATE: dict[int, Any] = {8: zlib.decompressobj, 32946: zlib.decompressobj, 34925: lzma.LZMADecompressor}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5  # photometric interpretations of TIFF
COLORS = {RGB: 3, CMYK: 4, 6: 3, 8: 3}  # samples that are color: YCbCr is 6, CIELab 8
ALPHA = (1, 2)  # kinds of extra samples


def channels_of(page: Any) -> int:
    """How many channels a page has: 1 if its samples are gray or color, with or without alpha; else all samples."""
    extra = page.samplesperpixel - COLORS.get(page.photometric, 1)
    is_alpha = extra == 1 and any(kind in ALPHA for kind in page.extrasamples[:1])
    return page.samplesperpixel if extra > 1 or (extra == 1 and not is_alpha) else 1


def is_color(page: Any) -> bool:
    """True if `read_page` gives red, green and blue."""
    if page.photometric == PALETTE:
        return not _has_intensities(page)
    return channels_of(page) == 1 and page.photometric in COLORS and page.samplesperpixel >= 3


def read_page(page: Any, where: str, stored: bool = False, palette_as_index: bool = False) -> np.ndarray:
    """(H, W) gray, (H, W, 3) RGB, or (H, W, C) if a page has channels; upright, without alpha, the file's dtype.

    `page`: a `tifffile.TiffPage`. `stored`: prefer the numbers as stored where their display is ambiguous.
    """
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    if not isinstance(page.bitspersample, int):
        _refuse(page, where)
    check_size(where, shape, page.bitspersample)
    if page.imagedepth > 1:
        raise DataError(f"{where}: a page that is a volume of {page.imagedepth} planes; save one plane a page")
    _check_segments(page, where)
    array = _samples(page, where, stored, palette_as_index)
    if channels_of(page) == 1 and array.ndim == 3:
        array = array[:, :, : 3 if array.shape[2] >= 3 else 1]
    return array[:, :, 0] if array.shape[2:] == (1,) else array


def _samples(page: Any, where: str, stored: bool, palette_as_index: bool) -> np.ndarray:
    gray = page.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) or (page.photometric == PALETTE and not is_color(page))
    if not (gray or page.photometric in (RGB, CMYK)) or (page.fillorder == 2 and page.compression != 1):
        return _by_pillow(page, where, palette_as_index)
    try:
        array = _unpacked(page, where)
    except (KeyError, ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
        return _by_pillow(page, where, palette_as_index)
    if page.planarconfig == 2 and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    # tifffile marks bool arrays as WhiteIsZero and ImageJ the masks with an inverting table, but what they mean by a
    # mask is the stored number.
    by_tifffile = array.dtype == bool and page.software.startswith("tifffile")
    if page.photometric == WHITE_IS_ZERO and not (stored and (page.parent.is_imagej or by_tifffile)):
        array = _inverted(array, page.bitspersample, where)
    elif page.photometric == CMYK:
        array = _rgb_from_cmyk(array)
    return _upright(array, page.tags.valueof(274, 1))


def _has_intensities(page: Any) -> bool:
    """True if the numbers of a page with a palette are intensities: the palette is only how a program shows them."""
    return page.parent.is_ome or page.parent.is_imagej or page.bitspersample > 8


def _check_segments(page: Any, where: str) -> None:
    """Refuse more tiles or strips than the file holds."""
    claimed, found = math.prod(page.chunked), len(page.dataoffsets)
    if found < claimed:
        raise DataError(f"{where}: corrupt: its size needs {claimed:,} tiles or strips, the file has {found:,}")
    handle = page.parent.filehandle
    for start, count in zip(page.dataoffsets[:claimed], page.databytecounts[:claimed]):
        if count == 0 or start + count > handle.size:
            problem = f"a tile or strip of {count:,} bytes at byte {start:,}, the file has {handle.size:,}"
            raise DataError(f"{where}: not a readable image, corrupt or truncated ({problem})")
    check_size(where, page.chunks, page.bitspersample)


# --- unpacking ----------------------------------------------------------------------------------------------


def _unpacked(page: Any, where: str) -> np.ndarray:
    """The samples of a page by tifffile, which knows neither LZW nor 12 bits, and has no limit to what it inflates."""
    bits = page.bitspersample
    odd = 1 < bits < 32 and bits not in (8, 16, 24)
    if not (page.compression in (LZW, ZSTD) or page.compression in INFLATE or (odd and page.compression == 1)):
        return page.asarray()
    plain = copy.copy(page)  # the same page as if its tiles or strips were not compressed and had whole bytes
    plain.compression = 1
    if odd:
        plain.bitspersample = page.dtype.itemsize * 8
    array = np.zeros(page.shaped[:1] + page.shaped[2:], page.dtype)
    count, height, width, samples = array.shape
    length, across = page.chunks[0], math.ceil(width / page.chunks[1])
    down = math.ceil(height / length)
    row_bytes = math.ceil(page.chunks[1] * samples * bits / 8)
    handle = page.parent.filehandle
    for data, index in handle.read_segments(page.dataoffsets, page.databytecounts, length=count * across * down):
        top = index // across % down * length
        rows = length if page.is_tiled else min(length, height - top)
        if page.compression in INFLATE:
            data = _inflated(data, INFLATE[page.compression](), rows * row_bytes, where)
        elif page.compression != 1:
            data = _by_libtiff(data, page.compression, rows * row_bytes)
        if odd:
            data = _whole_bytes(data, bits, rows, page)
        values, (sample, _, top, left, _), _ = plain.decode(data, index)
        place = array[sample, top : top + rows, left : left + page.chunks[1]]
        place[...] = values[0, : place.shape[0], : place.shape[1]]
    return array.reshape(page.shape)


def _inflated(data: bytes, opener: Any, size: int, where: str) -> bytes:
    """The bytes of a tile or strip of `size` bytes, but never many more: a small file can unpack to any size."""
    limit = size + 2**16
    inflated = opener.decompress(data, limit)
    if len(inflated) >= limit:
        raise DataError(f"{where}: a tile or strip unpacks to more bytes than its place, a decompression bomb")
    return inflated


def _by_libtiff(data: bytes, compression: int, size: int) -> bytes:
    """The `size` bytes of a tile or strip, unpacked by Pillow's libtiff: as a gray image of one row."""
    values = {256: size, 257: 1, 258: 8, 259: compression, 262: 1, 273: 122, 277: 1, 278: 1, 279: len(data)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    file = io.BytesIO(struct.pack("<2sHIH", b"II", 42, 8, len(values)) + tags + bytes(4) + data)
    return Image.open(file, formats=("TIFF",)).tobytes()


def _whole_bytes(data: bytes, bits: int, rows: int, page: Any) -> bytes:
    """Numbers of 2 .. 15 packed bits (each row starts at a whole byte) as numbers of 8 or 16 bits."""
    columns = page.chunks[1] * (page.samplesperpixel if page.planarconfig == 1 else 1)
    stored = np.frombuffer(data, np.uint8, rows * ((columns * bits + 7) // 8)).reshape(rows, -1)
    numbers = np.empty((rows, columns), page.dtype.newbyteorder(page.parent.byteorder))
    for row, result in zip(stored, numbers):
        single = np.unpackbits(row)[: columns * bits].reshape(columns, bits)
        result[:] = single @ (1 << np.arange(bits - 1, -1, -1))
    return numbers.tobytes()


def _by_pillow(page: Any, where: str, palette_as_index: bool) -> np.ndarray:
    array = None
    plain = page.samplesperpixel == 1 and page.photometric == BLACK_IS_ZERO  # of other deep pages Pillow keeps 8 bits
    if plain or (page.bitspersample in range(1, 9) and channels_of(page) == 1):
        array = pillow_images.read_tiff_page(page.parent.filehandle, page.index, palette_as_index)
    if array is None:
        _refuse(page, where)
    return array


def _refuse(page: Any, where: str) -> NoReturn:
    compression, predictor, model = (
        getattr(value, "name", value) for value in (page.compression, page.predictor, page.photometric)
    )
    raise DataError(
        f"{where}: not a readable image: a TIFF with compression {compression}, predictor {predictor}, color model "
        f"{model} and {page.bitspersample} bits; save it as gray or RGB without compression"
    )


# --- from samples to colors ---------------------------------------------------------------------------------


def _inverted(array: np.ndarray, bits: int, where: str) -> np.ndarray:
    if array.dtype == bool:
        return ~array
    if array.dtype.kind != "u":
        raise DataError(f"{where}: WhiteIsZero with {array.dtype} has no white; save it as BlackIsZero")
    return array.dtype.type(2**bits - 1) - array


def _rgb_from_cmyk(array: np.ndarray) -> np.ndarray:
    """RGB = (1 - C, 1 - M, 1 - Y) (1 - K), as Pillow computes it, for 8 or 16 bits."""
    white = np.iinfo(array.dtype).max
    light = white - array[:, :, :4].astype(np.float32)
    return np.rint(light[:, :, :3] * light[:, :, 3:] / white).astype(array.dtype)


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Rotated and flipped as the orientation 1 .. 8 of TIFF and EXIF asks."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array[:, ::-1] if orientation in (2, 3, 6, 7) else array
