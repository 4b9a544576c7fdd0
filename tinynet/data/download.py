"""`data_path` finds data on this machine, `fetch` downloads the official files."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

from ..errors import DataError
from ..files import cache_folder

BBBC038 = "https://data.broadinstitute.org/bbbc/BBBC038/"
UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/"
MITDB = "https://physionet.org/files/mitdb/1.0.0/"
MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
# Name -> address. Image set BBBC038 of the Broad Bioimage Benchmark Collection (Caicedo et al. 2019), CC0; tables of
# the UCI Machine Learning Repository, CC BY 4.0; MNIST (LeCun et al. 1998), CC BY-SA 3.0; MedMNIST (Yang et al. 2023),
# CC BY 4.0; record 100 of the MIT-BIH Arrhythmia Database (Moody and Mark 2001), ODC-By; the hippocampus
# set of the Medical Segmentation Decathlon (Antonelli et al. 2022), CC BY-SA 4.0.
SOURCES = {
    "dsb2018/stage1_train.zip": BBBC038 + "stage1_train.zip",
    "dsb2018/stage1_test.zip": BBBC038 + "stage1_test.zip",
    "dsb2018/stage1_solution.csv": BBBC038 + "stage1_solution.csv",
    "tables/dermatology.data": UCI + "dermatology/dermatology.data",
    "tables/processed.cleveland.data": UCI + "heart-disease/processed.cleveland.data",
    "mnist/train-images-idx3-ubyte.gz": MNIST + "train-images-idx3-ubyte.gz",
    "mnist/train-labels-idx1-ubyte.gz": MNIST + "train-labels-idx1-ubyte.gz",
    "mnist/t10k-images-idx3-ubyte.gz": MNIST + "t10k-images-idx3-ubyte.gz",
    "mnist/t10k-labels-idx1-ubyte.gz": MNIST + "t10k-labels-idx1-ubyte.gz",
    "hippocampus/Task04_Hippocampus.tar": "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
    "mitbih/100.hea": MITDB + "100.hea",
    "mitbih/100.dat": MITDB + "100.dat",
    "mitbih/100.atr": MITDB + "100.atr",
    "medmnist/breastmnist.npz": "https://zenodo.org/records/10519652/files/breastmnist.npz?download=1",
}
# SHA-256 of the files with a known hash; the publishers of the other files give none.
HASHES = {
    "mnist/train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "mnist/train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "mnist/t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "mnist/t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    "mitbih/100.dat": "b2ea3c250e56e48f4b7b90697832b8ecd1afa1e0bb31f2dcfea4ed6e1075a639",
    "mitbih/100.atr": "8d8a5349fb16638ebbf649f1779d12e96d91b736b2aafe59db43719ae583d471",
    "medmnist/breastmnist.npz": "3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1",
}
IMAGES = {"dsb2018/stage1_train.zip": 670, "dsb2018/stage1_test.zip": 65}  # the number of images in each archive


def downloads() -> Path:
    """The folder of downloads in tinynet's cache."""
    return cache_folder() / "data"


def data_path(name: str, given: str | Path | None = None) -> Path | None:
    """Find data without the network. Returns None if it is not found.

    `name` is a path inside a data folder, such as "dsb2018/stage1_train.zip". The places, in this order: `given` (the
    user's `--data`: the data itself, or a data folder with `name` in it), the data folder in the environment variable
    TINYNET_DATA, the cache of `fetch`.

    Raises `DataError` if `given` or TINYNET_DATA does not exist: after a typing error no other data may be used.
    """
    if given is not None:
        given = Path(given)
        if not given.exists():
            raise DataError(f"--data {given}: no such file or folder")
        return given / name if (given / name).exists() else given
    folder = os.environ.get("TINYNET_DATA")
    if folder:
        if not Path(folder).is_dir():
            raise DataError(f"TINYNET_DATA={folder}: no such folder; need one with {name} in it")
        if (Path(folder) / name).exists():
            return Path(folder) / name
    cached = downloads() / name
    return cached if cached.exists() else None


def find_data(name: str, given: str | Path | None = None) -> Path:
    """Like `data_path`, but raises `DataError` with the address of the file if it is not found.

    `given` may also be a folder that holds the file directly, such as a folder with the four files of MNIST.
    """
    path = data_path(name, given)
    if path is not None and path.is_dir() and (path / Path(name).name).is_file():
        path = path / Path(name).name
    if path is None or path.is_dir():
        where = "in TINYNET_DATA or in the cache" if path is None else f"in {path}"
        raise DataError(f"{name} was not found {where}; get it from {SOURCES[name]} and name it with --data")
    return path


def fetch(name: str, progress: bool = True) -> Path:
    """Download an official file into the cache, unless it is there, and return its path.

    The file must have the hash in `HASHES`. If the publisher gives none, the contents of the first download are checked
    (an undamaged archive with the documented number of images), and its SHA-256 is written beside it; from then on the
    file must have this hash.

    Raises `DataError` for an unknown name, without a network, and if the file is not the expected one.
    """
    import pooch

    progress = progress and sys.stderr.isatty()
    if name not in SOURCES:
        raise DataError(f"fetch: unknown file {name!r}; known are {', '.join(SOURCES)}")
    path = downloads() / name
    hash_file = path.with_name(path.name + ".sha256")
    known_hash = HASHES.get(name) or (hash_file.exists() and hash_file.read_text().strip()) or None
    try:
        pooch.retrieve(SOURCES[name], known_hash, path.name, path.parent, progressbar=progress)
    except (OSError, ValueError) as error:  # network errors are OSErrors, a wrong hash is a ValueError
        message = f"{SOURCES[name]}: download failed ({error}); fetch it by hand and name it with --data"
        raise DataError(message) from error
    if known_hash is None:
        try:
            _check(path, IMAGES.get(name))
        except DataError:
            path.unlink()
            raise
        hash_file.write_text(pooch.file_hash(str(path)) + "\n")
    return path


def _check(path: Path, images: int | None) -> None:
    """Raise `DataError` unless this is an undamaged zip archive with that many images; None: any file with contents."""
    if images is None:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the download is empty")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            found = sum(Path(n).parent.name == "images" and n.endswith(".png") for n in archive.namelist())
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: the download is not a zip archive ({error})") from error
    if damaged or found != images:
        what = f"{damaged} is damaged" if damaged else f"it holds {found} images"
        raise DataError(f"{path}: the download is not as published: {what}; need {images} undamaged images")
