"""`predict` over folders of images: what is new, what is done already, what cannot be read, and what was written.

An image is done when its record is written, which is its last file. So a run that was interrupted, by Ctrl-C or by the
power, goes on where it stopped if the same command is typed again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data import to_rgb8
from ..data.microscopy import Plane, read_planes
from ..errors import DataError
from ..imaging.instances import median_diameter
from ..training.interruption import command, typed_words
from ..training.run_folder import RunFolder
from .outputs import Result, Tables
from .outputs.results import read_record, record_path
from .progress import Progress, counted, files_of, warn
from .segmentation import Nuclei
from .settings import (
    PredictConfig,
    check_folder,
    compared_settings,
    delete_partial_files,
    delete_results,
    refuse_results,
    write_settings,
)

BATCH_PIXELS, BATCH_IMAGES = 2**20, 16  # of images that share a pass of the net: some hundred megabytes
Find = Callable[[Sequence[np.ndarray], Callable[[int, int], None]], list[Nuclei]]
WRITTEN = {  # what is in the folder, and how to open it
    "summary.html": "all images at a glance: open it in a browser",
    "measurements.csv": "a row for each nucleus: for a spreadsheet, R or pandas",
    "submission.csv": "for Kaggle",
    "labels": "label images: drag them into ImageJ or napari",
    "overlays": "the images with the outlines of the nuclei: for any viewer",
    "rois": "outlines for ImageJ: open the image, then drag the zip file of its name onto ImageJ",
    "geojson": "outlines for QuPath: open the image, then drag the file of its name onto it",
}


def predict_folder(config: PredictConfig, weights: Path, find: Find) -> dict[str, float]:
    """Write the results for all images of `config.paths` into `config.out`; return how many there were.

    weights: the file of the net's weights. find: from images, uint8 (H, W, 3), and a function that is told the tiles
    done to the nuclei of each image.

    Raises UsageError if the folder holds results of other settings, CheckpointError if another run uses the folder,
    OSError if a file cannot be written, and DataError if no image can be read.
    """
    out, settings = Path(config.out), compared_settings(config, weights)
    refuse_results(config.paths)
    if not files_of(config.paths):  # a mistyped name leaves no folder behind
        next(iter(read_planes(config.paths)), None)  # raises: it says what is wrong with the first path
    with RunFolder(out).claimed():  # two runs would mix their tables
        if not config.force:
            check_folder(out, settings, config.paths)
        run = _Run(config, settings, find)
        with _resumable(run), plain_warnings():
            run.all()
        return run.report()


@dataclass
class _Image:
    """An image to be worked on. fingerprint: of the pixels in the file; position: of the file among all files."""

    plane: Plane
    pixels: np.ndarray
    fingerprint: str
    position: int


@dataclass
class _Run:
    """One call of `predict`. earlier: images that were done before; doubtful: images with a warning."""

    config: PredictConfig
    settings: dict[str, Any]
    find: Find
    skipped: list[DataError] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    earlier: int = 0
    new: int = 0
    nuclei: int = 0
    doubtful: int = 0

    def __post_init__(self) -> None:
        self.out = Path(self.config.out)
        self.tables = Tables(self.out, submission=self.config.submission, skipped=self.skipped)
        self.progress = Progress(files_of(self.config.paths))

    def all(self) -> None:
        """Work on all images. The tables are written at the end, also after an error."""
        files = counted(len(self.progress.files), "image file", "image files")
        print(f"{files}; the results go into {self.out}", flush=True)
        try:
            with self.tables:
                for batch in batches(self.images()):
                    self.work(batch)
        finally:
            self.progress.close()

    def images(self) -> Iterator[_Image]:
        """The images that are not done yet."""
        arguments = self.config.paths, self.config.channel, self.config.project, self.skipped, self.ignored
        for plane in read_planes(*arguments):
            plane = dataclasses.replace(plane, pixel_size=self.config.pixel_size or plane.pixel_size)
            position = self.progress.position(plane.source)
            fingerprint = fingerprint_of(plane)
            try:
                if self.is_done(plane, fingerprint):
                    continue
                pixels = to_rgb8(plane.pixels, plane.source)
            except DataError as error:
                self.skipped.append(error)
                continue
            yield _Image(plane, pixels, fingerprint, position)

    def is_done(self, plane: Plane, fingerprint: str) -> bool:
        """True if the folder holds the results of this image; then they are counted. Raises DataError for another."""
        if self.config.force or not self.tables.has(plane.name):
            return False
        try:
            record = read_record(record_path(self.out, plane.name))
        except DataError as error:  # damaged, for instance by a failing disk, or changed by hand
            warn(f"{error}; its image is done again")
            return False
        if record["fingerprint"] != fingerprint:
            raise DataError(
                f"{plane.source}: {self.out} holds the results of another image of this name, or the file has changed; "
                "give another --out, or --force to delete all results in it and start again"
            )
        self.earlier += 1
        self.count(record)
        return True

    def work(self, batch: list[_Image]) -> None:
        """Find the nuclei of some images and write their files."""
        found = self.find([image.pixels for image in batch], self.progress.tiles)
        self.progress.found([image.position for image in batch])
        self.begin()
        for image, nuclei in zip(batch, found, strict=True):
            plane = image.plane
            result = Result(plane, image.pixels, nuclei.labels, nuclei.doubt, image.fingerprint)
            record = self.tables.add(result)
            self.count(record)
            self.new += 1
            self.progress.finish(image.position, f"{plane.name}: {described(nuclei, plane.pixel_size)}")
            if nuclei.doubt:
                warn(f"{plane.name}: {nuclei.doubt}")
            if any("\udc80" <= letter <= "\udcff" for letter in plane.name):  # how Python keeps bytes that are no UTF-8
                warn(f"the name {plane.name!a} is not UTF-8; the tables hold its bytes")

    def begin(self) -> None:
        """Before the first result is written: delete those of an earlier run if --force says so, note the settings."""
        if self.new == 0:
            delete_partial_files(self.out)
            if self.config.force:
                delete_results(self.out)
            write_settings(self.out, self.settings, self.config.paths)

    def count(self, record: dict[str, Any]) -> None:
        self.nuclei += record["nuclei"]
        self.doubtful += bool(record["flags"])

    def report(self) -> dict[str, float]:
        """Print what was found, skipped, ignored and written. Raises DataError if no image could be read."""
        images = self.earlier + self.new
        if not images and len(self.skipped) == 1:
            raise self.skipped[0]
        for error in self.skipped:
            print(f"skipped: {error}", file=sys.stderr)
        if self.ignored:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.ignored.items()))
            print(f"ignored, because they are no images: {kinds}")
        if not images:
            raise DataError(f"none of {len(self.skipped)} images could be read; the first: {self.skipped[0]}")
        earlier = f" ({self.earlier} of them were done before)" if self.earlier else ""
        doubtful = f", {self.doubtful} with a warning in summary.html" if self.doubtful else ""
        found = f"{counted(images, 'image', 'images')}{earlier}, {counted(self.nuclei, 'nucleus', 'nuclei')}"
        print(f"{found}, {len(self.skipped)} skipped{doubtful}. In {self.out}:")
        for name, use in WRITTEN.items():
            if (self.out / name).exists():
                print(f"  {name:16}  {use}")
        return {"images": images, "nuclei": self.nuclei, "skipped": len(self.skipped)}


def batches(images: Iterator[_Image]) -> Iterator[list[_Image]]:
    """Lists of images that share a pass of the net."""
    batch: list[_Image] = []
    for image in images:
        batch.append(image)
        if len(batch) == BATCH_IMAGES or sum(i.pixels.size // 3 for i in batch) >= BATCH_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def fingerprint_of(plane: Plane) -> str:
    """A hash of what the results of an image depend on. Of other channels than that of the nuclei: their names."""
    facts = (plane.pixels.dtype.str, plane.pixels.shape, plane.pixel_size, list(plane.channels))
    digest = hashlib.blake2b(repr(facts).encode(errors="surrogateescape"), digest_size=16)
    digest.update(np.ascontiguousarray(plane.pixels).data)
    return digest.hexdigest()


def described(nuclei: Nuclei, pixel_size: float | None) -> str:
    """The number of nuclei and their median diameter, in words."""
    diameter = median_diameter(nuclei.labels)
    if np.isnan(diameter):
        return "0 nuclei"
    length = f" ({diameter * pixel_size:.1f} µm)" if pixel_size else ""
    return f"{counted(nuclei.labels.max(), 'nucleus', 'nuclei')}, diameter {diameter:.0f} pixels{length}"


@contextmanager
def _resumable(run: _Run) -> Iterator[None]:
    """Inside, Ctrl-C and a file that cannot be written end the run with the command that goes on with it."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nstopped; {run.earlier + run.new} images are done. To go on:\n  {again()}", flush=True)
        raise
    except OSError as error:
        reason = error.strerror or f"{error}; is the disk full?"
        done = f"{run.earlier + run.new} images are done. To go on, once this is put right: {again()}"
        raise OSError(error.errno, f"{reason}; {done}", error.filename or str(run.out)) from error


def again() -> str:
    """The command line of this process, to go on with its run."""
    return command(*(word for word in typed_words() if word != "--force"))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Inside, a warning is printed as a sentence, without the line of code that gave it."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: warn(message)
        yield
