"""Weights in the format safetensors: a header in JSON that says where each array lies, then the bytes of the arrays.

    8 bytes             the header's length L, little-endian
    L bytes             {"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
    the rest            the arrays, little-endian, one after the other without gaps

Source: the format's description in the repository huggingface/safetensors. There is nothing to execute in such a file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from ..files import atomic_path

DTYPES = {  # NumPy has no bfloat16: its two bytes are the upper half of a float32
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"},
}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items() if name != "BF16"}
MOST_HEADER = 100_000_000  # bytes; the limit of the format's own library


def load_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file by name; bfloat16 becomes float32.

    Raises CheckpointError if the file is missing, damaged or holds another kind of number.
    """
    try:
        content = Path(path).read_bytes()
        length = int.from_bytes(content[:8], "little")
        if not 2 <= length <= min(MOST_HEADER, len(content) - 8):
            raise ValueError(f"its header has {length:,} bytes, the file {len(content):,}")
        header = json.loads(content[8 : 8 + length])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        _check_layout(entries, len(content) - 8 - length)
        return {name: _array(entry, content, 8 + length) for name, entry in entries.items()}
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}") from None
    except OSError as error:
        raise CheckpointError(f"could not read {path}: {error.strerror or error}") from error
    except Exception as error:  # JSON can hold anything where a number or a list is needed
        raise CheckpointError(f"{path} is damaged, or no safetensors file ({error})") from error


def _check_layout(entries: Mapping[str, Any], size: int) -> None:
    """Raise ValueError unless the arrays fill `size` bytes, without gaps and overlaps."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} has the dtype {entry['dtype']}; {', '.join(DTYPES)} are read")
        start, stop = entry["data_offsets"]
        length = math.prod(entry["shape"]) * np.dtype(DTYPES[entry["dtype"]]).itemsize
        if start != end or stop - start != length or min(entry["shape"], default=0) < 0:
            raise ValueError(f"{name} of shape {entry['shape']} lies at {start} to {stop}; {end} to {end + length}")
        end = stop
    if end != size:
        raise ValueError(f"its arrays have {end:,} bytes, the file has {size:,} for them")


def _array(entry: Mapping[str, Any], content: bytes, start: int) -> np.ndarray:
    dtype, count = np.dtype(DTYPES[entry["dtype"]]), math.prod(entry["shape"])
    stored = np.frombuffer(content, dtype, count, start + entry["data_offsets"][0]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":
        return from_bfloat16(stored)
    return stored.astype(dtype.newbyteorder("="))


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 of the shape of `bits`: uint16, the two bytes of each bfloat16, which are the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def save_safetensors(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays, such as a model's weights, whole or not at all.

    Raises TypeError for an array of another kind than numbers and truth values (complex numbers are no such kind), and
    CheckpointError if the file cannot be written.
    """
    header: dict[str, Any] = {}
    parts, end = [], 0
    for name, value in arrays.items():
        array = np.asarray(value)
        dtype = array.dtype.newbyteorder("<")
        if dtype not in NAMES:
            raise TypeError(f"save_safetensors: {name} is of dtype {array.dtype}; need one of {', '.join(DTYPES)}")
        parts.append(array.astype(dtype).tobytes())
        header[name] = {"dtype": NAMES[dtype], "shape": array.shape, "data_offsets": [end, end + len(parts[-1])]}
        end += len(parts[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays begin at a multiple of 8
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
    except OSError as error:
        raise CheckpointError(f"could not save {path}: {error.strerror or error}") from error
