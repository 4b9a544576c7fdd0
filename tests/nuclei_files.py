"""Small data sets on disk for the data tests: Kaggle's layout and a user's own folders."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL_ZIP = Path(os.environ.get("TINYNET_DATA", "")) / "dsb2018/stage1_train.zip"
real_data = pytest.mark.skipif(
    not REAL_ZIP.exists(), reason="TINYNET_DATA names no folder with dsb2018/stage1_train.zip"
)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def tiff(array: np.ndarray, **options) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def squares(shape=(40, 48)) -> np.ndarray:
    """A label image with three nuclei, two of them touching."""
    labels = np.zeros(shape, np.int32)
    labels[4:12, 4:14] = 1
    labels[12:20, 6:16] = 2
    labels[25:35, 30:42] = 3
    return labels


def kaggle_files(id_: str, labels: np.ndarray, image: bytes | None = None) -> dict[str, bytes]:
    """The files of one image in Kaggle's layout: an RGBA image, one mask for each nucleus."""
    if image is None:
        rgba = np.full((*labels.shape, 4), 255, np.uint8)
        rgba[:, :, :3] = np.where(labels > 0, 200, 10)[:, :, None]
        image = png(rgba)
    files = {f"{id_}/images/{id_}.png": image}
    for number in range(1, labels.max() + 1):
        files[f"{id_}/masks/{id_}-{number:03d}.png"] = png(np.where(labels == number, 255, 0).astype(np.uint8))
    return files


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path
