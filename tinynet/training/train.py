"""Training: the loop, and the files of a run.

    trainer = Trainer(model, Adam(model.parameters()), loss, "out/digits", settings=config)
    metrics = trainer.fit(loader, epochs=20, validate=validate, resume=config.resume)

where `loss(*batch)` calls the model itself, e.g. `lambda images, masks: tn.dice_loss(model(images), masks)`.

The folder of a run holds
    config.json    settings, seed, versions
    metrics.csv    one row for each epoch
    curve.png      the columns of metrics.csv as curves
    last.npz       the complete state of the run: weights, optimizer, schedule, random streams, position
    best.npz       the best weights so far (the averaged weights, if the run averages them)
Each file is replaced in one step when its successor is complete, so a full disk or a killed process leaves the last
good file. A run that is resumed from `last.npz` gives the same bits as a run that was not interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..engine.foreign import CallsExplained
from ..engine.share import inside
from ..engine.tensor import Tensor, no_grad
from ..errors import TrainingError
from ..nn.module import Module
from ..nn.optim import Optimizer, ReduceOnPlateau, Schedule, WeightAverage, clip_grad_norm
from . import not_finite
from .distributed import DataParallel
from .distributed.parallel import Step
from .interruption import ctrl_c, resume_command
from .run_folder import FolderOfRank0, Progress, RunFolder

# The loss has diverged if it exceeds the first loss (or 1, if that is larger) by this factor. A diverging loss grows by
# a factor in every step and soon reaches even this limit, and no unlucky batch comes near it.
DIVERGED = 1e6


class Trainer(CallsExplained):
    """Trains a model, writes checkpoints and metrics, and stops at values that are not finite.

    loss: called with a batch's arrays as Tensors on the model's device; it calls the model and returns a scalar Tensor,
    the mean over the batch.
    out: the folder of the run, created if it is missing. If it holds an earlier run, `fit` without `resume` moves the
    earlier files to `out/earlier-1` (or -2, ...), so nothing is overwritten.
    schedule: steps after each batch, so its totals count batches. A ReduceOnPlateau steps after each epoch, with the
    metric that `best` names. average: an exponential moving average of the model's weights; validation, `on_epoch` and
    `best.npz` use it. max_norm: gradients are clipped to this norm. settings: a dataclass or dict, for `config.json`;
    its "accumulate", if it has one, is the number of passes that compute a batch, each a part of it, to save memory.

    Under `mpiexec -n 4`, four processes train one model: the loader's batch is split among them, only the first writes
    files, and the result is that of one process up to rounding errors; docs/distributed.md.

    resume_command: the command that resumes the run; by default this process's command line with `--resume`.
    history: the metrics of each epoch so far, as dicts.

    Raises ValueError if optimizer, schedule or average belong to another model, such as a copy: training would have no
    effect on this one.
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
        _check_belong_together(model, optimizer, schedule, average)
        self.model, self.optimizer, self.loss, self.out = model, optimizer, loss, Path(out)
        self.schedule, self.average, self.max_norm = schedule, average, max_norm
        is_instance = dataclasses.is_dataclass(settings) and not isinstance(settings, type)
        settings = dataclasses.asdict(settings) if is_instance else dict(settings or {})
        self.settings = json.loads(json.dumps(settings, default=str))  # as a checkpoint returns them, to compare with
        self._parallel = DataParallel(model, self.settings.get("accumulate", 1))
        self._ranks = self._parallel.ranks
        self._folder = RunFolder(self.out) if self._ranks.rank == 0 else FolderOfRank0(self.out)
        self.resume_command = resume_command()
        self.history: list[dict[str, float]] = []
        self._progress = Progress()

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
        """Train until `epochs` epochs are done, and return the metrics of the last epoch.

        loader: a DataLoader, or another object with its `__len__` and `batches(epoch, start)`.
        epochs: the total number, including the epochs before a resume.
        validate: returns the metrics of the epoch ({"val_loss": ...}). It and `on_epoch` run with the model in
            evaluation mode, without gradients, and with the averaged weights if there are any.
        best: (metric, "min" or "max"): which epoch is the best. Without `validate` it is the training loss.
        on_epoch: called with the number of the epoch, from 1, and its metrics, after everything is saved.
        resume: continue from `out/last.npz`.
        runs: how many runs, each with its own folder, the script resumes together. With more than one, a run without
            `last.npz` starts from the beginning.

        Ctrl-C finishes the batch, saves, prints the resume command and raises SystemExit(130); a second one stops at
        once. Raises TrainingError if the loss is not finite or has diverged, or if memory (of CPU or GPU) is full, then
        with a batch size to try; the last good checkpoint is kept. Raises CheckpointError if a file cannot be written,
        if another run uses the folder, or if `last.npz` is damaged, of another model, or missing (for a single run).
        """
        best = best if validate is not None else ("train_loss", "min")
        self._check(epochs, best)
        if runs > 1 and resume and not self._ranks.broadcast(self._folder.last.exists()):
            print(f"{self.out} holds no run yet: it starts from the beginning")
            resume = False
        with self._folder.claimed():
            self._open(loader, resume)
            if self._progress.epoch >= epochs:
                print(f"{self._progress.epoch} epochs are done already, {epochs} were asked for")
                return self.history[-1]
            with ctrl_c() as interrupted:
                while self._progress.epoch < epochs:
                    is_complete = self._train_epoch(loader, epochs, interrupted)
                    if is_complete:  # an interrupted epoch validates after the resume
                        self._finish_epoch(epochs, validate, best, on_epoch)
                    if not is_complete or self._any_rank(interrupted.is_set()):
                        self._stop()
        return self.history[-1]

    def _check(self, epochs: int, best: tuple[str, str]) -> None:
        if epochs < 1:
            raise ValueError(f"fit: epochs is {epochs}; at least 1 is needed")
        if best[1] not in ("min", "max"):
            raise ValueError(f"fit: best is {best!r}; its second part must be 'min' or 'max'")
        if isinstance(self.schedule, ReduceOnPlateau) and self.schedule.mode != best[1]:
            raise ValueError(
                f"fit: the schedule's mode is {self.schedule.mode!r}, but best is {best!r}; both must watch one metric"
            )

    # ------------------------------------------------------------------------------ one epoch
    def _any_rank(self, answer: bool) -> bool:
        """True if the answer of any rank is True. All ranks ask at the same place, so they go on alike."""
        return any(self._ranks.gather(answer))

    def _train_epoch(self, loader: Any, epochs: int, interrupted: threading.Event) -> bool:
        """Train on the remaining batches of the epoch. Returns False after an interruption."""
        progress = self._progress
        self.model.train()
        device = self.model.parameters()[0].device
        started, seconds_before = time.monotonic(), progress.seconds
        with (
            # No warnings of NumPy: a TrainingError names the place of a value that is not finite.
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),
            contextlib.closing(self._parallel.batches(loader, progress.epoch, progress.batch)) as batches,
            tqdm(
                batches,
                f"epoch {progress.epoch + 1}/{epochs}",
                total=len(loader),
                initial=progress.batch,
                leave=False,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for total, batch in bar:
                try:
                    tensors = None if batch is None else [Tensor(part).to(device) for part in _arrays(batch)]
                    step = self._step(tensors, total, interrupted)
                except MemoryError as error:
                    raise self._out_of_memory(total, error) from error
                progress.batch += 1
                progress.loss_sum += step.loss * total
                progress.examples += total
                progress.seconds = seconds_before + time.monotonic() - started
                so_far = f"loss {progress.loss_sum / progress.examples:.4g}, lr {self.optimizer.lr:.2g}"
                bar.set_postfix_str(so_far, refresh=False)  # tqdm draws ten times a second
                if any(step.notes):
                    return False
        return True

    def _step(self, batch: list[Tensor] | None, total: int, interrupted: threading.Event) -> Step:
        """One step of gradient descent on a batch of `total` samples, of which `batch` are on this rank.

        Returns the loss before the step, and whether each rank was interrupted. All checks come before the weights
        change, so a TrainingError leaves the weights as they were.
        """
        buffers = [buffer.copy() for buffer in self.model.buffers()]
        step = self._parallel.backward(self.loss, batch, total, note=interrupted.is_set)
        value = step.loss
        self._check_loss(value, batch, total, buffers)
        norm = clip_grad_norm(self.optimizer.parameters, self.max_norm or math.inf)
        if not math.isfinite(norm):
            where = not_finite.in_gradients(self.model)
            raise self._failure(f"the loss is {value:.4g}, but its gradient is not finite", where)
        self.optimizer.step()
        if self.schedule is not None and not isinstance(self.schedule, ReduceOnPlateau):
            self.schedule.step()
        if self.average is not None:
            self.average.update()
        self._progress.step += 1
        return step

    def _finish_epoch(
        self,
        epochs: int,
        validate: Callable[[], Mapping[str, float]] | None,
        best: tuple[str, str],
        on_epoch: Callable[[int, dict[str, float]], None] | None,
    ) -> None:
        """Validate, save, report."""
        self._check_weights()  # before they replace good weights in a file
        self._parallel.check_equal_weights()
        progress = self._progress
        epoch = progress.epoch + 1
        row: dict[str, float] = {
            "epoch": epoch,
            "train_loss": progress.loss_sum / progress.examples,
            "lr": self.optimizer.lr,
            "seconds": round(progress.seconds, 2),
        }
        with self._evaluation():
            if validate is not None:
                row.update(self._validated(validate))
            improved = self._is_improvement(row, best)
            if improved:
                progress.best, progress.best_epoch = row[best[0]], epoch
                self._folder.save_best(self.model, {"metrics": row, "settings": self.settings})
        if isinstance(self.schedule, ReduceOnPlateau):
            self.schedule.step(row[best[0]])

        self.history.append(row)
        self._progress = dataclasses.replace(progress, epoch=epoch, batch=0, loss_sum=0.0, examples=0, seconds=0.0)
        self._save()
        self._folder.write_metrics(self.history, last=epoch == epochs)
        print(_line(row, epochs) + ("  (best)" if improved else ""), flush=True)
        if on_epoch is not None and self._ranks.rank == 0:
            with self._evaluation():
                on_epoch(epoch, row)

    def _validated(self, validate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """The metrics of rank 0, on every rank. The others wait, and get its buffers, which a metric may change."""
        metrics = {name: float(value) for name, value in validate().items()} if self._ranks.rank == 0 else {}
        if self._ranks.size > 1:
            self._parallel.share_buffers()
        return self._ranks.broadcast(metrics)

    def _is_improvement(self, row: Mapping[str, float], best: tuple[str, str]) -> bool:
        name, mode = best
        if name not in row:
            raise ValueError(f"fit: best names {name!r}, but validate() gave {', '.join(list(row)[4:]) or 'nothing'}")
        value, before = row[name], self._progress.best
        if math.isnan(value) or math.isnan(before):
            return not math.isnan(value)
        return value < before if mode == "min" else value > before

    @contextlib.contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Inside, the model is in evaluation mode, with the averaged weights and without gradients."""
        averaged = self.average.applied() if self.average is not None else contextlib.nullcontext()
        self.model.eval()
        try:
            with no_grad(), averaged:
                yield
        finally:
            self.model.train()

    def _stop(self) -> None:
        """After Ctrl-C: save, print the resume command, end the program."""
        self._check_weights()
        self._save()
        if self.history:
            self._folder.write_metrics(self.history, last=True)
        print(f"stopped; everything is in {self._folder.last}. To go on:\n  {self.resume_command}", flush=True)
        raise SystemExit(130)

    # ------------------------------------------------------------------------------ state
    def _open(self, loader: Any, resume: bool) -> None:
        """Make the folder ready; with `resume`, load the run in it. Writing config.json shows that writing works."""
        self._progress, self.history = Progress(batches=len(loader)), []
        if resume:
            parts = self._parts()
            loaded = self._folder.load(parts, len(loader))
            self._progress, meta, states = self._ranks.broadcast((*loaded, _states(parts)))
            for name, part in parts.items() if self._ranks.rank > 0 else ():
                part.load_state_dict(states[name])
            self.history = meta["history"]
            self._report_changes(meta["settings"])
        else:
            self._folder.move_earlier_run()
        self._folder.write_config(self.settings, sum(p.size for p in self.model.parameters()))
        if self.history:
            self._folder.write_metrics(self.history, last=False)  # a killed run may have left one row too many

    def _parts(self) -> dict[str, Any]:
        """The objects whose state a checkpoint holds, by the names of their sections."""
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "average": self.average,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _report_changes(self, before: Mapping[str, Any]) -> None:
        """Print the settings that changed since the start of the run: the result then differs from an unchanged run."""
        now = self.settings
        for name in sorted({*before, *now} - {"resume"}):
            if before.get(name) != now.get(name):
                kept = "; the checkpoint's learning rate is kept" if name == "lr" else ""
                print(f"note: {name} was {before.get(name)}, is {now.get(name)} now{kept}")

    def _save(self) -> None:
        self._folder.save(self._parts(), self._progress, {"history": self.history, "settings": self.settings})

    # ------------------------------------------------------------------------------ errors
    def _failure(self, what: str, where: str = "", by_learning_rate: bool = True) -> TrainingError:
        progress = self._progress
        parts = [
            f"epoch {progress.epoch + 1}, step {progress.step + 1} "
            f"(batch {progress.batch + 1} of {progress.batches}): {what}"
        ]
        if where:
            parts.append(where)
        if by_learning_rate and progress.step > 0:
            parts.append("earlier steps were finite: the learning rate may be too high; start again with a lower --lr")
        if self._folder.last.exists():
            parts.append(f"the last good state is kept in {self._folder.last}")
        return TrainingError("\n  ".join(parts))

    def _out_of_memory(self, examples: int, error: MemoryError) -> TrainingError:
        passes = 2 * self._parallel.accumulate
        if examples >= passes:
            advice = (
                f"a batch has {examples} examples: start again with half of that, --batch-size {examples // 2}, or "
                f"with --accumulate {passes}, which computes a batch in {passes} passes"
            )
        else:
            advice = "one example alone is too much: smaller images or a smaller model are needed"
        return self._failure(f"out of memory: {error}", advice, by_learning_rate=False)

    def _check_loss(self, loss: float, batch: list[Tensor] | None, total: int, buffers: list[Any]) -> None:
        """Raise TrainingError if the loss is not finite or has diverged. buffers: the model's, from before the loss."""
        progress = self._progress
        if not math.isfinite(loss):
            if bad_data := self._of_any_rank(not_finite.in_batch(batch or [])):
                raise self._failure(f"the loss is {loss}", bad_data, by_learning_rate=False)
            found = None
            for share, tensors in self._parallel.split(batch, total):
                for buffer, before in zip(self.model.buffers(), buffers):
                    buffer[...] = before  # the second forward pass must draw the same dropout masks
                with inside(share):
                    found = found or not_finite.in_forward_pass(self.model, self.loss, tensors)
            where = self._of_any_rank(found) or not_finite.IN_LOSS
            raise self._failure(f"the loss is {loss}", where)
        if progress.step == 0:
            progress.first_loss = loss
        if abs(loss) > DIVERGED * max(1.0, abs(progress.first_loss)):
            raise self._failure(f"the loss is {loss:.3g} and was {progress.first_loss:.3g} at first: it has diverged")

    def _of_any_rank(self, text: str | None) -> str | None:
        """The first text that a rank has, on every rank."""
        return next((found for found in self._ranks.gather(text) if found), None)

    def _check_weights(self) -> None:
        if bad_weight := not_finite.in_weights(self.model):
            raise self._failure(f"after the last step, {bad_weight}")


def _arrays(batch: Any) -> list[np.ndarray]:
    if not isinstance(batch, (tuple, list)):
        kind = type(batch).__name__
        raise TypeError(f"fit: a batch is a {kind}; loss(*batch) needs a tuple: items (x, target) or (x,)")
    return [np.asarray(part) for part in batch]


def _states(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items()}


def _check_belong_together(
    model: Module, optimizer: Optimizer, schedule: Schedule | None, average: WeightAverage | None
) -> None:
    own = {id(p) for p in model.parameters()}
    strange = [i for i, p in enumerate(optimizer.parameters) if id(p) not in own]
    if strange:
        raise ValueError(
            f"Trainer: {len(strange)} of the optimizer's {len(optimizer.parameters)} parameters, the first is number "
            f"{strange[0]}, are not in the model (of a copy, or of a layer that was replaced?); create the optimizer "
            "from this model's parameters()"
        )
    trained = {id(p) for p in optimizer.parameters}
    left_out = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in trained]
    if left_out:
        print(f"note: the optimizer does not train {', '.join(left_out)}; is it older than a layer of the model?")
    if schedule is not None and schedule.optimizer is not optimizer:
        raise ValueError("Trainer: schedule changes another optimizer; create it from this optimizer")
    if average is not None and average.model is not model:
        raise ValueError("Trainer: average is of another model; create it from this model")


def _line(row: Mapping[str, float], epochs: int) -> str:
    """The metrics of an epoch on one line."""
    shown = [f"epoch {row['epoch']}/{epochs}"]
    for name, value in row.items():
        if name != "epoch":
            shown.append(f"{value:.1f} s" if name == "seconds" else f"{name} {value:.4g}")
    return "  ".join(shown)
