"""Damages files and reads them: a program, because reading damaged files may need limits on memory and time.

    python tests/fuzzing.py FOLDER COUNT [READER ...]

It prints one line for each file that was neither read right nor refused with a sentence that names it, and a summary as
JSON in the last line. Formats without a checksum cannot show every damage: there, right means of the right kind.
"""

from __future__ import annotations

import json
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nuclei_files import kaggle_files, squares, write_zip
from PIL import Image
from torch_files import Tensor, write_torch

from tinynet import data, nn
from tinynet.data.files import ImageFiles
from tinynet.errors import CheckpointError, DataError
from tinynet.training import io
from tinynet.training.figures import _read_columns

MEMORY = 2**30  # bytes that reading may take in addition
SECONDS = 20


@dataclass
class Reader:
    """How a file is made and read.

    exact: the format has a checksum, so what is read must equal the original. A tuple names the suffixes of such files.
    """

    write: Callable[[Path], list[Path]]  # to a folder; returns the files to damage
    read: Callable[[Path], Any]  # from the folder
    exact: bool | tuple[str, ...] = True


# ---------------------------------------------------------------------------------------- damages
def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to three damages, as by a disk, a broken transfer, an editor or an attacker."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        size = max(1, len(changed))
        at, length = int(rng.integers(size)), int(rng.integers(1, 33))
        kind = rng.integers(8)
        if kind <= 2 and changed:
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = rng.bytes(length)
        elif kind == 6:
            changed[at : at + length] = bytes([int(rng.choice((0, 255)))]) * length
        else:
            other = int(rng.integers(size))
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


# ---------------------------------------------------------------------------------------- readers
def one_file(name: str, write: Callable[[Path], Any]) -> Callable[[Path], list[Path]]:
    def write_to(folder: Path) -> list[Path]:
        write(folder / name)
        return [folder / name]

    return write_to


def picture(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    values = (rows * 7 + columns * 11) % 251
    return np.broadcast_to(values.reshape(*shape[:2], *(1,) * (len(shape) - 2)), shape).astype(dtype)


def save_weights(path: Path) -> None:
    io.save_weights(path, nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 1)), {"note": 1})


def load_weights(folder: Path) -> Any:
    net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 1))
    return io.load_weights(folder / "w.npz", net), net.state_dict()


def save_state(path: Path) -> None:
    moments = {"0": np.ones((3, 8)), "1": np.zeros(8)}
    state = {"model": {"w": np.arange(3000, dtype="f4")}, "optimizer": {"lr": 0.1, "mean": moments}}
    io.save_checkpoint(path, {**state, "progress": {"epoch": 3, "best": float("nan")}}, {"history": [{"epoch": 1}]})


def save_torch(path: Path, old: bool = False) -> None:
    tensors = {"w": Tensor(np.ones(24, "f4"), (3, 8), (8, 1)), "b": Tensor(np.arange(8))}
    write_torch(path, tensors, old)


def write_medmnist(path: Path) -> None:
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = np.stack([picture((28, 28)) + i for i in range(9)])
        arrays[f"{part}_labels"] = (np.arange(9, dtype=np.uint8) % 2)[:, None]
    np.savez_compressed(path, **arrays)


def write_mnist(folder: Path) -> list[Path]:
    import gzip

    heads = {"images-idx3": bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 28, 0, 0, 0, 28])}
    heads["labels-idx1"] = bytes([0, 0, 8, 1, 0, 0, 0, 9])
    values = {"images-idx3": np.stack([picture((28, 28))] * 9), "labels-idx1": np.arange(9, dtype=np.uint8)}
    paths = [folder / f"train-{kind}-ubyte.gz" for kind in heads]
    for path, kind in zip(paths, heads):
        path.write_bytes(gzip.compress(heads[kind] + values[kind].tobytes(), mtime=0))
    return paths


def write_table(path: Path) -> None:
    rows = [",".join(["1"] * 33 + [str(20 + i), str(1 + i % 6)]) for i in range(12)]
    path.write_text("\n".join(rows) + "\n")


