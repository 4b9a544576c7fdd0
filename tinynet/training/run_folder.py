"""The folder of a training run: its files, each replaced in one step when its successor is complete."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..backends.registry import backend
from ..errors import CheckpointError
from ..files import atomic_path

# Drawing the curve takes a fraction of a second, which would slow down runs with short epochs.
SECONDS_BETWEEN_CURVES = 3.0
FILES = ("config.json", "metrics.csv", "curve.png", "best.npz", "last.npz")


class RunFolder:
    """The folder of a run.

    last: the checkpoint that resumes the run. best: the weights of the best epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.last, self.best = path, path / "last.npz", path / "best.npz"
        self._curve_drawn = -math.inf

    def make(self) -> None:
        """Make the folder. Raises CheckpointError if that fails."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def move_earlier_run(self) -> None:
        """If the folder holds a run that has a checkpoint, move its files to `earlier-1` (or -2, ...)."""
        if not self.last.exists():
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
        with writing(path), atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        if last or time.monotonic() - self._curve_drawn > SECONDS_BETWEEN_CURVES:
            from .figures import plot_curve  # imports Matplotlib, which takes a while

            with writing(self.path / "curve.png"):
                plot_curve(path, self.path / "curve.png")
            self._curve_drawn = time.monotonic()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, an error of the operating system becomes a CheckpointError that names the file or folder."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"could not write {path}: {error.strerror or error}") from error
