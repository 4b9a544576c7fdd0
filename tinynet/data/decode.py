"""The one reader of image files: from the bytes of a file to the array that a viewer would show.

tifffile reads TIFF, because Pillow keeps only 8 bits of a color. Pillow reads everything else, and TIFF whose
compression or color model tifffile does not know. Whatever cannot be read right is refused with a `DataError` that
names the file: a stack, several channels without a meaning, a damaged file, a file that claims more than it holds.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import zlib
from typing import Any, NoReturn

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
# Pillow raises above twice its own limit; the same limit applies to TIFF files, which tifffile reads.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
MAX_BYTES = 256 * 2**20  # of decoded pixels: 11,500 x 11,500 of 16 bits. A small file can claim, and fill, any memory.
# The first bytes of files that are often taken for images of the kinds above.
OTHER_KINDS = {
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xffO\xffQ": "JPEG 2000",
    b"RIFF": "WebP",
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
}
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG_IN_TIFF = (6, 7, 33007, 34892)
SAMPLE_FORMAT = 339  # a tag of TIFF: 1 unsigned, 2 signed, 3 float
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5  # photometric interpretations of TIFF


def decode(data: bytes, where: str) -> np.ndarray:
    """The image in the bytes of a file: (H, W) gray or (H, W, 3) RGB with the file's own dtype, without alpha.

    The orientation that the file notes is obeyed; WhiteIsZero, CMYK, YCbCr, CIELab and palettes become gray or RGB.
    `where` names the file in errors. Raises `DataError` if it is corrupt, too large, a stack, or if its channels are
    not colors.
    """
    array = _samples(data, where)
    if array.ndim == 3:  # gray + alpha or RGB + alpha
        array = array[:, :, :3] if array.shape[2] >= 3 else array[:, :, 0]
    _check_values(array, where)
    return array


def decode_mask(data: bytes, where: str) -> np.ndarray:
    """The mask of one nucleus: bool (H, W), true where the image is not black.

    JPEG changes black slightly. Therefore pixels of a JPEG must be brighter than half of the range.
    """
    array = _samples(data, where, stored=True)
    colors = np.atleast_3d(array)[:, :, : 3 if array.shape[2:] >= (3,) else 1]
    return np.asarray((colors > (127 if _is_jpeg(data) else 0)).any(axis=2))


def decode_labels(data: bytes, where: str) -> np.ndarray:
    """A label image: (H, W), the stored numbers; of a palette image its indices.

    Raises `DataError` for what `decode` refuses, for colors, and for JPEG, which changes the numbers.
    """
    if _is_jpeg(data):
        raise DataError(f"{where}: a label image compressed by JPEG, which changes its numbers; save it as PNG or TIFF")
    array = _samples(data, where, stored=True, palette_as_index=True)
    if array.ndim != 2:
        raise DataError(
            f"{where}: label image of shape {array.shape}; need (H, W): one number for each pixel, not a color"
        )
    return array


def other_kind(data: bytes) -> str | None:
    """The name of a file format that is not read, if `data` starts like one."""
    return next((name for start, name in OTHER_KINDS.items() if data.startswith(start)), None)


def _is_jpeg(data: bytes) -> bool:
    if not data.startswith(TIFF_STARTS):
        return data.startswith(b"\xff\xd8")
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            return tiff.pages.first.compression in JPEG_IN_TIFF
    except Exception:  # `_samples` says what is wrong
        return False


def _samples(data: bytes, where: str, stored: bool = False, palette_as_index: bool = False) -> np.ndarray:
    """(H, W) or (H, W, C) with alpha, upright. stored: prefer numbers as stored where their display is ambiguous."""
    try:
        array = _read_tiff(data, where, stored) if data.startswith(TIFF_STARTS) else None
        if array is None:
            array = _read_with_pillow(data, where, palette_as_index)
    except DataError:
        raise
    except Exception as error:  # tifffile and Pillow raise many kinds on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}: not a readable image, corrupt or truncated ({reason})") from error
    return array


def check_size(where: str, shape: tuple[int, ...], bits: int) -> None:
    """Raise `DataError` if an image (H, W, ...) of so many bits a sample is larger than the limits."""
    height, width = shape[:2]
    if height * width > MAX_PIXELS or math.prod(shape) * bits > MAX_BYTES * 8:
        raise DataError(
            f"{where}: {width} x {height} pixels of {math.prod(shape[2:]) * bits} bits, could be a decompression bomb; "
            f"at most {MAX_PIXELS:,} pixels and {MAX_BYTES:,} bytes; crop it or make it smaller"
        )


# --- TIFF ---------------------------------------------------------------------------------------------------


def _read_tiff(data: bytes, where: str, stored: bool) -> np.ndarray | None:
    """A TIFF, read by tifffile (which comes with scikit-image); None if only Pillow may know how."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page: Any = tiff.pages.first
        check_size(where, (page.imagelength, page.imagewidth, page.samplesperpixel), page.bitspersample)
        _check_segments(page, data, where)
        images = max(len(tiff.pages), page.imagedepth)
        if (
            not tiff.is_ome
        ):  # ImageJ and MetaMorph write stacks with a single page; OME counts the images of other files
            images = max(images, tiff.series[0].size // max(1, page.size))
        if images > 1:
            raise DataError(f"{where}: a stack of {images} images; need a single one: save one slice or channel")
        _check_channels(page, where)
        if page.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK):
            return None if page.bitspersample <= 8 else _refuse(page, where)
        try:
            array = page.asarray()
        except (KeyError, ValueError) as error:
            if "imagecodecs" not in str(error):
                raise
            # Of deep samples Pillow inverts no WhiteIsZero, mixes up planes and divides each byte by alpha.
            odd = page.photometric == WHITE_IS_ZERO or page.planarconfig == 2 or 1 in page.extrasamples
            return None if page.bitspersample <= 8 or not odd else _refuse(page, where)
        if page.planarconfig == 2 and array.ndim == 3:
            array = np.moveaxis(array, 0, -1)
        # tifffile marks bool arrays as WhiteIsZero and ImageJ the masks with an inverting table, but what they mean by
        # a mask is the stored number.
        means_stored = stored and (tiff.is_imagej or (array.dtype == bool and page.software.startswith("tifffile")))
        if page.photometric == WHITE_IS_ZERO and not means_stored:
            array = _inverted(array, page.bitspersample, where)
        elif page.photometric == CMYK:
            array = _rgb_from_cmyk(array)
        orientation = page.tags.valueof(274, 1)
    return _upright(array, orientation)