def write_ecg(folder: Path) -> list[Path]:
    import wfdb

    heart = data.synthetic_ecg(np.random.default_rng(0), seconds=6)
    settings = {"units": ["mV", "mV"], "sig_name": ["I", "II"], "fmt": ["212", "212"], "write_dir": str(folder)}
    wfdb.wrsamp("100", fs=360, p_signal=heart.signal.astype(np.float64), **settings)
    wfdb.wrann("100", "atr", heart.beats, heart.symbols.tolist(), write_dir=str(folder))
    return [folder / f"100{suffix}" for suffix in (".hea", ".dat", ".atr")]


def nifti(values: np.ndarray) -> bytes:
    import nibabel

    return nibabel.Nifti1Image(values, np.eye(4)).to_bytes()


def write_hippocampus(path: Path) -> None:
    import gzip
    import io
    import tarfile

    with tarfile.open(path, "w") as archive:
        for number in range(3):
            values = np.stack([picture((12, 10))] * 8) + number
            for folder, content in (("imagesTr", values), ("labelsTr", values % 3)):
                packed = gzip.compress(nifti(content), mtime=0)
                member = tarfile.TarInfo(f"Task04/{folder}/hippocampus_{number:03d}.nii.gz")
                member.size = len(packed)
                archive.addfile(member, io.BytesIO(packed))


def image_reader(suffix: str, exact: bool = False, shape: tuple[int, ...] = (40, 50, 3), **options: Any) -> Reader:
    dtype = options.pop("dtype", np.uint8)

    def write(path: Path) -> None:
        if suffix == ".tif" and options.get("compression") != "tiff_lzw":  # which tifffile does not write
            import tifffile

            tifffile.imwrite(path, picture(shape, dtype), photometric="rgb" if len(shape) == 3 else None, **options)
        else:
            Image.fromarray(picture(shape, dtype)).save(path, **options)

    def read(folder: Path) -> np.ndarray:
        with ImageFiles(folder / f"image{suffix}") as files:
            return files.read_array(f"image{suffix}")

    return Reader(one_file(f"image{suffix}", write), read, exact)


