"""MNIST's idx files and MedMNIST's npz files: contents, and the messages for broken files."""

import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest

from tinynet.data import DataError, data_path, handwritten_digits, read_breastmnist, read_idx, read_medmnist, read_mnist
from tinynet.data import download as download_module
from tinynet.data.download import HASHES, SOURCES, fetch, find_data


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data folder, an empty cache."""
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYNET_DATA", raising=False)


def idx(values: np.ndarray, head: bytes | None = None) -> bytes:
    head = head or bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    # mtime=0: otherwise the bytes change every second
    return gzip.compress(head + values.astype(np.uint8).tobytes(), mtime=0)


def write_mnist(folder, count=3, size=28):
    folder.mkdir(parents=True, exist_ok=True)
    images = np.arange(count * size * size).reshape(count, size, size) % 251
    labels = np.arange(count) % 10
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    return images, labels


def test_mnist_from_a_data_folder_and_from_its_own(tmp_path):
    images, labels = write_mnist(tmp_path / "mnist")
    for given in (tmp_path, tmp_path / "mnist"):
        digits = read_mnist("test", given)
        assert digits.images.dtype == np.uint8 and digits.images.shape == (3, 28, 28, 1)
        np.testing.assert_array_equal(digits.images[..., 0], images)
        np.testing.assert_array_equal(digits.labels, labels)
        assert digits.labels.dtype == np.int64 and len(digits) == 3 and len(digits.classes) == 10
    assert digits.subset(digits.labels > 0).labels.tolist() == [1, 2]
    rows = digits.subset(slice(1, 2)).rows()
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, images[1:2].reshape(1, 784) / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="part is 'val'; it must be 'train' or 'test'"):
        read_mnist("val", tmp_path)


WHOLE = bytes([0, 0, 8, 2]) + struct.pack(">2I", 2, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "not an idx file of unsigned bytes: it starts with nothing", id="empty"),
        pytest.param(b"<html>not found</html>", "not a readable gzip file", id="html"),
        pytest.param(idx(np.arange(6), WHOLE)[:-9], "not a readable gzip file", id="gzip cut short"),
        pytest.param(idx(np.arange(6), bytes([0, 0, 13, 2]) + WHOLE[4:]), "it starts with 00 00 0d 02", id="floats"),
        pytest.param(idx(np.arange(6), bytes([0, 0, 8, 200]) + WHOLE[4:]), "it starts with 00 00 08 c8", id="200 axes"),
        pytest.param(idx(np.arange(0), WHOLE[:9]), "cut short within its header", id="header cut short"),
        pytest.param(idx(np.arange(5), WHOLE), r"header says \(2, 3\), 6 values; the file holds 5", id="a value less"),
        pytest.param(idx(np.arange(7), WHOLE), "6 values; the file holds 7", id="a value more"),
        pytest.param(idx(np.arange(6), WHOLE[:4] + b"\xff" * 8), "the file holds 6", id="no such memory"),
        pytest.param(idx(np.zeros(2**24), WHOLE), "unpacks to more than 16,777,216 bytes, which", id="a bomb"),
    ],
)
def test_broken_idx_files_are_named(tmp_path, content, message):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_flipped_bit_is_seen_by_the_checksum(tmp_path):
    path = tmp_path / "x.gz"
    content = bytearray(gzip.compress(WHOLE + bytes(range(6)), compresslevel=0))  # level 0: not compressed
    content[-10] ^= 1  # the last value; the checksum and the length follow it
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable gzip file"):
        read_idx(path)


def test_a_bomb_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(idx(np.zeros(2**26, np.uint8), WHOLE))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unpacks to more than"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**24  # 16 MB are accepted, and the parts are joined
    finally:
        tracemalloc.stop()


def test_idx_files_that_are_not_mnist(tmp_path):
    write_mnist(tmp_path, size=20)
    with pytest.raises(DataError, match=r"train-images.*\(3, 20, 20\); digits of 28 x 28 pixels"):
        read_mnist("train", tmp_path)
    write_mnist(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(idx(np.arange(4)))
    with pytest.raises(DataError, match=r"train-labels.*\(4,\) for 3 images"):
        read_mnist("train", tmp_path)
    labels.write_bytes(idx(np.array([1, 2, 10])))
    with pytest.raises(DataError, match="a label is 10; digits from 0 to 9"):
        read_mnist("train", tmp_path)


def test_without_mnist_there_are_small_digits(nowhere, tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is in the extra 'examples'")
    training, test, source = handwritten_digits()
    assert training.images.shape == (1437, 28, 28, 1) and len(test) == 360 and training.images.dtype == np.uint8
    assert "scikit-learn's small digits" in source and SOURCES["mnist/train-images-idx3-ubyte.gz"] in source
    assert training.images.max() == 255 and not training.images[:, :4].any() and np.unique(test.labels).size == 10
    with pytest.raises(DataError, match="was not found in "):
        handwritten_digits(tmp_path)


def write_npz(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    arrays.update(changes)
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def test_breastmnist_says_1_for_malignant(tmp_path):
    arrays = write_npz(tmp_path / "breastmnist.npz")
    for given in (tmp_path, tmp_path / "breastmnist.npz"):
        breasts = read_breastmnist("train", given)
        np.testing.assert_array_equal(breasts.images[..., 0], arrays["train_images"])
        assert breasts.labels.tolist() == [1, 0, 1, 0, 1] and breasts.classes[1] == "malignant"
    write_npz(tmp_path / "breastmnist.npz", train_labels=arrays["train_labels"][:, 0])  # in some copies (N,)
    assert read_breastmnist("train", tmp_path).labels.tolist() == [1, 0, 1, 0, 1]
    assert len(read_breastmnist("val", tmp_path)) == 2 and len(read_breastmnist("test", tmp_path)) == 3
    with pytest.raises(ValueError, match="part is 'all'; it must be one of train, val, test"):
        read_breastmnist("all", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, "no array train_images; a MedMNIST file has train_images and train_labels"),
        ({"train_images": np.zeros((5, 28, 28))}, r"train_images is float64 \(5, 28, 28\); uint8"),
        ({"train_labels": np.zeros((4, 1), np.uint8)}, r"train_labels is uint8 \(4, 1\); whole numbers \(5, tasks\)"),
        ({"train_labels": np.array([[print]] * 5, dtype=object)}, "not a readable npz file of plain arrays"),
        ({"train_labels": np.full((5, 1), 3, np.uint8)}, "labels from 0 to 3"),
        ({"train_labels": np.array([[0], [1], [-1], [0], [1]])}, "labels from -1 to 1"),
        ({"train_images": np.zeros((5, 64, 64), np.uint8)}, r"images \(5, 64, 64\)"),
    ],
)
def test_broken_medmnist_files_are_named(tmp_path, changes, message):
    path = tmp_path / "breastmnist.npz"
    write_npz(path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_breastmnist("train", path)
    assert str(caught.value).startswith(f"{path}: ")


def test_medmnist_files_that_are_no_archives(tmp_path):
    path = tmp_path / "breastmnist.npz"
    write_npz(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[200] ^= 0xFF
    many = {"train_images": np.full((50, 28, 28), 7, np.uint8), "train_labels": np.ones((50, 1), int)}
    np.savez(path, **many)  # so large that a reader may stop before the end, where the checksum is compared
    shorter_header = bytearray(path.read_bytes())
    shorter_header[shorter_header.index(b"\x93NUMPY") + 8] ^= 0x10  # shifts the values of the images
    np.savez_compressed(tmp_path / "bomb.npz", **{**many, "train_images": np.zeros((40_000, 28, 28), np.uint8)})
    with pytest.raises(DataError, match=r"unpacks to 31,\d+,\d+ bytes; at most 16,777,216 are accepted for its size"):
        read_medmnist(tmp_path / "bomb.npz", "train")
    for content in (b"", b"no archive", whole[:500], bytes(damaged), bytes(shorter_header)):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable npz file"):
            read_medmnist(path, "train")


def test_a_missing_file_is_named_with_its_address(nowhere):
    with pytest.raises(DataError, match=r"mnist/train-images-idx3-ubyte.gz was not found .* https://\S+"):
        read_mnist("train")
    with pytest.raises(DataError, match=r"medmnist/breastmnist.npz was not found .* https://zenodo\S+"):
        read_breastmnist("test")


def test_a_download_of_another_file_is_refused(nowhere, monkeypatch):
    """The hash is known, so even the first download must have it."""
    import pooch

    def retrieve(url, known_hash, fname, path, progressbar):
        assert url == SOURCES["medmnist/breastmnist.npz"] and known_hash == HASHES["medmnist/breastmnist.npz"]
        raise ValueError("hash does not match")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match="hash does not match"):
        fetch("medmnist/breastmnist.npz")
    assert set(HASHES) <= set(download_module.SOURCES) and all(len(h) == 64 for h in HASHES.values())


def test_find_data_wants_the_file_itself(nowhere, tmp_path):
    with pytest.raises(DataError, match="was not found in TINYNET_DATA or in the cache"):
        find_data("medmnist/breastmnist.npz")
    with pytest.raises(DataError, match=f"was not found in {tmp_path}"):
        find_data("medmnist/breastmnist.npz", tmp_path)


def test_the_real_sets():
    if not os.environ.get("TINYNET_DATA") or data_path("mnist/t10k-images-idx3-ubyte.gz") is None:
        pytest.skip("TINYNET_DATA does not name a folder with MNIST")
    training, test = read_mnist("train"), read_mnist("test")
    assert training.images.shape == (60000, 28, 28, 1) and test.images.shape == (10000, 28, 28, 1)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    if data_path("medmnist/breastmnist.npz") is None:
        pytest.skip("TINYNET_DATA does not name a folder with BreastMNIST")
    parts = [read_breastmnist(part) for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [546, 78, 156]
    assert [int(part.labels.sum()) for part in parts] == [147, 21, 42]