def _check_segments(page: Any, data: bytes, where: str) -> None:
    """Refuse more tiles or strips than the file holds, and segments that unpack to more than their place."""
    claimed, found = math.prod(page.chunked), len(page.dataoffsets)
    if found < claimed:
        raise DataError(f"{where}: corrupt: its size needs {claimed:,} tiles or strips, the file has {found:,}")
    check_size(where, page.chunks, page.bitspersample)
    limit = math.prod(page.chunks) * max(1, page.bitspersample // 8) + 2**16
    openers = {8: zlib.decompressobj, 32946: zlib.decompressobj, 34925: lzma.LZMADecompressor}
    opener: Any = openers.get(page.compression)
    for start, count in zip(page.dataoffsets, page.databytecounts) if opener else ():
        if len(opener().decompress(data[start : start + count], limit)) >= limit:
            raise DataError(f"{where}: a tile or strip unpacks to more bytes than its place, a decompression bomb")


def _check_channels(page: Any, where: str) -> None:
    """Refuse channels that are neither color nor alpha: nobody knows which of them shows the nuclei."""
    colors = {RGB: 3, CMYK: 4, 6: 3, 8: 3}.get(page.photometric, 1)
    extra = page.samplesperpixel - colors
    if extra > 1 or (extra == 1 and tuple(page.extrasamples)[:1] not in ((1,), (2,))):
        raise DataError(
            f"{where}: {page.samplesperpixel} channels that are not marked as color or alpha; "
            f"need one: save the channel of the nuclei alone"
        )


def _refuse(page: Any, where: str) -> NoReturn:
    compression, predictor, model = (
        getattr(value, "name", value) for value in (page.compression, page.predictor, page.photometric)
    )
    raise DataError(
        f"{where}: not a readable image: a TIFF with compression {compression}, predictor {predictor}, color model "
        f"{model} and {page.bitspersample} bits; save it as gray or RGB without compression"
    )


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


# --- everything else ----------------------------------------------------------------------------------------


def _read_with_pillow(data: bytes, where: str, palette_as_index: bool) -> np.ndarray:
    kind = other_kind(data)
    if kind:
        raise DataError(f"{where}: a {kind} file, which is not read; save it as PNG or TIFF")
    png = _png_pixels(data, where) if data.startswith(b"\x89PNG") else None
    try:
        image = _open(data)
    except Image.UnidentifiedImageError as error:  # its own message names an object in memory
        if data.startswith(TIFF_STARTS):
            import tifffile

            with tifffile.TiffFile(io.BytesIO(data)) as tiff:
                _refuse(tiff.pages.first, where)
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"{where}: not a readable image; its first bytes are of no known kind ({kinds})") from error
    if getattr(image, "n_frames", 1) > 1 and image.format == "PNG":
        raise DataError(f"{where}: an animation of {image.n_frames} images; need a single one")  # type: ignore[attr-defined]
    check_size(where, (image.height, image.width, len(image.getbands())), 32 if image.mode in "IF" else 8)
    deep = _sixteen_bits(data, image)
    if png:
        _check_rows(image, *png, where)
    if deep is not None:
        return _rgb_from_cmyk(deep) if image.mode == "CMYK" else deep
    unsigned = getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, (1,)) == (1,)
    image = ImageOps.exif_transpose(image)
    if (image.mode == "P" and not palette_as_index) or image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA"):
        image = image.convert("RGB")
    samples = np.asarray(image)
    return samples.view(np.uint32) if samples.dtype == np.int32 and unsigned else samples  # Pillow has int32 only


