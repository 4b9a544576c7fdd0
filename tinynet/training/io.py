"""Checkpoints: files that hold the state of a model, its optimizer and its training run.

A checkpoint is an npz archive without pickles, so reading one cannot run code. It holds sections (the model, the
optimizer, the schedule, ...), each the flattened state dict of one object: the entry `optimizer/mean/0` is
`sections["optimizer"]["mean"]["0"]`. The entry `metadata` is a JSON text with the version of the format, the caller's
`meta` and a digest of everything in the file.

Weights of other programs: `load_torch`, `load_safetensors`, `save_safetensors`.
"""

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError
from ..files import atomic_path, read_npz
from .onnx.export import export_onnx as export_onnx
from .safetensors import load_safetensors as load_safetensors
from .safetensors import save_safetensors as save_safetensors
from .torch_files import load_torch as load_torch

if TYPE_CHECKING:
    from ..nn.module import Module

_FORMAT = "tinynet checkpoint"
_VERSION = 1
_KINDS = "biufU"  # of the arrays in a checkpoint: numbers and texts


# ---------------------------------------------------------------------------------------- checkpoints
def save_checkpoint(
    path: str | os.PathLike, sections: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any] | None = None
) -> None:
    """Write state dicts to a file, whole or not at all.

    sections: {name: state dict}; a state dict holds arrays, numbers, strings and dicts of these. meta: anything that
    JSON can hold. An older file is replaced in the last step, when the new file is on the disk. Raises CheckpointError
    if the file cannot be written; the old file then stays. Raises TypeError or ValueError for contents that cannot be
    stored.
    """
    path = Path(path)
    arrays = _flatten(sections)
    header = {"format": _FORMAT, "version": _VERSION, "sections": list(sections), "meta": dict(meta or {})}
    try:
        header = json.loads(json.dumps(header))  # as `load_checkpoint` will see it
    except TypeError as error:
        raise TypeError(f"save_checkpoint: meta cannot be stored: {error}") from None
    text = json.dumps({**header, "digest": _digest(header, arrays)})
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, metadata=np.array(text), **arrays)
            os.fsync(file.fileno())  # a rename may reach the disk before the contents do
    except OSError as error:
        kept = "; the file that was there is as it was" if path.is_file() else ""
        raise CheckpointError(f"could not save {path}: {error.strerror or error}{kept}") from error
    _remove_leftovers(path)


