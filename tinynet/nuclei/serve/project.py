"""The project folder: images, their label images and every correction. A server that is started again finds them.

    images/0001/image.tif        the pixels as the file had them; channel1.tif, ... if it has several channels
                labels.tif       int32: 0 background, 1, 2, ... the nuclei; the last seconds of editing may be missing
                image.json       name, size, how many nuclei, whether a person corrected it, ...
                view.png         what the page shows; thumbnail.png for its list
                history/0001.npz the pixels that an edit changed: before and after, for undo and redo
    training/0001/               a run of training: see `training`

An edit is done when its pixels are in `history` and image.json counts it. labels.tif, which may be large, follows when
no edit came for `PAUSE` seconds; a server that was killed before finds the missing edits in `history`.

All names in the folder are made here. The name of an uploaded file is only shown, and cleaned when it is exported.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import threading
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...data import to_rgb8
from ...data.decode import decode
from ...data.microscopy import Plane, channels_of_color
from ...errors import DataError
from ...files import atomic_path
from ...imaging.viz import save_png, stretch
from .edit import Patch, changed_nuclei, put
from .outlines import Outline, all_outlines, outlines_of

THUMBNAIL = 112  # pixels: the longer side
LARGEST_VIEW = 4096  # pixels: browsers draw larger images slowly or not at all
TEMPORARY = re.compile(r"\.[0-9a-f]{32}")  # names of folders that are being made or deleted
MOST_EDITS = 200  # of an image that can be undone; the oldest are forgotten
PAUSE = 2.0  # seconds
HISTORY = "history"  # the folder of the edits
EDITS = re.compile(r"(\d{1,9}) edits")  # the description in labels.tif


@dataclass
class Entry:
    """What image.json says about an image. `edits`: how many edits are done; more may be stored, which were undone."""

    name: str
    width: int
    height: int
    pixel_size: float | None = None  # micrometers
    channels: tuple[str, ...] = ()  # names; of a color image none
    nuclei: int = 0
    searched: bool = False  # whether the net has looked for nuclei
    corrected: bool = False  # whether training uses it
    edits: int = 0
    diameter: float | None = None  # pixels: of the nuclei, as the net measured it or the user gave it
    doubt: str = ""  # why the result may be wrong


class StoredImage:
    """One image of the project. `lock` guards its files: hold it while you use more than one method."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.id, self.lock = folder, folder.name, threading.RLock()
        self.busy = False  # a search will replace the label image
        self._labels: np.ndarray | None = None  # while it is edited, the label image
        self._saved = 0  # the number of edits in labels.tif, once it was read
        self._timer: threading.Timer | None = None  # writes labels.tif
        try:
            fields = json.loads((folder / "image.json").read_text(encoding="utf-8"))
            self.entry = Entry(**fields)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{folder}/image.json: damaged ({error}); delete this folder of the project") from error

    def pixels(self) -> np.ndarray:
        """(H, W) or (H, W, 3), any dtype: what the net sees, as the file held it."""
        return self._read("image.tif")

    def channels(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Every channel (H, W) by its name, to measure intensities. pixels: the result of `pixels()`."""
        names = self.entry.channels
        if pixels.ndim == 3:
            return channels_of_color(pixels)
        if len(names) == 1:
            return {names[0]: pixels}
        return {name: self._read(f"channel{number}.tif") for number, name in enumerate(names, start=1)}

    def _read(self, name: str) -> np.ndarray:
        return decode((self.folder / name).read_bytes(), str(self.folder / name))

    def labels(self) -> np.ndarray:
        """int32 (H, W); do not change it. Raises DataError if a file is damaged."""
        with self.lock:
            if self._labels is not None:
                return self._labels
            labels, self._saved = self._read_labels()
            for number in range(self._saved + 1, self.entry.edits + 1):  # edits that labels.tif lacks
                put(labels, _read_history(self._edit_file(number))[1])
            for number in range(self._saved, self.entry.edits, -1):  # edits that were undone since
                put(labels, _read_history(self._edit_file(number))[0])
            return labels

    def _read_labels(self) -> tuple[np.ndarray, int]:
        """(the label image in labels.tif, the number of edits in it)."""
        import tifffile

        size = (self.entry.height, self.entry.width)
        path = self.folder / "labels.tif"
        if not path.exists():
            return np.zeros(size, np.int32), 0
        try:
            with tifffile.TiffFile(path) as file:
                labels, description = file.asarray(), file.pages.first.description
        except Exception as error:  # tifffile raises errors of many kinds for damaged files
            raise DataError(f"{path}: damaged ({error}); delete it: the edits in {HISTORY}/ make it again") from error
        if labels.shape != size or labels.dtype != np.int32:
            problem = f"{labels.dtype} {labels.shape}; need int32 {size}"
            raise DataError(f"{path}: {problem}: delete it: the edits in {HISTORY}/ make it again")
        found = EDITS.fullmatch(description)
        return labels, int(found[1]) if found else self.entry.edits  # another program wrote it: it is what counts

    def save(self) -> None:
        """If the image was edited, bring labels.tif up to date, and keep the label image in memory no longer."""
        with self._changing():
            if self._labels is not None:
                self._write_labels(self._labels)
                self._labels = None

    def _write_labels(self, labels: np.ndarray) -> None:
        description = f"{self.entry.edits} edits"
        write_tiff(self.folder / "labels.tif", labels, description=description, metadata=None)
        self._saved = self.entry.edits

    def _save_after_pause(self) -> None:
        with suppress(DataError, OSError):  # nothing is lost: the edits are in the history
            self.save()

    def outlines(self) -> dict[int, Outline]:
        with self.lock:
            return all_outlines(self.labels())

    def edit(self, patch_of: Callable[[np.ndarray], Patch], **changes: object) -> dict[int, Outline | None]:
        """Put a patch and keep it for undo. Returns the outlines of the changed nuclei; None for deleted ones.

        patch_of: makes the patch from the label image. changes: fields of the entry that change with it.
        """
        with self._changing():
            number = self.entry.edits + 1
            labels = self.labels()
            patch = patch_of(labels)
            if not number - MOST_EDITS <= self._saved < number:  # labels.tif needs edits that are forgotten below
                self._write_labels(labels)
            before = Patch(patch.top, patch.left, labels[patch.region].copy())
            _write_history(self._edit_file(number), before, patch)
            for later in range(number + 1, number + 1 + MOST_EDITS):  # edits that were undone cannot be redone any more
                self._edit_file(later).unlink(missing_ok=True)
            self._edit_file(number - MOST_EDITS).unlink(missing_ok=True)
            return self._put(before, patch, edits=number, **changes)

    def replace(self, labels: np.ndarray, **changes: object) -> None:
        """Replace the label image by another one, as an edit that can be undone; labels.tif is written at once."""
        with self.lock:
            self.edit(lambda _: Patch(0, 0, labels), **changes)
            self.save()

    def undo(self) -> dict[int, Outline | None]:
        """Take the last edit back. Returns outlines as `edit` does; nothing if there is no edit."""
        with self._changing():
            if not self.can_undo:
                return {}
            before, after = _read_history(self._edit_file(self.entry.edits))
            return self._put(after, before, edits=self.entry.edits - 1)

    def redo(self) -> dict[int, Outline | None]:
        """Do the last edit again that was undone. Returns outlines as `edit` does; nothing if there is none."""
        with self._changing():
            if not self.can_redo:
                return {}
            before, after = _read_history(self._edit_file(self.entry.edits + 1))
            return self._put(before, after, edits=self.entry.edits + 1)

    @property
    def can_undo(self) -> bool:
        return self._edit_file(self.entry.edits).exists()

    @property
    def can_redo(self) -> bool:
        return self._edit_file(self.entry.edits + 1).exists()

    def change(self, **changes: object) -> None:
        """Change fields of the entry."""
        with self._changing():
            entry = dataclasses.replace(self.entry, **changes)  # type: ignore[arg-type]
            write_json(self.folder / "image.json", dataclasses.asdict(entry))
            self.entry = entry

    def summary(self) -> dict:
        """The entry for the page, and what can be undone."""
        fields = dataclasses.asdict(self.entry)
        return {"id": self.id, **fields, "busy": self.busy, "canUndo": self.can_undo, "canRedo": self.can_redo}

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock of an image that is in the project: to write to a removed image would make its folder again."""
        with self.lock:
            if not self.folder.is_dir():
                raise DataError(f"{self.entry.name} is not in the project any more; reload the page")
            yield

    def _put(self, old: Patch, new: Patch, **changes: object) -> dict[int, Outline | None]:
        """Replace the pixels of one patch by those of another of the same place."""
        labels = self.labels()
        gained = np.unique(new.pixels[new.pixels > 0]).size - np.unique(old.pixels[old.pixels > 0]).size
        self.change(nuclei=self.entry.nuclei + gained, **changes)
        put(labels, new)
        self._labels = labels
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(PAUSE, self._save_after_pause)
        self._timer.daemon = True
        self._timer.start()
        changed = changed_nuclei(old.pixels, new.pixels)
        return outlines_of(new.pixels, changed, new.top, new.left)

    def _edit_file(self, number: int) -> Path:
        return self.folder / HISTORY / f"{number:04d}.npz"


class Project:
    """The images of a project folder, which is made if it is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._images = folder / "images"
        self._images.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        for path in self._images.iterdir():
            if TEMPORARY.fullmatch(path.name):  # of a server that was killed
                shutil.rmtree(path, ignore_errors=True)
        folders = sorted(path.parent for path in self._images.glob("*/image.json"))  # other folders are the user's
        self._found = {folder.name: StoredImage(folder) for folder in folders}
        numbers = (int(path.name) for path in self._images.iterdir() if path.name.isdecimal())
        self._last = max(numbers, default=0)  # no id is used twice

    def images(self) -> list[StoredImage]:
        with self._lock:
            return list(self._found.values())

    def image(self, id_: str) -> StoredImage | None:
        with self._lock:
            return self._found.get(id_)

    def add(self, plane: Plane) -> StoredImage:
        """Store a plane of a file as an image. Raises DataError if it cannot be shown."""
        view = stretch(to_rgb8(plane.pixels, plane.name))
        height, width = view.shape[:2]
        channels = () if plane.pixels.ndim == 3 else tuple(plane.channels)
        with self._lock, self._new_folder() as (folder, final):
            write_tiff(folder / "image.tif", plane.pixels)
            for number, channel in enumerate(channels if len(channels) > 1 else (), start=1):
                write_tiff(folder / f"channel{number}.tif", plane.channels[channel])
            save_png(folder / "view.png", _at_most(view, LARGEST_VIEW))
            save_png(folder / "thumbnail.png", _at_most(view, THUMBNAIL))
            entry = Entry(plane.name, width, height, plane.pixel_size, channels)
            write_json(folder / "image.json", dataclasses.asdict(entry))
            (folder / HISTORY).mkdir()
            folder.rename(final)
            self._found[final.name] = StoredImage(final)
            return self._found[final.name]

    def save(self) -> None:
        """Bring the label image of every image up to date."""
        for image in self.images():
            image.save()

    def remove(self, image: StoredImage) -> None:
        with self._lock, image.lock:
            unwanted = image.folder.with_name(temporary_name())
            image.folder.rename(unwanted)  # in one step; a folder that is half deleted would be damaged
            del self._found[image.id]
        shutil.rmtree(unwanted, ignore_errors=True)

    @contextmanager
    def _new_folder(self) -> Iterator[tuple[Path, Path]]:
        """(a temporary folder, its final path); the folder is removed if the block fails."""
        self._last += 1
        folder = self._images / temporary_name()
        folder.mkdir()
        try:
            yield folder, self._images / f"{self._last:04d}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------------------------------- files
def temporary_name() -> str:
    """The name of a folder that is being made or deleted; see `TEMPORARY`."""
    return f".{uuid.uuid4().hex}"


def _at_most(image: np.ndarray, side: int) -> np.ndarray:
    """The image (H, W, 3), made smaller if its longer side has more pixels than `side`."""
    smaller = Image.fromarray(image)
    smaller.thumbnail((side, side), Image.Resampling.BOX)
    return np.asarray(smaller)


def write_tiff(path: Path, array: np.ndarray, **options: Any) -> None:
    """Write an image with little compression, which is fast. options: of `tifffile.imwrite`."""
    import tifffile

    options |= {"compression": "zlib", "compressionargs": {"level": 1}}
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, array, photometric="rgb" if array.ndim == 3 else "minisblack", **options)


def write_json(path: Path, value: dict) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _write_history(path: Path, before: Patch, after: Patch) -> None:
    with atomic_path(path) as temporary:
        place = np.array([before.top, before.left])
        np.savez_compressed(temporary, place=place, before=before.pixels, after=after.pixels)


def _read_history(path: Path) -> tuple[Patch, Patch]:
    """(before, after). Raises DataError if the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            top, left = arrays["place"].tolist()
            return Patch(top, left, arrays["before"]), Patch(top, left, arrays["after"])
    except (ValueError, KeyError, EOFError, FileNotFoundError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); this edit can be neither undone nor done again") from error
