"""Weights saved by PyTorch, read without unpickling: nothing in the file can run code.

`torch.save` writes a pickle, a program for a small stack machine that may import and call anything. `load_torch`
runs these programs on a machine of its own that knows the few instructions a state dict needs, and for which an
import is only a name. A tensor is built from numbers in the file, after they have been checked.

Two layouts exist. Since PyTorch 1.6 a file is a zip archive: `data.pkl` is the program, `data/KEY` the bytes of each
storage. Before, it was five parts in a row: three small pickles (a magic number, a version, facts about the
machine), the program, and the list of the storages' keys, followed by the bytes of the storages in this order.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import CheckpointError
from ..files import most_unpacked, open_zip
from .safetensors import from_bfloat16

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the layout before PyTorch 1.6
TENSOR, PARAMETER, DICT = (
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
)
STORAGES = {  # name in the file -> NumPy's dtype. NumPy has no bfloat16: its two bytes are the upper half of a float32
    **{"Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "u2"},
    **{"Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?"},
}
SHARES = 4  # tensors may share a storage (tied weights); together they have at most so many times the file's bytes


class StoredTensor(NamedTuple):
    """A tensor as the program describes it: a view of the storage `key`. stride: in elements."""

    kind: str
    key: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def load_torch(path: str | os.PathLike, key: str | None = None) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote: {name: array}, each with its own shape and dtype.

    key: the entry that is the state dict, if the file holds a dictionary around it, such as "state_dict". bfloat16
    becomes float32. Shapes stay PyTorch's: a convolution's weight is (C_out, C_in, KH, KW), and
    `weight.transpose(2, 3, 1, 0)` is tinynet's (KH, KW, C_in, C_out); docs/coming_from.md has the others.

    Raises CheckpointError if the file is missing, damaged, holds anything else than tensors, or would run code.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            content, storages, order = _read_zip(path) if is_zip else _read_sequence(path)
            tensors = _state_dict(content, key)
            _check_total(tensors, most=SHARES * os.path.getsize(path))
        return {name: _array(tensor, storages, order) for name, tensor in tensors.items()}
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}") from None
    except OSError as error:
        raise CheckpointError(f"could not read {path}: {error.strerror or error}") from error
    except Refused as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # a damaged program fails in many ways, and so do zip archives
        raise CheckpointError(f"{path} is damaged, or was not written by torch.save ({error})") from error


class Refused(Exception):
    """The file may be intact, but holds something that is not read."""


# ---------------------------------------------------------------------------------------- the two layouts
def _read_zip(path: Path) -> tuple[Any, Mapping[str, bytes], str]:
    """(content, {key: bytes}, byte order "<" or ">") of the layout since PyTorch 1.6."""
    with open_zip(path) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        if "data.pkl" not in members:
            raise Refused("a zip archive without data.pkl, so torch.save did not write it")
        size, most = sum(member.file_size for member in archive.infolist()), most_unpacked(path)
        if size > most:
            raise Refused(f"it unpacks to {size:,} bytes; at most {most:,} are accepted for its size")
        content = Machine().run(io.BytesIO(archive.read(members["data.pkl"])))
        storages = {
            name.removeprefix("data/"): archive.read(member)  # compares the checksum
            for name, member in members.items()
            if name.startswith("data/")
        }
        big = "byteorder" in members and archive.read(members["byteorder"]) == b"big"
    return content, storages, ">" if big else "<"


def _read_sequence(path: Path) -> tuple[Any, Mapping[str, bytes], str]:
    """(content, {key: bytes}, byte order) of the layout before PyTorch 1.6."""
    stream = io.BytesIO(path.read_bytes())
    if Machine().run(stream) != MAGIC:
        raise Refused("neither of the two layouts of torch.save; need a file that holds a state dict")
    _version, machine, content, keys = (Machine().run(stream) for _ in range(4))
    order = "<" if machine["little_endian"] else ">"
    kinds = {tensor.key: tensor.kind for tensor in _tensors(content)}
    storages = {}
    for key in keys:
        if key not in kinds:
            raise Refused(f"the storage {key!r} belongs to no tensor of a state dict")
        count = int.from_bytes(stream.read(8), "little" if order == "<" else "big")
        storages[key] = stream.read(count * np.dtype(STORAGES[kinds[key]]).itemsize)
    return content, storages, order


def _tensors(content: Any) -> list[StoredTensor]:
    """All tensors in nested dictionaries, lists and tuples, each once."""
    found, seen, waiting = [], set[int](), [content]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, StoredTensor):
            found.append(thing)
        elif isinstance(thing, dict | list | tuple) and id(thing) not in seen:
            seen.add(id(thing))
            waiting.extend(thing.values() if isinstance(thing, dict) else thing)
    return found


# ---------------------------------------------------------------------------------------- the machine
class Machine:
    """Runs the program of a pickle as far as a state dict needs it: numbers, texts, containers and tensors.

    An import pushes its name, if the name is in a short list, and raises Refused if not; a call is carried out for
    three of these names. Sources: the instructions' documentation in Python's `pickletools`; `torch/serialization.py`.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        """The object that the next program in the stream builds. Raises Refused, or any error if it is damaged."""
        for instruction, argument, _ in pickletools.genops(stream):
            name = instruction.name
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in LITERALS:
                self.stack.append(argument)
            elif name in EMPTY:
                self.stack.append(EMPTY[name]())
            elif name in TUPLES:
                count = TUPLES[name]
                self.stack[-count:] = [tuple(self.stack[-count:])]
            elif name == "STOP":
                return self.stack.pop()
            elif name not in ("PROTO", "FRAME"):
                step = getattr(self, f"do_{name.removeprefix('LONG_').lower()}", None)
                if step is None:
                    raise Refused(f"the instruction {name} of its pickle does not occur in a state dict")
                step(argument)
        raise ValueError("the program has no end")

    def do_global(self, name: str) -> None:
        kind = name.removeprefix("torch ").removesuffix("Storage")
        if name not in (TENSOR, PARAMETER, DICT) and kind not in STORAGES:
            raise Refused(f"it asks for {name.replace(' ', '.')}; only tensors are read: save model.state_dict()")
        self.stack.append(kind if kind in STORAGES else name)

    def do_mark(self, _: None) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        above, self.stack = self.stack, self.marks.pop()
        return above

    def do_binput(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_binget(self, number: int) -> None:
        self.stack.append(self.memo[number])

    def do_tuple(self, _: None) -> None:
        above = tuple(self.since_mark())
        self.stack.append(above)

    def do_append(self, _: None) -> None:
        value = self.stack.pop()
        self.stack[-1].append(value)

    def do_appends(self, _: None) -> None:
        above = self.since_mark()
        self.stack[-1].extend(above)

    def do_setitem(self, _: None) -> None:
        key, value = self.stack.pop(-2), self.stack.pop()
        self.stack[-1][key] = value

    def do_setitems(self, _: None) -> None:
        above = self.since_mark()
        self.stack[-1].update(zip(above[::2], above[1::2], strict=True))

    def do_build(self, _: None) -> None:
        """Attributes of a dictionary, such as the versions of modules (`_metadata`): not needed."""
        self.stack.pop()

    def do_binpersid(self, _: None) -> None:
        """A storage: ("storage", its kind, its key, where it was, its number of elements, ...)."""
        _word, kind, key, *_ = self.stack.pop()
        self.stack.append((kind, str(key)))

    def do_reduce(self, _: None) -> None:
        name, arguments = self.stack.pop(-2), self.stack.pop()
        if name == DICT:
            self.stack.append(dict(*arguments))
        elif name == PARAMETER:
            self.stack.append(arguments[0])
        elif name == TENSOR:
            (kind, key), offset, size, stride, *_ = arguments
            self.stack.append(StoredTensor(kind, key, int(offset), _integers(size), _integers(stride)))
        else:
            raise Refused(f"it calls {name!r}; only tensors are read")


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


# ---------------------------------------------------------------------------------------- the tensors
def _state_dict(content: Any, key: str | None) -> dict[str, StoredTensor]:
    """The dictionary of tensors in what the program built. Raises Refused, naming what is there, if there is none."""
    if not isinstance(content, dict):
        raise Refused(f"it holds a {type(content).__name__}; need a state dict: save model.state_dict()")
    if key is not None:
        if not isinstance(content.get(key), dict):
            raise Refused(f"it holds no dictionary {key!r}; its entries are {_names(content)}")
        content = content[key]
    for name, value in content.items():
        if not isinstance(value, StoredTensor) or not isinstance(name, str):
            kind = type(value).__name__
            raise Refused(f"the entry {name!r} is a {kind}, no tensor; choose the state dict by key: {_names(content)}")
    return content


def _names(content: dict) -> str:
    names = [str(name) for name in content]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "none"


def _check_total(tensors: Mapping[str, StoredTensor], most: int) -> None:
    """Raise Refused if all tensors together are larger than `most` bytes: views of one storage may be many."""
    size = sum(math.prod(tensor.size) * np.dtype(STORAGES[tensor.kind]).itemsize for tensor in tensors.values())
    if size > most:
        raise Refused(f"its tensors have {size:,} bytes; at most {most:,} are accepted for its size")


def _array(tensor: StoredTensor, storages: Mapping[str, bytes], order: str) -> np.ndarray:
    """The elements of a tensor, in an array of its own."""
    storage = np.frombuffer(storages[tensor.key], np.dtype(order + STORAGES[tensor.kind]))
    if len(tensor.size) != len(tensor.stride) or min((tensor.offset, *tensor.size, *tensor.stride)) < 0:
        raise ValueError(f"a tensor has size {tensor.size}, stride {tensor.stride} and offset {tensor.offset}")
    is_empty = 0 in tensor.size
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride))
    if not is_empty and last >= len(storage):
        raise ValueError(f"a tensor ends at element {last + 1:,} of a storage of {len(storage):,}")
    strides = tuple(step * storage.itemsize for step in tensor.stride)
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.size, strides, writeable=False)
    array = np.array(view, storage.dtype.newbyteorder("="), order="C")
    return from_bfloat16(array) if tensor.kind == "BFloat16" else array
