"""Checkpoints: round trip, refused files, and the state of the disk after a failed write."""

import errno
import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tinynet import io, nn
from tinynet.files import locked, open_zip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "last.npz"


def sections():
    return {
        "model": {"0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.ones(2, np.float16)},
        "optimizer": {"lr": 0.1, "steps": 3, "mean": {"0": np.ones(2), "1": np.zeros((0, 3))}},
        "schedule": {},
        "run": {"epoch": 7, "best": float("inf"), "name": "a run", "done": True},
    }


def model():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Dropout(0.5), nn.Linear(3, 1))


# ---------------------------------------------------------------------------------------- round trip
def test_round_trip(path):
    io.save_checkpoint(path, sections(), {"settings": {"lr": 0.1}, "note": "größer"})
    actual, meta = io.load_checkpoint(path)
    assert meta == {"settings": {"lr": 0.1}, "note": "größer"}
    assert list(actual) == list(sections())
    np.testing.assert_array_equal(actual["model"]["0.weight"], sections()["model"]["0.weight"])
    assert actual["model"]["0.weight"].dtype == np.float32 and actual["model"]["half"].dtype == np.float16
    assert actual["optimizer"]["mean"]["1"].shape == (0, 3)
    assert actual["optimizer"]["lr"] == 0.1 and actual["optimizer"]["steps"] == 3
    assert actual["run"] == sections()["run"] and actual["schedule"] == {}
    assert [type(value) for value in actual["run"].values()] == [int, float, str, bool]


def test_a_checkpoint_is_a_plain_npz_without_pickles(path):
    io.save_checkpoint(path, sections())
    with np.load(path, allow_pickle=False) as archive:
        assert "optimizer/mean/0" in archive.files
        assert json.loads(archive["metadata"].item())["version"] == 1


@pytest.mark.parametrize(
    ("contents", "error", "message"),
    [
        ({"model": {"a": object()}}, TypeError, "model/a is a object"),
        ({"model": {"a": None}}, TypeError, "model/a is a NoneType"),
        ({"model": {"a/b": 1}}, ValueError, "'a/b'"),
        ({"model": {3: 1}}, ValueError, "key 3"),
        ({"model": 3}, TypeError, "section 'model' is a int"),
    ],
)
def test_contents_that_cannot_be_stored_are_refused_before_a_file_is_written(path, contents, error, message):
    with pytest.raises(error, match=message):
        io.save_checkpoint(path, contents)
    assert not path.parent.exists()


def test_meta_must_be_json(path):
    with pytest.raises(TypeError, match="meta cannot be stored"):
        io.save_checkpoint(path, {}, {"array": np.ones(2)})


# ---------------------------------------------------------------------------------------- weights
@pytest.mark.parametrize("whole", [False, True], ids=["weights alone", "a whole checkpoint"])
def test_weights_load_into_a_model_and_leave_its_random_streams(path, whole):
    first, second = model(), model()
    stream = second[1].random_state.copy()
    if whole:
        io.save_checkpoint(path, {"model": first.state_dict(), "run": {"epoch": 3}}, {"dice": 0.9})
    else:
        io.save_weights(path, first, {"dice": 0.9})
    assert io.load_weights(path, second) == {"dice": 0.9}
    np.testing.assert_array_equal(first[0].weight.data, second[0].weight.data)
    np.testing.assert_array_equal(second[1].random_state, stream)
    assert ("1.random_state" in io.load_checkpoint(path)[0]["model"]) == whole


def test_half_precision_weights_load_into_a_float32_model(path):
    first, second = model(), model()
    io.save_weights(path, first, dtype=np.float16)
    assert io.load_checkpoint(path)[0]["model"]["0.weight"].dtype == np.float16
    io.load_weights(path, second)
    assert second[0].weight.dtype == np.float32
    np.testing.assert_allclose(first[0].weight.data, second[0].weight.data, rtol=1e-3)
    first[0].weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"0.weight has values too large for float16"):
        io.save_weights(path, first, dtype=np.float16)


def test_weights_of_another_model_are_named(path):
    io.save_weights(path, nn.Sequential(nn.Conv2d(2, 4, 3), nn.Linear(3, 1)))
    target = model()
    before = target.state_dict()
    with pytest.raises(io.CheckpointError) as error:
        io.load_weights(path, target)
    for part in (str(path), "missing: 2.weight", "unknown to the model: 1.weight", "(3, 3, 2, 4)"):
        assert part in str(error.value)
    for name, value in target.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_checkpoint_without_a_model(path):
    io.save_checkpoint(path, {"run": {"epoch": 1}})
    with pytest.raises(io.CheckpointError, match="no section 'model'; it holds run"):
        io.load_weights(path, model())


