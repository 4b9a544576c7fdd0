"""The one reader of image files: from the bytes of a file to the array that a viewer would show.

tifffile reads TIFF, because Pillow keeps only 8 bits of a color. Pillow reads everything else. Whatever cannot be read
right is refused with a `DataError` that names the file: a stack, several channels, a damaged file, a file that claims
more than it holds. `read_planes` is for stacks and channels.
"""

from __future__ import annotations

import io

import numpy as np

from ..errors import DataError
from .limits import check_values
from .stacks import Stack, open_stacks
from .tiff_pages import JPEG_COMPRESSIONS, TIFF_STARTS


def decode(data: bytes, where: str) -> np.ndarray:
    """The image in the bytes of a file: (H, W) gray or (H, W, 3) RGB with the file's own dtype, without alpha.

    The orientation that the file notes is obeyed; WhiteIsZero, CMYK, YCbCr, CIELab and palettes become gray or RGB.
    `where` names the file in errors. Raises `DataError` if it is corrupt, too large, a stack, or if its channels are
    not colors.
    """
    array = _single_plane(data, where)
    check_values(array, where)
    return array


def decode_mask(data: bytes, where: str) -> np.ndarray:
    """The mask of one nucleus: bool (H, W), true where the image is not black.

    JPEG changes black slightly. Therefore pixels of a JPEG must be brighter than half of the range.
    """
    colors = np.atleast_3d(_single_plane(data, where, stored=True))
    return np.asarray((colors > (127 if _is_jpeg(data) else 0)).any(axis=2))


def decode_labels(data: bytes, where: str) -> np.ndarray:
    """A label image: (H, W), the stored numbers; of a palette image its indices.

    Raises `DataError` for what `decode` refuses, for colors, and for JPEG, which changes the numbers.
    """
    if _is_jpeg(data):
        raise DataError(f"{where}: a label image compressed by JPEG, which changes its numbers; save it as PNG or TIFF")
    array = _single_plane(data, where, stored=True, palette_as_index=True)
    if array.ndim != 2:
        raise DataError(
            f"{where}: label image of shape {array.shape}; need (H, W): one number for each pixel, not a color"
        )
    return array


def only_stack(stacks: list[Stack], where: str) -> Stack:
    """The stack of a file that holds one plane. Raises `DataError` if it holds several."""
    planes = sum(int(np.prod([length for _, length in stack.axes], dtype=int)) for stack in stacks)
    if planes != 1:
        raise DataError(f"{where}: a stack of {planes} images; need a single one: save one slice or one time point")
    return stacks[0]


def _single_plane(data: bytes, where: str, stored: bool = False, palette_as_index: bool = False) -> np.ndarray:
    with open_stacks(io.BytesIO(data), where, stored, palette_as_index) as stacks:
        stack = only_stack(stacks, where)
        if len(stack.channels) > 1:
            raise DataError(
                f"{where}: {len(stack.channels)} channels that are not marked as color or alpha; "
                f"need one: save the channel of the nuclei alone"
            )
        return stack.load((), 0)


def _is_jpeg(data: bytes) -> bool:
    if not data.startswith(TIFF_STARTS):
        return data.startswith(b"\xff\xd8")
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            return tiff.pages.first.compression in JPEG_COMPRESSIONS
    except Exception:  # `_single_plane` says what is wrong
        return False
