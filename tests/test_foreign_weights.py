"""Weights of other programs: files of torch.save and safetensors, right ones, damaged ones and malicious ones."""

from __future__ import annotations

import json
import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from torch_files import Parameter, Tensor, write_torch

import tinynet as tn
from tinynet.errors import CheckpointError

LAYOUTS = pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])


def arrays():
    return {
        "conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 4),
        "half": np.array([1.5, -2], "f2"),
        "double": np.array([np.pi]),
        "steps": np.array(7),
        "mask": np.array([True, False]),
        "none": np.zeros((0, 3), "f4"),
    }


def as_tensors(arrays):
    return OrderedDict(
        (name, Tensor(np.ascontiguousarray(a).ravel(), a.shape, [s // a.itemsize for s in a.strides]))
        for name, a in arrays.items()
    )


def same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        np.testing.assert_array_equal(actual[name], array)
        assert actual[name].shape == array.shape and actual[name].flags.writeable


# ---------------------------------------------------------------------------------------- PyTorch
@LAYOUTS
@pytest.mark.parametrize("order", ["little", "big"])
def test_tensors_of_both_layouts(tmp_path, old, order):
    write_torch(tmp_path / "w.pt", as_tensors(arrays()), old, order)
    same(tn.io.load_torch(tmp_path / "w.pt"), arrays())


@LAYOUTS
def test_views_parameters_and_bfloat16(tmp_path, old):
    storage = np.arange(20, dtype="f4")
    upper = (np.array([1.5, -3.0], "f4").view("u4") >> 16).astype("u2")
    content = {
        "transposed": Tensor(storage, (3, 4), (1, 3), 2),
        "parameter": Parameter(Tensor(storage, (4,), (2,), 1)),  # of the same storage
        "bfloat16": Tensor(upper),
    }
    write_torch(tmp_path / "w.pt", content, old)
    expected = {"transposed": storage[2:14].reshape(4, 3).T, "parameter": storage[1:9:2]}
    same(tn.io.load_torch(tmp_path / "w.pt"), {**expected, "bfloat16": np.array([1.5, -3.0], "f4")})


def test_a_state_dict_inside_a_dictionary_has_a_key(tmp_path):
    path = tmp_path / "run.pt"
    write_torch(path, {"epoch": 3, "lr": [0.1, (1, 2, 3)], "state_dict": as_tensors(arrays())})
    same(tn.io.load_torch(path, "state_dict"), arrays())
    with pytest.raises(CheckpointError, match=r"the entry 'epoch' is a int, no tensor; choose .* lr, state_dict"):
        tn.io.load_torch(path)
    with pytest.raises(CheckpointError, match="holds no dictionary 'model'; its entries are epoch, lr, state_dict"):
        tn.io.load_torch(path, "model")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


REFUSED = {
    "code": (Evil(), r"asks for (posix|nt).mkdir; only tensors are read"),
    "code in a state dict": ({"w": Tensor(np.zeros(2, "f4")), "x": Evil()}, "asks for (posix|nt).mkdir"),
    "a list": ([1, 2], "it holds a list; need a state dict"),
    "many views of few bytes": ({"w": Tensor(np.zeros(2, "f4"), (10**6, 10**6), (0, 0))}, "4,000,000,000,000 bytes"),
    "beyond the storage": ({"w": Tensor(np.zeros(4, "f4"), (3, 2), (2, 1))}, "ends at element 6 of a storage of 4"),
    "negative offset": ({"w": Tensor(np.zeros(4, "f4"), offset=-1)}, "offset -1"),
    "negative stride": ({"w": Tensor(np.zeros(4, "f4"), (2,), (-1,), 3)}, "stride"),
    "unlike axes": ({"w": Tensor(np.zeros(4, "f4"), (4,), (1, 1))}, "stride"),
    "a key that is no text": ({3: Tensor(np.zeros(4, "f4"))}, "the entry 3"),
}


@LAYOUTS
@pytest.mark.parametrize("name", REFUSED)
def test_refused_contents(tmp_path, monkeypatch, name, old):
    monkeypatch.chdir(tmp_path)
    content, message = REFUSED[name]
    write_torch(tmp_path / "w.pt", content, old)
    with pytest.raises(CheckpointError, match=message) as caught:
        tn.io.load_torch("w.pt")
    assert str(caught.value).startswith("w.pt") and not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("load", [tn.io.load_torch, tn.io.load_safetensors])
def test_files_that_are_none(tmp_path, load):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("weights")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a/b", "")
    for name in ("missing", "empty", "text", "zip", "."):
        with pytest.raises(CheckpointError, match=r"there is no file|damaged|without data.pkl|could not read"):
            load(tmp_path / name)


@pytest.mark.bench
@pytest.mark.parametrize("new", [False, True])
def test_files_of_pytorch(tmp_path, new):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'bench'")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(net.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    same(tn.io.load_torch(tmp_path / "w.pt"), {name: t.numpy() for name, t in net.state_dict().items()})
    torch.save(net, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match=r"asks for torch\.nn\.modules"):
        tn.io.load_torch(tmp_path / "net.pt")


# ---------------------------------------------------------------------------------------- safetensors
def test_safetensors_round_trip(tmp_path):
    path = tmp_path / "w.safetensors"
    tn.io.save_safetensors(path, {**arrays(), "foreign": np.arange(3, dtype=">i4")})
    same(tn.io.load_safetensors(path), {**arrays(), "foreign": np.arange(3, dtype="i4")})


def test_the_bytes_of_safetensors(tmp_path):
    """As the format's description has them."""
    header = b'{"__metadata__":{"a":"b"},"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + bytes.fromhex("c03f40c0"))
    same(tn.io.load_safetensors(tmp_path / "w"), {"w": np.array([1.5, -3], "f4")})
    tn.io.save_safetensors(tmp_path / "w", {"x": np.array([1, 2], "u1")})
    content = (tmp_path / "w").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert content[8 + length :] == b"\1\2" and length % 8 == 0
    assert json.loads(content[8 : 8 + length]) == {"x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}


@pytest.mark.parametrize(
    "entries",
    [
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"},
        {"w": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}},
        {"w": 3},
        [],
    ],
    ids=["short", "dtype", "negative", "gap", "overlap", "kind", "number", "list"],
)
def test_damaged_safetensors(tmp_path, entries):
    header = json.dumps(entries).encode()
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="damaged, or no safetensors file"):
        tn.io.load_safetensors(tmp_path / "w")


def test_what_safetensors_cannot_hold_is_refused(tmp_path):
    (tmp_path / "w").write_bytes(b"old")
    with pytest.raises(TypeError, match="w is of dtype complex128"):
        tn.io.save_safetensors(tmp_path / "w", {"w": np.array([1j])})
    assert (tmp_path / "w").read_bytes() == b"old"