def stack_reader(**options: Any) -> Reader:
    """A stack of a microscope: two time points, two slices, two channels."""

    def write(path: Path) -> None:
        import tifffile

        values = np.stack([picture((30, 40), np.uint16) + i for i in range(8)]).reshape(2, 2, 2, 30, 40)
        channels = {"Channel": {"Name": ["DAPI", "GFP"]}} if "ome" in options else {}
        metadata = {"axes": "TZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, **channels}
        tifffile.imwrite(path, values, metadata=metadata, **options)

    def read(folder: Path) -> list[np.ndarray]:
        planes = data.read_planes(folder / "stack.tif", channel=2)
        return [array for plane in planes for array in plane.channels.values()]

    return Reader(one_file("stack.tif", write), read, exact=False)


def write_nuclei(path: Path) -> None:
    write_zip(path, {**kaggle_files("first", squares()), **kaggle_files("second", squares((36, 44)))})


def read_nuclei(folder: Path) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = data.read_nuclei(folder / "nuclei.zip", progress=False)
    return [array for sample in samples for array in (sample.image, sample.labels)]


READERS = {
    "checkpoint": Reader(one_file("last.npz", save_state), lambda folder: io.load_checkpoint(folder / "last.npz")),
    "weights": Reader(one_file("w.npz", save_weights), load_weights),
    "torch": Reader(one_file("w.pt", save_torch), lambda folder: io.load_torch(folder / "w.pt")),
    "torch_old": Reader(
        one_file("w.pt", lambda path: save_torch(path, old=True)), lambda folder: io.load_torch(folder / "w.pt"), False
    ),
    "safetensors": Reader(
        one_file("w.st", lambda path: io.save_safetensors(path, {"w": np.ones((3, 8), "f4"), "b": np.arange(8)})),
        lambda folder: io.load_safetensors(folder / "w.st"),
        exact=False,
    ),
    "medmnist": Reader(
        one_file("b.npz", write_medmnist), lambda folder: data.read_breastmnist("train", folder / "b.npz")
    ),
    "mnist": Reader(write_mnist, lambda folder: data.read_mnist("train", folder)),
    "table": Reader(one_file("t.data", write_table), lambda folder: data.dermatology(folder / "t.data"), exact=False),
    "metrics": Reader(
        one_file("m.csv", lambda path: path.write_text("epoch,loss\n1,0.5\n2,0.25\n")),
        lambda folder: _read_columns(folder / "m.csv"),
        exact=False,
    ),
    "ecg": Reader(write_ecg, lambda folder: data.read_ecg(folder / "100.dat"), exact=(".dat",)),
    "nifti": Reader(
        one_file("v.nii", lambda path: path.write_bytes(nifti(np.stack([picture((12, 10))] * 8)))),
        lambda folder: data.read_volume(folder / "v.nii"),
        exact=False,
    ),
    "hippocampus": Reader(
        one_file("h.tar", write_hippocampus), lambda folder: data.read_hippocampus(folder / "h.tar"), exact=True
    ),
    "nuclei": Reader(one_file("nuclei.zip", write_nuclei), read_nuclei, exact=True),
    "png": image_reader(".png", exact=True),
    "png 16": image_reader(".png", exact=True, shape=(40, 50), dtype=np.uint16),
    "jpeg": image_reader(".jpg"),
    "bmp": image_reader(".bmp"),
    "tiff": image_reader(".tif"),
    "ome": stack_reader(ome=True, compression="zlib"),
    "ome big": stack_reader(ome=True, bigtiff=True, tile=(16, 16)),
    "imagej": stack_reader(imagej=True),
    "shaped": stack_reader(truncate=True),
    "tiff lzw": image_reader(".tif", compression="tiff_lzw"),
    "tiff 16": image_reader(".tif", shape=(40, 50), dtype=np.uint16, compression="zlib", tile=(16, 16)),
}


# ---------------------------------------------------------------------------------------- the program
def parts(value: Any) -> list[Any]:
    """The arrays and plain values inside of what a reader returned."""
    if hasattr(value, "__dict__"):
        value = vars(value)
    if isinstance(value, dict):
        return [part for key in value for part in [key, *parts(value[key])]]
    if isinstance(value, (tuple, list)):
        return [part for item in value for part in parts(item)]
    return [value]


def equal(found: Any, expected: Any) -> bool:
    found, expected = parts(found), parts(expected)
    return len(found) == len(expected) and all(
        np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f") for a, b in zip(found, expected)
    )


def outcome(reader: Reader, folder: Path, path: Path, expected: Any) -> str:
    """ "right", "sentence", or what was wrong."""
    signal.alarm(SECONDS)
    try:
        found = reader.read(folder)
    except (DataError, CheckpointError, ValueError) as error:
        own = isinstance(error, (DataError, CheckpointError)) or path.suffix == ".csv"
        return "sentence" if own and path.stem in str(error) else f"{type(error).__name__}: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    has_checksum = reader.exact if isinstance(reader.exact, bool) else path.suffix in reader.exact
    return "right" if not has_checksum or equal(found, expected) else "other data, without a word"


def too_slow(*_: Any) -> None:
    raise TimeoutError(f"reading took {SECONDS} s")


def limit_memory() -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def fuzz(name: str, folder: Path, count: int) -> Counter:
    reader, rng, outcomes = READERS[name], np.random.default_rng(list(name.encode())), Counter()
    folder.mkdir(parents=True)
    originals = {path: path.read_bytes() for path in reader.write(folder)}
    expected = reader.read(folder)
    for number in range(count):
        path = list(originals)[number % len(originals)]
        path.write_bytes(damage(originals[path], rng))
        what = outcome(reader, folder, path, expected)
        outcomes[what if what in ("right", "sentence") else "wrong"] += 1
        if what not in ("right", "sentence"):
            kept = folder.parent / f"{name}-{number}{path.suffix}"
            kept.write_bytes(path.read_bytes())
            print(f"{name} {number} {kept}: {what}", flush=True)
        path.write_bytes(originals[path])
    return outcomes


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, too_slow)
    folder = Path(sys.argv[1])
    chosen = sys.argv[3:] or list(READERS)
    for name in chosen:  # imports what the readers need, before memory is limited
        fuzz(name, folder / "first" / name, 1)
    limit_memory()
    print(json.dumps({name: fuzz(name, folder / name, int(sys.argv[2])) for name in chosen}))
