"""The folder of a training run: its files, each replaced in one step when its successor is complete."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..backends.registry import backend
from ..errors import CheckpointError
from ..files import atomic_path, locked, table_file
from ..nn.module import Module
from .io import load_checkpoint, save_checkpoint, save_weights

# Drawing the curve takes a fraction of a second, which would slow down runs with short epochs.
SECONDS_BETWEEN_CURVES = 3.0
RESULTS = ("metrics.csv", "curve.png", "best.npz", "last.npz")
FILES = ("config.json", *RESULTS)


@dataclass
class Progress:
    """The position of a run. Every checkpoint holds it."""

    epoch: int = 0  # epochs that are complete
    batch: int = 0  # batches done in the current epoch
    batches: int = 0  # batches in an epoch
    step: int = 0  # batches done in all
    loss_sum: float = 0.0  # over the examples of the current epoch
    examples: int = 0
    seconds: float = 0.0  # of training in the current epoch
    first_loss: float = math.nan
    best: float = math.nan  # NaN: no epoch is complete
    best_epoch: int = 0


class RunFolder:
    """The folder of a run.

    last: the checkpoint that resumes the run. best: the weights of the best epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.last, self.best = path, path / "last.npz", path / "best.npz"
        self._curve_drawn = -math.inf

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder; inside, no other run can use it. Raises CheckpointError if that fails."""
        with contextlib.ExitStack() as stack:
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                try:
                    lock = stack.enter_context(locked(self.path / ".lock", wait=False))
                except BlockingIOError:
                    owner = (self.path / ".lock").read_text()
                    raise CheckpointError(
                        f"{self.path} is in use by another run, process {owner}: wait for its end or stop it, or give "
                        "this run another --out"
                    ) from None
                lock.truncate(0)
                lock.write(str(os.getpid()).encode())
            yield

    def move_earlier_run(self) -> None:
        """If the folder holds results of a run, move its files to `earlier-1` (or -2, ...)."""
        if not any((self.path / name).exists() for name in RESULTS):
            return
        number = 1
        while (self.path / f"earlier-{number}").exists():
            number += 1
        folder = self.path / f"earlier-{number}"
        with writing(folder):
            folder.mkdir()
            for name in FILES:
                if (self.path / name).exists():
                    (self.path / name).rename(folder / name)
        print(f"{self.path} held a run already; it is now in {folder}")

    def write_config(self, settings: dict[str, Any], parameters: int) -> None:
        """Write config.json: settings, seed, backend, number of parameters and versions."""
        versions = {"tinynet": __version__, "python": platform.python_version()}
        for package in ("numpy", "numba"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[package] = importlib.metadata.version(package)
        description = {
            "settings": settings,
            "seed": settings.get("seed"),
            "backend": backend(),
            "parameters": parameters,
            "versions": versions,
        }
        path = self.path / "config.json"
        with writing(path), atomic_path(path) as temporary:
            temporary.write_text(json.dumps(description, indent=2) + "\n")

    def write_metrics(self, history: Sequence[dict[str, float]], last: bool) -> None:
        """Write metrics.csv, and the curve if `last` or if the curve is older than `SECONDS_BETWEEN_CURVES`."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        path = self.path / "metrics.csv"
        with writing(path), table_file(path) as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        if last or time.monotonic() - self._curve_drawn > SECONDS_BETWEEN_CURVES:
            from .figures import plot_curve  # imports Matplotlib, which takes a while

            with writing(self.path / "curve.png"):
                plot_curve(path, self.path / "curve.png")
            self._curve_drawn = time.monotonic()

    def save(self, parts: Mapping[str, Any], progress: Progress, meta: Mapping[str, Any]) -> None:
        """Write the states of `parts` and the progress to last.npz."""
        sections = {name: part.state_dict() for name, part in parts.items()}
        save_checkpoint(self.last, {**sections, "progress": dataclasses.asdict(progress)}, meta)

    def save_best(self, model: Module, meta: Mapping[str, Any]) -> None:
        """Write the model's weights to best.npz."""
        save_weights(self.best, model, meta)

    def load(self, parts: Mapping[str, Any], batches: int) -> tuple[Progress, dict[str, Any]]:
        """Load last.npz into `parts`. Returns (progress, meta) as given to `save`.

        batches: in an epoch now. Raises CheckpointError as `load_checkpoint`, and if the checkpoint is of another run.
        """
        sections, meta = load_checkpoint(self.last)
        if {*parts, "progress"} != set(sections):
            raise CheckpointError(
                f"{self.last} holds {', '.join(sorted(sections))}; to go on with this run, "
                f"{', '.join(sorted([*parts, 'progress']))} are needed"
            )
        absent = {field.name for field in dataclasses.fields(Progress)} - set(sections["progress"])
        absent |= {"history", "settings"} - set(meta)
        if absent:
            raise CheckpointError(f"{self.last} lacks {', '.join(sorted(absent))}: a run cannot go on from it")
        progress = Progress(**sections["progress"])
        if progress.best_epoch and not self.best.exists():
            raise CheckpointError(f"{self.best} is missing: put it back, or start again without --resume")
        if progress.batch and progress.batches != batches:
            raise CheckpointError(
                f"{self.last} stopped at batch {progress.batch} of {progress.batches}, an epoch has {batches} batches "
                "now: the data or the batch size have changed since"
            )
        try:
            for name, part in parts.items():
                part.load_state_dict(sections[name])
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{self.last}: {error}") from error
        where = f" and {progress.batch} of {batches} batches" if progress.batch else ""
        print(f"going on with {self.last}: {progress.epoch} epochs{where} are done")
        return dataclasses.replace(progress, batches=batches), meta


class FolderOfRank0(RunFolder):
    """The folder of a run on the ranks that write and read no files: rank 0 does, and sends them what it reads."""

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        yield

    def move_earlier_run(self) -> None:
        pass

    def write_config(self, settings: dict[str, Any], parameters: int) -> None:
        pass

    def write_metrics(self, history: Sequence[dict[str, float]], last: bool) -> None:
        pass

    def save(self, parts: Mapping[str, Any], progress: Progress, meta: Mapping[str, Any]) -> None:
        pass

    def save_best(self, model: Module, meta: Mapping[str, Any]) -> None:
        pass

    def load(self, parts: Mapping[str, Any], batches: int) -> tuple[Progress, dict[str, Any]]:
        return Progress(), {}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, an error of the operating system becomes a CheckpointError that names the file or folder."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"could not write {path}: {error.strerror or error}") from error
