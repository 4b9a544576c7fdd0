"""Image files in a zip archive or a folder, or a single file, decoded to plain arrays.

Archives are not extracted: their members are read into memory one at a time. A hostile or broken file raises a
`DataError` that names it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
# A member that unpacks to more bytes is refused before it is read. The largest real images (whole microscope fields, 16
# bits, three channels) are smaller; a "zip bomb" unpacks to gigabytes.
MAX_MEMBER_BYTES = 512 * 2**20
# Pillow raises above twice its own limit; the same limit applies to TIFF files, which tifffile reads.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)


class ImageFiles:
    """The image files of a zip archive, of a folder (with everything below it), or one single file.

    `names` lists them with forward slashes, sorted, relative to the archive or folder. Use as a context manager.

    Raises `DataError` if `path` does not exist, is a broken or truncated archive, or is an archive with a name that
    leads out of it (`../x`, `/x`): such an archive is malicious, so none of it is read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        if self.path.is_dir():
            self._root = self.path
            found = [p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()]
        elif self.path.suffix.lower() in IMAGE_SUFFIXES and self.path.is_file():
            self._root = self.path.parent
            found = [self.path.name]
        elif self.path.is_file():
            found = self._open_zip()
        else:
            raise DataError(f"{self.path}: no such file or folder; need a zip archive, a folder or an image file")
        self.names = sorted(name for name in found if _is_image_name(name))

    def _open_zip(self) -> list[str]:
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise DataError(f"{self.path}: not a zip archive, or a truncated one ({error})") from error
        names = self._zip.namelist()
        for name in names:
            parts = PurePosixPath(name.replace("\\", "/")).parts
            if ".." in parts or name.startswith(("/", "\\")) or ":" in name:
                self.close()
                raise DataError(f"{self.path}: refused, because the name {name!r} leads out of the archive")
        return names

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises `DataError` if it is damaged, encrypted or too large."""
        if self._zip is None:
            try:
                return (self._root / name).read_bytes()
            except OSError as error:
                raise DataError(f"{self.where(name)}: cannot be read ({error})") from error
        size = self._zip.getinfo(name).file_size
        if size > MAX_MEMBER_BYTES:
            raise DataError(f"{self.where(name)}: unpacks to {size:,} bytes; at most {MAX_MEMBER_BYTES:,} are accepted")
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, NotImplementedError) as error:
            raise DataError(f"{self.where(name)}: damaged inside the archive ({error})") from error

    def open_image(self, name: str) -> Image.Image:
        """A decoded Pillow image. For images with more than 8 bits use `read_array`."""
        return _open_with_pillow(self.read(name), self.where(name))

    def read_array(self, name: str) -> np.ndarray:
        """One file as stored: (H, W) or (H, W, C) with its own dtype; a palette image gives its colors."""
        return decode(self.read(name), self.where(name))

    def where(self, name: str) -> str:
        """The name of a file in messages."""
        return f"{self.path}/{name}" if self._zip is not None else str(self._root / name)

    def close(self) -> None:
        """Close the archive. The end of a `with` block does it too."""
        if self._zip is not None:
            self._zip.close()

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(self, *exc) -> None:
        self.close()


def _is_image_name(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def decode(data: bytes, where: str, palette_as_index: bool = False) -> np.ndarray:
    """Decode the bytes of an image file to (H, W) or (H, W, C) with the file's own dtype.

    tifffile reads TIFF, because Pillow does not know 16-bit color; Pillow reads TIFF with compressions that tifffile
    does not know. A palette image gives its colors, or its indices if `palette_as_index` (for label images). `where`
    names the file in errors. Raises `DataError` if it is corrupt, larger than `MAX_PIXELS`, or a stack.
    """
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        array = _decode_tiff(data, where)
        if array is not None:
            return array
    image = _open_with_pillow(data, where)
    if (image.mode == "P" and not palette_as_index) or image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA"):
        image = image.convert("RGB")
    return np.asarray(image)


def _open_with_pillow(data: bytes, where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: {error}") from error
    except UnidentifiedImageError as error:  # its own message names an object in memory
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"{where}: not a readable image; its first bytes are of no known kind ({kinds})") from error
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{where}: not a readable image, corrupt or truncated ({error})") from error
    return image


def _decode_tiff(data: bytes, where: str) -> np.ndarray | None:
    """A TIFF, read by tifffile (which comes with scikit-image); None if only Pillow knows its compression."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages.first
            if len(tiff.pages) > 1:
                raise DataError(f"{where}: a stack of {len(tiff.pages)} pages; need a single image")
            if page.imagelength * page.imagewidth > MAX_PIXELS:
                size = f"{page.imagewidth} x {page.imagelength}"
                raise DataError(f"{where}: {size} pixels, could be a decompression bomb; at most {MAX_PIXELS:,}")
            if page.compression not in (1, 8, 32946) or page.photometric == 3:  # not plain or deflate; or palette
                return None
            array = page.asarray()
            channels_first = page.planarconfig == 2 and array.ndim == 3
    except DataError:
        raise
    except Exception as error:  # tifffile raises many kinds on damaged files
        raise DataError(f"{where}: not a readable TIFF, corrupt or truncated ({error})") from error
    return np.moveaxis(array, 0, -1) if channels_first else array


def to_rgb8(image: np.ndarray, where: str = "image") -> np.ndarray:
    """Any image as (H, W, 3) uint8.

    Gray is repeated three times; alpha is dropped. 8-bit values do not change. Deeper values (16-bit integers, floats)
    are scaled linearly: the minimum becomes 0 and the 99.9th percentile 255. Brighter pixels are clipped, so that one
    hot pixel of a 12-bit camera does not compress the image into a few gray levels. All channels have the same scale,
    so colors keep their balance.

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
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise DataError(f"{where}: {bad} values are NaN or infinite; need finite numbers")
    low, high = values.min(), np.percentile(values, 99.9)
    if high <= low:  # nearly flat: the percentile equals the minimum
        high = max(values.max(), low + 1)
    return np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