def load_checkpoint(path: str | os.PathLike) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(sections, meta) as given to `save_checkpoint`; single numbers and strings have Python's types.

    Raises CheckpointError, with the reason, for a file that is missing, not a checkpoint, damaged or of a version that
    this program does not know.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    try:
        header = json.loads(arrays.pop("metadata").item())
        if header["format"] != _FORMAT:
            raise ValueError(header["format"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError(f"{path} is an npz archive, but not a tinynet checkpoint") from None
    version, names, meta = (header.get(key) for key in ("version", "sections", "meta"))
    if version != _VERSION:
        raise CheckpointError(
            f"{path} has version {version} of the checkpoint format; this program reads version {_VERSION}"
        )
    if "digest" in header and header.pop("digest") != _digest(header, arrays):  # older files have no digest
        raise CheckpointError(f"{path} is damaged: its contents do not have the digest that was stored with them")
    try:
        return _unflatten(names, arrays), dict(meta)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path} is damaged: its arrays are not those of its metadata") from None


def save_weights(
    path: str | os.PathLike, model: "Module", meta: Mapping[str, Any] | None = None, dtype: Any = None
) -> None:
    """Write a model's weights, and no state of its training, to a checkpoint with the single section `model`.

    dtype: convert the weights first; float16 halves the file and keeps about three decimal digits of each weight.
    Raises as `save_checkpoint`, and ValueError if a weight is too large for dtype.
    """
    weights = _weights(model.state_dict())
    if dtype is not None:
        with np.errstate(over="ignore"):
            converted = {name: array.astype(dtype) for name, array in weights.items()}
        lost = [n for n in weights if not np.array_equal(np.isfinite(weights[n]), np.isfinite(converted[n]))]
        if lost:
            raise ValueError(f"save_weights: {', '.join(lost)} has values too large for {np.dtype(dtype)}")
        weights = converted
    save_checkpoint(path, {"model": weights}, meta)


def load_weights(path: str | os.PathLike, model: "Module") -> dict[str, Any]:
    """Load the weights of a checkpoint (any with a section `model`) into a model, and return the checkpoint's meta.

    Weights are converted to the model's dtype, so float16 weights load into a float32 model. The positions of random
    streams do not change. Raises CheckpointError as `load_checkpoint`, if the weights are of another model (with the
    names and shapes that differ), or if they are not finite: such a net would find nothing and give no reason.
    """
    sections, meta = load_checkpoint(path)
    if "model" not in sections:
        raise CheckpointError(f"{path} has no section 'model'; it holds {', '.join(sections) or 'nothing'}")
    assign_weights(model, sections["model"], path)
    return meta


def assign_weights(model: "Module", state: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Copy the weights of a state dict into a model, without the positions of random streams.

    path: the file of the weights, for messages. Raises CheckpointError as `load_weights`.
    """
    weights = _weights(state)
    spoiled = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if spoiled:
        raise CheckpointError(f"{path} cannot be used: NaN or infinite values in {', '.join(spoiled)}")
    own = model.state_dict()
    streams = {name: own[name] for name in own.keys() - _weights(own).keys()}
    try:
        model.load_state_dict({**streams, **weights})
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _weights(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The float entries of a state dict: all but the positions of random streams."""
    arrays = {name: np.asarray(value) for name, value in state.items()}
    return {name: array for name, array in arrays.items() if array.dtype.kind == "f"}


def _flatten(state: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dicts -> {"section/key/...": array}."""
    arrays = {}
    for name, value in state.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(
                f"save_checkpoint: the key {name!r} in {prefix or 'sections'!r} must be a text without '/'"
            )
        if isinstance(value, Mapping):
            arrays.update(_flatten(value, f"{prefix}{name}/"))
        elif not prefix:
            raise TypeError(f"save_checkpoint: section {name!r} is a {type(value).__name__}; a state dict is needed")
        else:
            arrays[prefix + name] = _storable(prefix + name, value)
    return arrays


def _storable(key: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in _KINDS:
        raise TypeError(
            f"save_checkpoint: {key} is a {type(value).__name__}; an array of numbers, a number or a text is needed"
        )
    return array


def _unflatten(names: list[str], arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """The sections `names` with the arrays of `_flatten`. Raises KeyError or TypeError if they do not fit."""
    sections: dict[str, dict[str, Any]] = {name: {} for name in names}  # empty ones have no entry
    for key, array in arrays.items():
        section, *folders, name = key.split("/")
        place: dict[str, Any] = sections[section]
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise TypeError(f"{folder} in {key} is an array")
        place[name] = array.item() if array.ndim == 0 else array
    return sections


def _digest(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the header and all arrays: also detects a missing array, which no checksum of an array can."""
    digest = hashlib.sha256(json.dumps(header).encode())
    for key in sorted(arrays):
        array = arrays[key]
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz archive."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise CheckpointError(f"{path} is not a tinynet checkpoint (it is no npz archive)")
        arrays = read_npz(path)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise CheckpointError(f"could not read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is cut short or damaged ({error})") from error
    odd = [name for name, array in arrays.items() if array.dtype.kind not in _KINDS]
    if odd:
        raise CheckpointError(f"{path} is damaged: {odd[0]} holds neither numbers nor a text")
    return arrays


def _remove_leftovers(path: Path) -> None:
    """Delete the temporary files of this checkpoint that a killed process left."""
    for leftover in path.parent.glob(f".{glob.escape(path.stem[:40])}.*.part{path.suffix}"):
        with contextlib.suppress(OSError):
            leftover.unlink()
