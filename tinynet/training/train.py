"""Training: the loop, and what a run leaves behind.

    trainer = Trainer(model, Adam(model.parameters()), loss, "out/digits", settings=config)
    metrics = trainer.fit(loader, epochs=20, validate=validate, resume=config.resume)

where `loss(*batch)` calls the model itself, e.g. `lambda images, masks: tn.dice_loss(model(images), masks)`.

The folder of a run holds
    config.json    settings, seed, versions
    metrics.csv    a row for each epoch
    curve.png      the columns of metrics.csv as curves
    last.npz       everything that is needed to go on: weights, optimizer, schedule, random streams, position
    best.npz       the best weights so far, to use (the averaged ones where weights are averaged)
Every file is replaced in one step once its successor is complete, so a full disk or a killed process leaves the
last good one. A run that went on from `last.npz` gives the same bits as one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import __version__
from ..backends.arrays import array_module
from ..backends.registry import backend
from ..engine.tensor import Tensor, no_grad
from ..errors import CheckpointError, TrainingError
from ..files import atomic_path
from ..nn.module import Module, observe
from ..nn.optim import Optimizer, ReduceOnPlateau, Schedule, WeightAverage, clip_grad_norm
from .io import load_checkpoint, save_checkpoint, save_weights

# A finite loss this many times the first one (or this large, where the first is below 1) has diverged. It grows by
# a factor in every step then, so a generous limit is reached soon, and no unlucky batch comes near it.
DIVERGED = 1e6
# Drawing the curve takes a fraction of a second: at most so often, or it would slow down runs with short epochs.
SECONDS_BETWEEN_CURVES = 3.0
FILES = ("config.json", "metrics.csv", "curve.png", "best.npz", "last.npz")


@dataclass
class _Progress:
    """How far a run has come; it is saved with every checkpoint."""

    epoch: int = 0  # epochs that are complete
    batch: int = 0  # batches done in the epoch under way
    batches: int = 0  # batches in an epoch
    step: int = 0  # batches done in all
    loss_sum: float = 0.0  # over the examples of the epoch under way
    examples: int = 0
    seconds: float = 0.0  # spent training in the epoch under way
    first_loss: float = math.nan
    best: float = math.nan  # NaN: none yet
    best_epoch: int = 0


class Trainer:
    """Trains a model and keeps the books.

    model, optimizer: what is trained, and how. loss: called with a batch's arrays as Tensors, on the model's
    device; it calls the model and returns a scalar Tensor, the mean over the batch.
    out: the folder of the run, made if it is missing. If it holds an earlier run, `fit` without `resume` moves
    that run's files to `out/earlier-1` (or -2, ...): nothing is overwritten, and a script can be run twice.
    schedule: steps after each batch, so its totals count batches; a ReduceOnPlateau steps after each epoch, with
    the metric that `best` names. average: a WeightAverage of the model; validation, pictures and `best.npz` use it.
    max_norm: gradients are clipped to this norm. settings: a dataclass or dict, for `config.json`.

    resume_command: what a user types to go on; by default this process's command line with `--resume`.
    history: the metrics of each epoch so far, as dicts.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Callable[..., Tensor],
        out: str | os.PathLike,
        *,
        schedule: Schedule | None = None,
        average: WeightAverage | None = None,
        max_norm: float | None = None,
        settings: Any = None,
    ) -> None:
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"Trainer: max_norm is {max_norm}; it must be positive")
        self.model, self.optimizer, self.loss, self.out = model, optimizer, loss, Path(out)
        self.schedule, self.average, self.max_norm = schedule, average, max_norm
        is_instance = dataclasses.is_dataclass(settings) and not isinstance(settings, type)
        settings = dataclasses.asdict(settings) if is_instance else dict(settings or {})
        self.settings = json.loads(json.dumps(settings, default=str))  # as they will be read back, to be compared
        self.resume_command = _resume_command()
        self.history: list[dict[str, float]] = []
        self._progress = _Progress()
        self._curve_drawn = -math.inf

    def fit(
        self,
        loader: Any,
        epochs: int,
        validate: Callable[[], Mapping[str, float]] | None = None,
        best: tuple[str, str] = ("val_loss", "min"),
        on_epoch: Callable[[int, dict[str, float]], None] | None = None,
        resume: bool = False,
        runs: int = 1,
    ) -> dict[str, float]:
        """Train until `epochs` epochs are done, and return the metrics of the last one.

        loader: a DataLoader, or what has its `__len__` and `batches(epoch, start)`. epochs: how many in all, those
        before a resume included. validate: returns the metrics of the epoch ({"val_loss": ...}); it and `on_epoch`
        are called with the model in use (no dropout), nothing recorded, and the averaged weights if there are any.
        best: the metric that decides which weights are the best, and whether 'min' or 'max' is better; without
        `validate` it is the training loss. on_epoch: called with the number of the epoch, from 1, and its metrics,
        once everything is saved. resume: go on from `out/last.npz`. runs: how many runs, each with a folder of its own,
        are resumed together: of several, one that has no `last.npz` had not begun yet, and begins.

        Ctrl-C finishes the batch, saves, prints how to go on and raises SystemExit(130); a second one stops at once.
        Raises TrainingError where the loss is not finite or has diverged, and where memory (of CPU or GPU) is full,
        then with the batch size to try; the last good checkpoint is kept;
        CheckpointError where a file cannot be written, or where `last.npz` is damaged, of another model, or
        missing (of a single run).
        """
        if epochs < 1:
            raise ValueError(f"fit: epochs is {epochs}; at least 1 is needed")
        if best[1] not in ("min", "max"):
            raise ValueError(f"fit: best is {best!r}; its second part must be 'min' or 'max'")
        best = best if validate is not None else ("train_loss", "min")
        if isinstance(self.schedule, ReduceOnPlateau) and self.schedule.mode != best[1]:
            raise ValueError(
                f"fit: the schedule's mode is {self.schedule.mode!r}, but best is {best!r}; both must watch one metric"
            )

        if resume and runs > 1 and not (self.out / "last.npz").exists():
            print(f"{self.out} holds no run yet: it begins")
            resume = False
        self._open(loader, resume)
        if self._progress.epoch >= epochs:
            print(f"{self._progress.epoch} epochs are done already, {epochs} were asked for")
            return self.history[-1]
        with _ctrl_c() as interrupted:
            while self._progress.epoch < epochs:
                self._train_epoch(loader, epochs, interrupted)
                if not interrupted.is_set():  # what was interrupted validates when it goes on
                    self._finish_epoch(epochs, validate, best, on_epoch)
                if interrupted.is_set():
                    self._stop()
        return self.history[-1]

    # ------------------------------------------------------------------------------ one epoch
    def _train_epoch(self, loader: Any, epochs: int, interrupted: threading.Event) -> None:
        """Train on the batches of the epoch that are left, or until an interruption."""
        progress = self._progress
        self.model.train()
        device = self.model.parameters()[0].device
        started, seconds_before = time.monotonic(), progress.seconds
        with (
            # NumPy's warnings are left out: what is not finite is reported with its place.
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),
            contextlib.closing(loader.batches(progress.epoch, progress.batch)) as batches,
            tqdm(
                batches,
                f"epoch {progress.epoch + 1}/{epochs}",
                total=len(loader),
                initial=progress.batch,
                leave=False,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for batch in bar:
                try:
                    loss = self._step([Tensor(np.asarray(part)).to(device) for part in batch])
                except MemoryError as error:
                    raise self._out_of_memory(len(batch[0]), error) from error
                progress.batch += 1
                progress.loss_sum += loss * len(batch[0])
                progress.examples += len(batch[0])
                progress.seconds = seconds_before + time.monotonic() - started
                so_far = f"loss {progress.loss_sum / progress.examples:.4g}, lr {self.optimizer.lr:.2g}"
                bar.set_postfix_str(so_far, refresh=False)  # tqdm redraws ten times a second, not at every batch
                if interrupted.is_set():
                    return

    def _step(self, batch: list[Tensor]) -> float:
        """One step down the gradient of a batch's loss; returns the loss before it.

        Everything is checked before a weight changes, so a TrainingError leaves the weights as they were.
        """
        progress = self._progress
        buffers = [buffer.copy() for buffer in self.model.buffers()]
        self.optimizer.zero_grad()
        loss = self.loss(*batch)
        value = loss.item()
        if not math.isfinite(value):
            self._check_batch(value, batch)
            for buffer, before in zip(self.model.buffers(), buffers):
                buffer[...] = before  # the search draws the same dropout masks
            raise self._failure(f"the loss is {value}", self._where_loss_is_not_finite(batch))
        if progress.step == 0:
            progress.first_loss = value
        if abs(value) > DIVERGED * max(1.0, abs(progress.first_loss)):
            raise self._failure(f"the loss is {value:.3g} and was {progress.first_loss:.3g} at first: it has diverged")

        loss.backward()
        norm = clip_grad_norm(self.optimizer.parameters, self.max_norm or math.inf)
        if not math.isfinite(norm):
            raise self._failure(f"the loss is {value:.4g}, but its gradient is not finite", self._bad_gradient())
        self.optimizer.step()
        if self.schedule is not None and not isinstance(self.schedule, ReduceOnPlateau):
            self.schedule.step()
        if self.average is not None:
            self.average.update()
        progress.step += 1
        return value

    def _finish_epoch(
        self,
        epochs: int,
        validate: Callable[[], Mapping[str, float]] | None,
        best: tuple[str, str],
        on_epoch: Callable[[int, dict[str, float]], None] | None,
    ) -> None:
        """Validate, save, report."""
        self._check_weights()  # before they can replace good ones in a file
        progress = self._progress
        epoch = progress.epoch + 1
        row: dict[str, float] = {
            "epoch": epoch,
            "train_loss": progress.loss_sum / progress.examples,
            "lr": self.optimizer.lr,
            "seconds": round(progress.seconds, 2),
        }
        with self._in_use():
            if validate is not None:
                row.update((name, float(value)) for name, value in validate().items())
            improved = self._is_improvement(row, best)
            if improved:
                progress.best, progress.best_epoch = row[best[0]], epoch
                meta = {"metrics": row, "settings": self.settings}
                save_weights(self.out / "best.npz", self.model, meta)
        if isinstance(self.schedule, ReduceOnPlateau):
            self.schedule.step(row[best[0]])

        self.history.append(row)
        self._progress = dataclasses.replace(progress, epoch=epoch, batch=0, loss_sum=0.0, examples=0, seconds=0.0)
        self._save_last()
        self._write_metrics(last=epoch == epochs)
        print(_line(row, epochs) + ("  (best)" if improved else ""), flush=True)
        if on_epoch is not None:
            with self._in_use():
                on_epoch(epoch, row)

    def _is_improvement(self, row: Mapping[str, float], best: tuple[str, str]) -> bool:
        name, mode = best
        if name not in row:
            raise ValueError(f"fit: best names {name!r}, but validate() gave {', '.join(list(row)[4:]) or 'nothing'}")
        value, before = row[name], self._progress.best
        if math.isnan(value) or math.isnan(before):
            return not math.isnan(value)
        return value < before if mode == "min" else value > before

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Inside, the model is as its user will have it: no dropout, averaged weights, nothing recorded."""
        averaged = self.average.applied() if self.average is not None else contextlib.nullcontext()
        self.model.eval()
        try:
            with no_grad(), averaged:
                yield
        finally:
            self.model.train()

    def _stop(self) -> None:
        """After Ctrl-C: save, say how to go on, end the program."""
        self._check_weights()
        self._save_last()
        if self.history:
            self._write_metrics(last=True)
        print(f"stopped; everything is in {self.out / 'last.npz'}. To go on:\n  {self.resume_command}", flush=True)
        raise SystemExit(130)

    # ------------------------------------------------------------------------------ files
    def _open(self, loader: Any, resume: bool) -> None:
        """Make the folder ready, and with `resume` take up the run in it. Writes a file, so that it is sure to work."""
        self._progress, self.history = _Progress(batches=len(loader)), []
        with _writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            if resume:
                self._load_last(len(loader))
            else:
                self._move_earlier_run()
            with atomic_path(self.out / "config.json") as temporary:
                temporary.write_text(json.dumps(self._description(), indent=2) + "\n")
            if self.history:
                self._write_metrics(last=False)  # a killed run may have written a row that it could not save

    def _move_earlier_run(self) -> None:
        """Make room for a new run without losing one that got as far as a checkpoint."""
        if not (self.out / "last.npz").exists():
            return
        number = 1
        while (self.out / f"earlier-{number}").exists():
            number += 1
        folder = self.out / f"earlier-{number}"
        folder.mkdir()
        for name in FILES:
            if (self.out / name).exists():
                (self.out / name).rename(folder / name)
        print(f"{self.out} held a run already; it is now in {folder}")

    def _parts(self) -> dict[str, Any]:
        """What has a state that a checkpoint holds, by the name of its section."""
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "average": self.average,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _save_last(self) -> None:
        sections = {name: part.state_dict() for name, part in self._parts().items()}
        sections["progress"] = dataclasses.asdict(self._progress)
        save_checkpoint(self.out / "last.npz", sections, {"history": self.history, "settings": self.settings})

    def _load_last(self, batches: int) -> None:
        path = self.out / "last.npz"
        sections, meta = load_checkpoint(path)
        parts = self._parts()
        if {*parts, "progress"} != set(sections):
            raise CheckpointError(
                f"{path} holds {', '.join(sorted(sections))}; to go on with this run, "
                f"{', '.join(sorted([*parts, 'progress']))} are needed"
            )
        progress = _Progress(**sections["progress"])
        if progress.batch and progress.batches != batches:
            raise CheckpointError(
                f"{path} stopped at batch {progress.batch} of {progress.batches}, an epoch has {batches} batches now: "
                "the data or the batch size are not those of the run"
            )
        try:
            for name, part in parts.items():
                part.load_state_dict(sections[name])
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        self._progress, self.history = dataclasses.replace(progress, batches=batches), meta["history"]
        where = f" and {progress.batch} of {batches} batches" if progress.batch else ""
        print(f"going on with {path}: {progress.epoch} epochs{where} are done")
        self._report_changes(meta["settings"])

    def _report_changes(self, before: Mapping[str, Any]) -> None:
        """Say which settings are not those the run was started with: it is another run then than it would have been."""
        now = self.settings
        for name in sorted({*before, *now} - {"resume"}):
            if before.get(name) != now.get(name):
                kept = "; the checkpoint's learning rate is kept" if name == "lr" else ""
                print(f"note: {name} was {before.get(name)}, is {now.get(name)} now{kept}")

    def _write_metrics(self, last: bool) -> None:
        """metrics.csv from the history, and the curve if it is due. A killed run's surplus row goes with that."""
        columns = list(dict.fromkeys(name for row in self.history for name in row))
        path = self.out / "metrics.csv"
        with _writing(path), atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)
        if last or time.monotonic() - self._curve_drawn > SECONDS_BETWEEN_CURVES:
            from .figures import plot_curve  # Matplotlib takes its time, and not everybody trains

            with _writing(self.out / "curve.png"):
                plot_curve(path, self.out / "curve.png")
            self._curve_drawn = time.monotonic()

    def _description(self) -> dict[str, Any]:
        """The contents of config.json."""
        versions = {"tinynet": __version__, "python": platform.python_version()}
        for package in ("numpy", "numba"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[package] = importlib.metadata.version(package)
        return {
            "settings": self.settings,
            "seed": self.settings.get("seed"),
            "backend": backend(),
            "parameters": sum(p.size for p in self.model.parameters()),
            "versions": versions,
        }

    # ------------------------------------------------------------------------------ what is not finite, and where
    def _failure(self, what: str, where: str = "", by_learning_rate: bool = True) -> TrainingError:
        progress = self._progress
        parts = [
            f"epoch {progress.epoch + 1}, step {progress.step + 1} "
            f"(batch {progress.batch + 1} of {progress.batches}): {what}"
        ]
        if where:
            parts.append(where)
        if by_learning_rate and progress.step > 0:
            parts.append("all went well before, so the learning rate may be too high: start again with a lower --lr")
        if (self.out / "last.npz").exists():
            parts.append(f"the last good state is kept in {self.out / 'last.npz'}")
        return TrainingError("\n  ".join(parts))

    def _out_of_memory(self, examples: int, error: MemoryError) -> TrainingError:
        if examples > 1:
            advice = f"a batch has {examples} examples: start again with half of that, --batch-size {examples // 2}"
        else:
            advice = "one example alone is too much: smaller images or a smaller model are needed"
        return self._failure(f"out of memory: {error}", advice, by_learning_rate=False)

    def _check_batch(self, loss: float, batch: list[Tensor]) -> None:
        for i, part in enumerate(batch):
            if not _is_finite(part):
                where = f"the data are at fault: array {i} of the batch, {part.shape}, holds {_count_bad(part)}"
                raise self._failure(f"the loss is {loss}", where, by_learning_rate=False)

    def _where_loss_is_not_finite(self, batch: list[Tensor]) -> str:
        """The weight or the first layer's output that is not finite, found by a second forward pass."""
        for name, parameter in self.model.named_parameters():
            if not _is_finite(parameter):
                return f"the weight {name} holds {_count_bad(parameter)}"
        names = {id(module): name for name, module in self.model.named_modules()}
        found: list[str] = []

        def look(module: Module, inputs: tuple, output: Any) -> None:
            outputs = output if isinstance(output, (tuple, list)) else (output,)
            bad = [o for o in outputs if isinstance(o, Tensor) and not _is_finite(o)]
            if bad and not found:
                name = names.get(id(module)) or "the model"
                found.append(f"first in the output of {name} ({type(module).__name__}): {_count_bad(bad[0])}")

        with no_grad(), observe(look):
            self.loss(*batch)
        return found[0] if found else "the outputs of all layers are finite: it comes from the loss function"

    def _bad_gradient(self) -> str:
        """The parameter nearest to the loss whose gradient is not finite: the backward pass came there first."""
        bad = [(n, p) for n, p in self.model.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
        if not bad:
            return "the gradients are too large to be squared"
        name, parameter = bad[-1]
        return f"the gradient of {name} holds {_count_bad(parameter.grad)}"

    def _check_weights(self) -> None:
        for name, array in (*self.model.named_parameters(), *self.model.named_buffers()):
            if not _is_finite(array):
                raise self._failure(f"after the last step, {name} holds {_count_bad(array)}")


# ---------------------------------------------------------------------------------------- small parts
def _array(values: Any) -> Any:
    return values.data if isinstance(values, Tensor) else values


def _is_finite(values: Any) -> bool:
    array = _array(values)
    return array.dtype.kind != "f" or bool(array_module(array).isfinite(array).all())


def _count_bad(values: Any) -> str:
    array = _array(values)
    xp = array_module(array)
    nans, infinities = int(xp.isnan(array).sum()), int(xp.isinf(array).sum())
    return f"{nans} NaN and {infinities} infinite of {array.size} values"


def _line(row: Mapping[str, float], epochs: int) -> str:
    """The metrics of an epoch on one line."""
    shown = [f"epoch {row['epoch']}/{epochs}"]
    for name, value in row.items():
        if name != "epoch":
            shown.append(f"{value:.1f} s" if name == "seconds" else f"{name} {value:.4g}")
    return "  ".join(shown)


def _resume_command() -> str:
    """The command line of this process as it was typed, with --resume."""
    words = list(sys.orig_argv)
    if "--resume" not in words:
        words.append("--resume")
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C sets the event instead of raising KeyboardInterrupt; the second raises it."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # no other thread can receive signals
        yield interrupted
        return

    def first_time(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupted.set()
        # Not print: a signal may arrive in the middle of one.
        os.write(2, b"\nfinishing this batch, then saving; Ctrl-C again stops at once\n")

    previous = signal.signal(signal.SIGINT, first_time)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Inside, an error of the operating system becomes a CheckpointError that names the file or folder."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"could not write {path}: {error.strerror or error}") from error
