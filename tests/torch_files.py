"""Writes files as `torch.save` does, without PyTorch: both layouts, and contents that must be refused."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "u2": "BFloat16", "i8": "Long", "i4": "Int", "b1": "Bool"}


def _rebuild_tensor_v2(*arguments: Any) -> None: ...


def _rebuild_parameter(*arguments: Any) -> None: ...


def fake_modules() -> dict[str, types.ModuleType]:
    """Modules with the names that a file of torch.save imports."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for function in (_rebuild_tensor_v2, _rebuild_parameter):
        function.__module__ = "torch._utils"
        setattr(utils, function.__name__, function)
    for kind in KINDS.values():
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
    return {"torch": torch, "torch._utils": utils}


class Tensor:
    """A view of a storage, which is an array of one axis. Defaults: the whole storage."""

    def __init__(self, storage: np.ndarray, size: Any = None, stride: Any = (1,), offset: int = 0) -> None:
        self.storage, self.size = storage, storage.shape if size is None else size
        self.stride, self.offset = stride, offset

    def __reduce__(self) -> Any:
        kept = Storage(self.storage), self.offset, tuple(self.size), tuple(self.stride), False, OrderedDict()
        return sys.modules["torch._utils"]._rebuild_tensor_v2, kept


class Parameter:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_parameter, (self.tensor, True, OrderedDict())


class Storage:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values


class _Pickler(pickle.Pickler):
    storages: dict[str, np.ndarray]
    is_old = False

    def persistent_id(self, thing: Any) -> Any:
        if not isinstance(thing, Storage):
            return None
        key = str(id(thing.values))
        self.storages[key] = thing.values
        kind = getattr(sys.modules["torch"], KINDS[thing.values.dtype.str[1:]] + "Storage")
        return ("storage", kind, key, "cpu", len(thing.values), *([None] if self.is_old else []))


def write_torch(path: Path, content: Any, old: bool = False, order: str = "little") -> None:
    """Write `content`, containers with Tensor in them. old: the layout before PyTorch 1.6. order: of the bytes."""
    import io

    stream, sign = io.BytesIO(), {"little": "<", "big": ">"}[order]
    with mock.patch.dict(sys.modules, fake_modules()):
        pickler = _Pickler(stream, protocol=2)
        pickler.storages, pickler.is_old = {}, old
        pickler.dump(content)
    raw = {key: a.astype(a.dtype.newbyteorder(sign)).tobytes() for key, a in pickler.storages.items()}
    if old:
        head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": order == "little"})
        parts = [*(pickle.dumps(part, 2) for part in head), stream.getvalue(), pickle.dumps(list(raw), 2)]
        counts = {key: len(pickler.storages[key]).to_bytes(8, order) for key in raw}
        path.write_bytes(b"".join([*parts, *(counts[key] + raw[key] for key in raw)]))
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", order)
        for key, content in raw.items():
            archive.writestr(f"archive/data/{key}", content)