# ---------------------------------------------------------------------------------------- broken files
def refused(path, message):
    with pytest.raises(io.CheckpointError, match=message) as error:
        io.load_checkpoint(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path):
    refused(tmp_path / "none.npz", "there is no checkpoint")
    refused(tmp_path, "could not read")


@pytest.mark.parametrize("content", [b"", b"PK", b"epoch,loss\n1,2\n", b"\x93NUMPY\x01\x00"])
def test_a_file_of_another_kind(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", "is not a tinynet checkpoint")


def test_an_npz_of_someone_else(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    refused(tmp_path / "a.npz", "not a tinynet checkpoint")
    np.savez(tmp_path / "b.npz", metadata=np.array('["a", "list"]'))
    refused(tmp_path / "b.npz", "not a tinynet checkpoint")


def test_a_pickle_inside_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    np.savez(tmp_path / "a.npz", metadata=np.array([Bomb()], dtype=object))
    refused(tmp_path / "a.npz", "damaged")
    assert not (tmp_path / "exploded").exists()


def test_a_truncated_file_at_every_tenth(path):
    io.save_checkpoint(path, sections())
    whole = path.read_bytes()
    for tenth in range(1, 10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        refused(path, "cut short or damaged")


def flipped(content, place, bit):
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def test_a_flipped_bit_is_noticed_or_harmless(path):
    """Everywhere but in the values: headers of the arrays, whose length a reader trusts, and the table of contents.

    Harmless are dates, for example.
    """
    io.save_checkpoint(path, {"model": {"w": np.arange(10_000, dtype=np.float32)}})
    whole = path.read_bytes()
    array = whole.rindex(b"\x93NUMPY")
    places = [*range(array, array + 12), array + 4000, *range(whole.index(b"PK\x01\x02"), len(whole), 4)]
    for place in places:
        for bit in range(8):
            path.write_bytes(flipped(whole, place, bit))
            try:
                sections, _ = io.load_checkpoint(path)
            except io.CheckpointError as error:
                assert str(path) in str(error)
            else:
                assert place > array + 4000
                np.testing.assert_array_equal(sections["model"]["w"], np.arange(10_000, dtype=np.float32))


def repacked(path, change):
    """Write the archive again after a change of {name: array}, with correct checksums."""
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)


def test_entries_that_are_missing_from_an_archive_are_noticed(path):
    """The first entry's comment is as long as the second entry, which it hides."""
    io.save_checkpoint(path, {"model": {"a": 1, "b": 2}})
    content = bytearray(path.read_bytes())
    first, second, third = (match.start() for match in re.finditer(b"PK\x01\x02", content))
    assert len(open_zip(path).infolist()) == 3
    content[first + 32 : first + 34] = (third - second).to_bytes(2, "little")
    path.write_bytes(content)
    refused(path, "its table of contents has 2 of 3 entries")


def test_bytes_after_an_array_are_refused(path):
    io.save_checkpoint(path, sections())
    with zipfile.ZipFile(path, "a") as archive, archive.open("model/more.npy", "w") as member:
        np.lib.format.write_array(member, np.ones(3))
        member.write(b"more")
    refused(path, "model/more.npy does not end where its array ends")


def test_a_missing_array_is_noticed_by_the_digest(path):
    io.save_checkpoint(path, sections())
    repacked(path, lambda arrays: arrays.pop("optimizer/mean/0"))
    refused(path, "damaged: its contents do not have the digest")


def test_a_checkpoint_of_an_earlier_version_has_no_digest(path):
    io.save_checkpoint(path, sections(), {"note": 1})
    old = {"format": "tinynet checkpoint", "version": 1, "sections": list(sections()), "meta": {"note": 1}}
    repacked(path, lambda arrays: arrays.update(metadata=np.array(json.dumps(old))))
    assert io.load_checkpoint(path)[1] == {"note": 1}


@pytest.mark.parametrize(
    "arrays",
    [{"a/b": 1}, {"model/a": 1, "model/a/b": 1}, {"model/a": np.zeros(2, "M8[s]")}],
    ids=["another section", "an array as a folder", "dates"],
)
def test_arrays_that_fit_no_section(path, arrays):
    path.parent.mkdir()
    header = {"format": "tinynet checkpoint", "version": 1, "sections": ["model"], "meta": {}}
    np.savez(path, metadata=np.array(json.dumps(header)), **arrays)
    refused(path, "is damaged")


@pytest.mark.parametrize("version", [2, "x", None])
def test_an_unknown_version(path, version):
    header = {"format": "tinynet checkpoint", "sections": [], "meta": {}}
    if version is not None:
        header["version"] = version
    path.parent.mkdir()
    np.savez(path, metadata=np.array(json.dumps(header)))
    refused(path, f"has version {version} of the checkpoint format; this program reads version 1")


@pytest.mark.parametrize("parts", [{"meta": {}}, {"sections": None, "meta": {}}, {"sections": ["model"]}])
def test_metadata_that_lack_a_part(path, parts):
    path.parent.mkdir()
    np.savez(path, metadata=np.array(json.dumps({"format": "tinynet checkpoint", "version": 1, **parts})))
    refused(path, "damaged")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_refused_before_they_change_the_model(path, value):
    net, before = model(), model()
    before.load_state_dict(net.state_dict())
    state = net.state_dict()
    state["2.bias"] = np.full_like(state["2.bias"], value)
    io.save_checkpoint(path, {"model": state})
    with pytest.raises(io.CheckpointError, match=r"last.npz cannot be used: NaN or infinite values in 2.bias"):
        io.load_weights(path, net)
    for name, weight in before.named_parameters():
        assert np.array_equal(dict(net.named_parameters())[name].numpy(), weight.numpy()), name


# ---------------------------------------------------------------------------------------- failed writes
def unchanged(path, content):
    """The old file is the only file in its folder."""
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_keeps_the_old_file_and_leaves_no_litter(path, monkeypatch):
    io.save_checkpoint(path, sections())
    old = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # some disks report this only here
    with pytest.raises(io.CheckpointError, match=r"last.npz: No space left on device; the file .* as it was"):
        io.save_checkpoint(path, {"model": {"w": np.ones(3)}})
    unchanged(path, old)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [10, 1000, 20_000, 45_000])
def test_a_write_that_stops_half_way(path, limit):
    """write() fails, as on a full disk; here at the operating system's limit on the size of a file."""
    import resource

    io.save_checkpoint(path, sections())
    old = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(io.CheckpointError, match="too large; the file that was there is as it was"):
            io.save_checkpoint(path, {"model": {"a": np.ones(3000), "b": np.ones(3000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    unchanged(path, old)


def test_the_file_is_complete_when_it_is_synced(path, monkeypatch):
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda number: sizes.append(os.fstat(number).st_size))
    io.save_checkpoint(path, sections())
    assert sizes == [path.stat().st_size]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(io.CheckpointError, match="could not save") as error:
        io.save_checkpoint(tmp_path / "file" / "last.npz", sections())
    assert "as it was" not in str(error.value) and "last.npz" in str(error.value)


@pytest.mark.parametrize("name", ["out/last", "out [1]/last", "out/run [1]"])
def test_a_save_removes_the_temporary_file_of_a_killed_process(tmp_path, name):
    path = tmp_path / f"{name}.npz"
    path.parent.mkdir()
    (path.parent / f".{path.stem}.0123abcd.part.npz").write_bytes(b"left over")
    io.save_checkpoint(path, sections())
    assert os.listdir(path.parent) == [path.name]


def test_a_lock_is_held_by_one_and_free_after_its_process_was_killed(tmp_path):
    program = (
        "import sys, time\nfrom tinynet.files import locked, open_zip\n"
        "with locked(sys.argv[1]): print('held', flush=True), time.sleep(600)"
    )
    path = tmp_path / "a.lock"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError), locked(path, wait=False):
        pass
    process.kill()
    process.communicate()
    for _ in range(2):
        with locked(path, wait=False), pytest.raises(BlockingIOError), locked(path, wait=False):
            pass


def test_atomic_path_deletes_its_temporary_file_on_any_error(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyError), io.atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        raise KeyError
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_atomic_path_names_the_file_not_its_temporary_one(tmp_path):
    """The error names the file that the user asked for: not its temporary file, and not no file, as on a full disk."""
    path = tmp_path / "a.csv"
    nameless = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for attempt in (nameless, None):
        with pytest.raises(OSError) as error, io.atomic_path(path) as temporary:
            if attempt:
                raise attempt
            temporary.read_bytes()
        assert error.value.filename == str(path) and str(error.value).endswith(f": '{path}'")
    with pytest.raises(FileNotFoundError) as error, io.atomic_path(path):
        (tmp_path / "another").read_bytes()
    assert error.value.filename == str(tmp_path / "another")
    path.write_text("in the way")
    with pytest.raises(NotADirectoryError) as error, io.atomic_path(path / "b.csv"):
        pass
    assert error.value.filename == str(path)