def _open(data: bytes) -> Image.Image:
    """Only these formats: for an EPS file, whatever its name, Pillow would start Ghostscript."""
    return Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "BMP", "TIFF"))


def _sixteen_bits(data: bytes, image: Image.Image) -> np.ndarray | None:
    """The samples of a 16-bit color image; None for any other. Pillow keeps one byte of each sample.

    So the file is decoded twice: once with the byte order that keeps the high bytes, once with the one that keeps the
    low bytes. Gray + alpha has no second order, but its 4 bytes a pixel can be taken for the channels of RGBA.
    """
    tile: Any = image.tile[0]  # type: ignore[attr-defined]
    arguments = tile[3]
    rawmode = arguments if isinstance(arguments, str) else arguments[0]
    if ";16" not in rawmode or rawmode.startswith("I"):
        return None

    def load(rawmode: str) -> np.ndarray:
        again = _open(data)
        changed = rawmode if isinstance(arguments, str) else (rawmode, *arguments[1:])
        again.tile = [tile._replace(args=changed) if hasattr(tile, "_replace") else (*tile[:3], changed)]  # type: ignore[attr-defined]
        return np.asarray(ImageOps.exif_transpose(again))

    channels, _, order = rawmode.partition(";16")
    if channels == "LA":
        return np.ascontiguousarray(load("RGBA")).view(">u2")
    first, last = load(channels + ";16B"), load(channels + ";16L")  # the first and the last byte of each sample
    big_endian = order == "B" or (order == "N" and not np.little_endian)
    high, low = (first, last) if big_endian else (last, first)
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


# --- 8 bits for the net -------------------------------------------------------------------------------------


def to_rgb8(image: np.ndarray, where: str = "image") -> np.ndarray:
    """Any image as (H, W, 3) uint8.

    Gray is repeated three times; alpha is dropped. 8-bit values do not change. Deeper values (16-bit integers, floats)
    are scaled linearly: the minimum becomes 0 and the brightest patch of 2 x 2 pixels 255, so that a hot pixel of a
    camera does not compress the image into a few gray levels. Neither does a bright speck: 255 is at most 32 times as
    far from the minimum as the 99.9th percentile. All channels have the same scale, so colors keep their balance.

    `image`: (H, W) or (H, W, C) with C = 1 gray, 2 gray + alpha, 3 RGB or 4 RGBA; bool, integer or float.
    `where` names the file in errors. Raises `DataError` on other shapes, an empty image, NaN or infinity.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4 or image.size == 0:
        raise DataError(f"{where}: shape {image.shape}; need (H, W) or (H, W, C) with 1 to 4 channels")
    colors = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, :1]
    if colors.dtype == bool:
        colors = colors.astype(np.uint8) * 255
    elif colors.dtype != np.uint8:
        colors = _scale_to_8_bits(colors, where)
    return np.ascontiguousarray(np.broadcast_to(colors, (*colors.shape[:2], 3)))


def _scale_to_8_bits(values: np.ndarray, where: str) -> np.ndarray:
    _check_values(values, where)
    low, typical = float(values.min()), float(np.percentile(values, 99.9))
    high = max(typical, min(_brightest_patch(values), low + 32 * (typical - low)))
    if high <= low:  # nearly flat: the percentile equals the minimum
        high = max(_brightest_patch(values), low + 1)
    scaled = np.empty(values.shape, np.uint8)
    for row, result in zip(values, scaled):  # row by row: a whole image in float64 would need 4 times its memory
        result[:] = np.clip(np.rint((row.astype(np.float64) - low) * (255 / (high - low))), 0, 255)
    return scaled


def _check_values(values: np.ndarray, where: str) -> None:
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: values of dtype {values.dtype}; need bool, integers or floats")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise DataError(f"{where}: {bad} values are NaN or infinite; need finite numbers")


def _brightest_patch(values: np.ndarray) -> float:
    """The highest value that a whole patch of 2 x 2 pixels reaches; single hot pixels do not count."""
    wide = np.minimum(values[1:], values[:-1]) if values.shape[0] > 1 else values
    return float((np.minimum(wide[:, 1:], wide[:, :-1]) if values.shape[1] > 1 else wide).max())
