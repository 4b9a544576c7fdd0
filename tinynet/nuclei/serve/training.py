"""Training on corrected images: `tinynet nuclei train` in a process of its own, which the page watches and can stop.

training/0001/run.json       how many images, when, from which weights
              data/images/   the images and label images, in the layout of `tinynet nuclei train --data`
              data/labels/
              run/           what training writes: metrics.csv, best.npz
              log.txt        what it prints
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ...errors import DataError
from .project import StoredImage, write_json, write_tiff

TRAIN = (sys.executable, "-m", "tinynet", "nuclei", "train")


class Training:
    """The runs in the folder `training` of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()  # the server's threads ask for the status while one of them starts a run
        self._process: subprocess.Popen | None = None
        self._run: Path | None = None
        self._epochs, self._started, self._stopping = 0, 0.0, False
        self._done, self._done_at = 0, 0.0  # epochs that are done, and since when

    # ------------------------------------------------------------------------------------ weights
    def weights(self) -> list[dict]:
        """The nets that training has made, the newest first: id and title."""
        found = []
        for file in sorted(self.folder.glob("*/run/best.npz"), reverse=True):
            run = file.parents[1]
            try:
                facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
                title = f"{facts['images']} corrected images, {facts['started']}"
            except (OSError, ValueError, KeyError, TypeError):  # the weights are what matters
                title = "damaged run.json"
            found.append({"id": run.name, "title": f"Run {run.name.lstrip('0')}: {title}"})
        return found

    def weights_file(self, id_: str) -> Path:
        """The file of a net of `weights()`. Raises DataError if there is no such run."""
        if id_ not in {run["id"] for run in self.weights()}:
            raise DataError("these weights are not in the project any more; choose others")
        return self.folder / id_ / "run" / "best.npz"

    # ------------------------------------------------------------------------------------ a run
    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, images: Sequence[StoredImage], epochs: int, weights: Path | None) -> None:
        """Start a run on these images. weights: where it starts, None for the shipped ones.

        Raises DataError if there is no image.
        """
        if not images:
            raise DataError("there is no corrected image to train on; correct one, or tick its box for training")
        number = max((int(path.name) for path in self.folder.glob("[0-9]*") if path.name.isdecimal()), default=0) + 1
        run = self.folder / f"{number:04d}"
        try:
            copy_data(images, run / "data")
            started = time.strftime("%Y-%m-%d %H:%M")
            write_json(run / "run.json", {"images": len(images), "started": started, "from": str(weights or "shipped")})
            self._begin(run, epochs, weights)
        except BaseException:
            shutil.rmtree(run, ignore_errors=True)
            raise

    def _begin(self, run: Path, epochs: int, weights: Path | None) -> None:
        """Start the process of a run whose data are in its folder."""
        command = [*TRAIN, "--data", str(run / "data"), "--weights", str(weights or "shipped")]
        command += ["--out", str(run / "run"), "--epochs", str(epochs)]
        with self._lock, open(run / "log.txt", "wb") as log:
            # The process leads a group of its own: Ctrl-C in the terminal reaches only the server, which stops the run.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
            self._run, self._epochs, self._started = run, epochs, time.monotonic()
            self._stopping, self._done = False, 0

    def stop(self) -> None:
        """Ask the run to finish its batch, save and end. The weights of the best epoch stay."""
        with self._lock:
            if self._process is not None and self.running:
                self._stopping = True
                self._process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)

    def close(self, seconds: float = 20.0) -> None:
        """Stop the run, wait so many seconds for its end, then kill it."""
        self.stop()
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def status(self) -> dict:
        """For the page: running, stopping, epochs done and in all, the losses of each epoch, time left, error."""
        with self._lock:
            return self._status()

    def _status(self) -> dict:
        if self._process is None or self._run is None:
            return {"running": False, "run": None}
        rows, running = read_metrics(self._run / "run" / "metrics.csv"), self.running
        failed = not running and not self._stopping and self._process.returncode != 0
        return {
            "running": running,
            "stopping": running and self._stopping,
            "run": self._run.name,
            "epoch": len(rows),
            "epochs": self._epochs,
            "rows": rows,
            "secondsLeft": self._seconds_left(len(rows)),
            "error": last_error(self._run / "log.txt") if failed else "",
        }

    def _seconds_left(self, done: int) -> float | None:
        """From the mean duration of the epochs that are done; None during the first one."""
        if done != self._done:
            self._done, self._done_at = done, time.monotonic()
        if not done:
            return None
        left = (self._done_at - self._started) / done * (self._epochs - done)
        return max(1.0, left - (time.monotonic() - self._done_at))


def copy_data(images: Sequence[StoredImage], folder: Path) -> None:
    """Write images/ and labels/ for `tinynet nuclei train --data`."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for image in images:
        with image.lock:
            shutil.copyfile(image.folder / "image.tif", folder / "images" / f"{image.id}.tif")
            write_tiff(folder / "labels" / f"{image.id}.tif", image.labels())


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv, one for each epoch that is done; the file is replaced in one step after each epoch."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def last_error(log: Path) -> str:
    """The sentence of an error that a run printed, or its last line."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["the process ended without a word"])[-1].removeprefix("error: ")[:500]
