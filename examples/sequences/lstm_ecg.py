"""An LSTM that listens to a heart, and is surprised by beats that come too early.

    python examples/sequences/lstm_ecg.py                    # record 100 of the MIT-BIH Arrhythmia Database
    python examples/sequences/lstm_ecg.py --seeds 3          # three nets, as in the table

The training data have no labels of abnormal beats. The net sees normal stretches of an electrocardiogram, sample by
sample, and learns to *predict the next 0.2 seconds*: where the next P wave will be, and the tall R after it. So it has
to remember in its state when the last beat was. For every sample it predicts a mean and a variance: when a beat is due,
the net cannot know to the hundredth of a second when the R will come, and the variance should say so. Then the net
listens to new stretches. Samples that it considers nearly impossible should not belong to a normal rhythm:

- an atrial premature beat (A) looks nearly normal, and comes a fifth of a second early;
- a ventricular premature beat (V) comes early, is wide, and has no P wave in front.

The *surprise* at a sample is -log p, where p is the density that was predicted for it; it is averaged over the 24
predictions made at the steps before. The score of a beat is the mean surprise within 0.1 s of its peak. The area under
the ROC curve says how often an abnormal beat has a higher score than a normal beat. The beat after a premature beat is
normal but late, and surprises the net even more: a false alarm. For comparison the script also scores each beat by its
interval from the beat before, as a stopwatch would. In this record the interval is a very good score. But it requires
that the beats have been found, and ignores their shape.

The record is cut into stretches of 10 s. Stretches with normal beats only are split into training, validation and
evaluation; all stretches with an abnormal beat are for evaluation. All data are from one heart: the result says nothing
about other patients.

Sources: Hochreiter and Schmidhuber, Long Short-Term Memory, 1997; Malhotra et al., Long short term memory networks for
anomaly detection in time series, ESANN 2015 (the idea, on such records, too); Nix and Weigend, Estimating the mean and
variance of the target probability distribution, ICNN 1994 (the loss). Data: Moody and Mark, IEEE EMB 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import nn, optim, viz
from tinynet.data import DataLoader, data_path, mitbih_100, synthetic_ecg
from tinynet.tools.cli import TrainingOptions, command_line, mean_over_seeds, option, print_settings, report, run

RATE = 120  # samples per second after decimation; the record has 360, more than the shape of a beat needs
AHEAD = 24  # samples that are predicted: 0.2 s
STRETCH = 10  # seconds
CROP = 5  # seconds of a training example
WARM_UP = 1  # seconds at the start of a crop without loss: the net has not heard a beat yet


# ---------------------------------------------------------------------------------------------- the net
class Listener(nn.Module):
    """Predict the next AHEAD samples of the first lead after every sample: mean and log of the variance.

    x: (N, T, leads). Returns two Tensors (N, T, AHEAD).
    """

    def __init__(self, leads: int, hidden: int) -> None:
        self.memory = nn.LSTM(leads, hidden)
        self.predict = nn.Linear(hidden, 2 * AHEAD, init=nn.init.glorot_uniform)

    def forward(self, x: tn.Tensor) -> tuple[tn.Tensor, tn.Tensor]:
        outputs, _ = self.memory(x)
        y = self.predict(outputs)
        return y[:, :, :AHEAD], tn.clip(y[:, :, AHEAD:], -6, 6)  # so that no variance goes to zero


def loss_of(model: Listener, x: tn.Tensor, target: tn.Tensor) -> tn.Tensor:
    """The mean of -log p of a normal distribution (without its constant) after the warm-up."""
    mean, log_variance = model(x)
    error = target - mean
    return (0.5 * (error * error * tn.exp(-log_variance) + log_variance))[:, WARM_UP * RATE :].mean()


# ---------------------------------------------------------------------------------------------- the data
@dataclass
class Heart:
    """A recording, prepared for the net.

    x: float32 (samples, leads) at RATE. peaks: the sample of each beat's peak. symbols: what kind of beat.
    stretch_role: "train", "validate" or "evaluate", of each stretch.
    """

    x: np.ndarray
    peaks: np.ndarray
    symbols: np.ndarray
    stretch_role: np.ndarray

    @property
    def beat_role(self) -> np.ndarray:
        """The role of the stretch of each beat; "evaluate" after the last complete stretch."""
        stretch = self.peaks // (STRETCH * RATE)
        return np.append(self.stretch_role, "evaluate")[np.minimum(stretch, len(self.stretch_role))]


def prepare(recording: tn.data.Recording, rng: np.random.Generator) -> Heart:
    """Decimate, split into stretches, and scale by mean and deviation of the training stretches.

    Raises DataError if the rate is no multiple of RATE, or if there are too few stretches or beats.
    """
    from scipy.signal import decimate

    if recording.rate % RATE:
        raise tn.data.DataError(f"the record has {recording.rate:g} samples per second; a multiple of {RATE} is needed")
    x = decimate(recording.signal, round(recording.rate / RATE), ftype="fir", axis=0)
    peaks = (recording.beats * RATE / recording.rate).round().astype(np.int64)
    count = len(x) // (STRETCH * RATE)
    abnormal = peaks[recording.symbols != "N"]
    # The pause after a premature beat is abnormal as well, and may reach into the next stretch.
    touched = {int(p + s * RATE) // (STRETCH * RATE) for p in abnormal for s in (-1, 0, 2)}
    role = np.full(count, "evaluate", dtype="U8")
    normal = rng.permutation(np.array([i for i in range(count) if i not in touched], dtype=np.int64))
    role[normal[: len(normal) // 2]] = "train"
    role[normal[len(normal) // 2 : len(normal) * 6 // 10]] = "validate"
    heart = Heart(x, peaks, recording.symbols, role)
    check(heart, len(normal))
    training = np.concatenate([heart.x[start : start + STRETCH * RATE] for start in starts(heart, "train")])
    deviation = np.where(np.ptp(training, axis=0) > 0, training.std(0), 1)  # an electrode may have been loose
    heart.x = ((x - training.mean(0)) / deviation).astype(np.float32)
    return heart


def check(heart: Heart, normal: int) -> None:
    """Raise DataError if a part of the record has nothing to train on or to evaluate. normal: stretches."""
    is_normal = heart.symbols[heart.beat_role == "evaluate"][1:] == "N"
    if "validate" not in heart.stretch_role or is_normal.all() or not is_normal.any():
        raise tn.data.DataError(
            f"a record of {len(heart.x) // RATE} s with {normal} stretches of {STRETCH} s without abnormal beats, "
            f"and {np.count_nonzero(~is_normal)} abnormal and {np.count_nonzero(is_normal)} normal beats to evaluate, "
            "is too small: 7 stretches and a beat of each kind are needed"
        )


def starts(heart: Heart, role: str) -> np.ndarray:
    """The first samples of all stretches with that role."""
    return np.flatnonzero(heart.stretch_role == role) * STRETCH * RATE


def example(heart: Heart, start: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, target) of a crop: float32 (CROP * RATE, leads) and (CROP * RATE, AHEAD)."""
    length = CROP * RATE
    future = np.lib.stride_tricks.sliding_window_view(heart.x[start + 1 : start + length + AHEAD, 0], AHEAD)
    return heart.x[start : start + length], future


class Crops:
    """Random crops of the training stretches, for a DataLoader."""

    def __init__(self, heart: Heart, count: int) -> None:
        self.heart, self.count, self.starts = heart, count, starts(heart, "train")

    def __len__(self) -> int:
        return self.count

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        last = (STRETCH - CROP) * RATE - AHEAD  # so that the target lies within the stretch, too
        return example(self.heart, rng.choice(self.starts) + rng.integers(last + 1))


# ---------------------------------------------------------------------------------------------- surprise
def predictions(model: Listener, x: np.ndarray) -> np.ndarray:
    """The predictions after each sample: mean and log of the variance, float32 (2, samples, AHEAD).

    Pieces of 30 s run side by side. Each starts 5 s early, so that its state does not depend on the start.
    """
    piece, before = 30 * RATE, 5 * RATE
    count = -(-len(x) // piece)
    padded = np.pad(x, ((before, count * piece - len(x)), (0, 0)), mode="edge")
    pieces = np.stack([padded[i * piece : i * piece + before + piece] for i in range(count)])
    with tn.no_grad():
        heard = model(tn.tensor(pieces).to(tn.device()))
    return np.stack([part.numpy()[:, before:].reshape(-1, AHEAD)[: len(x)] for part in heard])


def surprise(x: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """For each sample the mean of -log p over the AHEAD predictions made for it: float64 (samples,)."""
    mean, log_variance = predicted.astype(np.float64)
    total = np.zeros(len(x))
    for ahead in range(1, AHEAD + 1):
        error = x[ahead:, 0] - mean[:-ahead, ahead - 1]
        said = log_variance[:-ahead, ahead - 1]
        total[ahead:] += 0.5 * (error * error * np.exp(-said) + said + np.log(2 * np.pi))
    return total / AHEAD


def scores(heart: Heart, surprised: np.ndarray) -> np.ndarray:
    """The score of each beat: the mean surprise within 0.1 s of its peak."""
    reach = RATE // 10
    return np.array([surprised[max(0, peak - reach) : peak + reach + 1].mean() for peak in heart.peaks])


# ---------------------------------------------------------------------------------------------- train, evaluate
def train(config: Config, heart: Heart, seed: int, folder: Path) -> Listener:
    """Train on random crops; keep the weights with the lowest loss on the validation stretches."""
    tn.seed(seed)
    model = Listener(heart.x.shape[1], config.hidden).to(tn.device())
    loader = DataLoader(Crops(heart, config.crops), config.batch_size, seed=seed)
    steps = config.epochs * len(loader)
    optimizer = optim.Adam(model.parameters(), config.lr)
    schedule = optim.CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)
    held_out = [np.stack(part) for part in zip(*(example(heart, start) for start in starts(heart, "validate")))]

    def validate() -> dict[str, float]:
        return {"val_loss": loss_of(model, *(tn.tensor(part).to(tn.device()) for part in held_out)).item()}

    trainer = tn.train.Trainer(
        model, optimizer, partial(loss_of, model), folder, schedule=schedule, max_norm=1.0, settings=config
    )
    trainer.fit(loader, config.epochs, validate, resume=config.resume, runs=config.seeds)
    tn.io.load_weights(folder / "best.npz", model)
    return model.eval()


def evaluate(heart: Heart, predicted: np.ndarray) -> tuple[dict[str, float], dict[str, viz.Figure]]:
    """(metrics of the beats in the evaluation stretches, figures)."""
    from tinynet.imaging.metrics import auc

    surprised = surprise(heart.x, predicted)
    evaluated = heart.beat_role == "evaluate"
    evaluated[0] = False  # no beat before it
    score, is_abnormal = scores(heart, surprised)[evaluated], heart.symbols[evaluated] != "N"
    interval = np.diff(heart.peaks, prepend=0)[evaluated]
    alarm = np.quantile(score[~is_abnormal], 0.99)  # one normal beat in a hundred is above it
    ventricular = heart.symbols[evaluated] == "V"
    either = ~is_abnormal | ventricular
    metrics = {
        "auc": auc(is_abnormal, score),
        "auc_ventricular": auc(ventricular[either], score[either]) if ventricular.any() else float("nan"),
        "auc_interval": auc(is_abnormal, -interval.astype(float)),
        "found_at_1_percent": float(np.mean(score[is_abnormal] > alarm)),
        "surprise_normal": float(np.median(score[~is_abnormal])),
        "surprise_premature": float(np.median(score[is_abnormal])),
    }
    strip = draw_strip(heart, predicted, surprised)
    return metrics, {"strip.png": strip, "scores.png": draw_scores(score, heart.symbols[evaluated])}


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    data: str | None = option(None, "folder with mitbih/100.dat, or 'synthetic' (default: TINYNET_DATA, the cache)")
    out: str = option("out/lstm_ecg", "folder for the runs (one for each seed) and the figures")
    seeds: int = option(1, "runs; their mean is compared with the expected metrics")
    epochs: int = option(20, "epochs of --crops crops", quick=3)
    crops: int = option(512, "crops per epoch", quick=64)
    batch_size: int = option(32, "crops in a step", quick=16)
    hidden: int = option(64, "units of the LSTM", quick=16)
    lr: float = option(5e-3, "highest learning rate (Adam; warm-up, then a cosine)", quick=2e-2)


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Returns auc (of all premature beats), auc_ventricular (of the only one in this record: it proves nothing),
    auc_interval (of the intervals), found_at_1_percent (share of the premature beats above a threshold that 1 % of the
    normal beats exceed) and the median surprise of both kinds."""
    recording, source = load_data(config.data, config.quick)
    kinds = ", ".join(f"{kind} {np.count_nonzero(recording.symbols == kind)}" for kind in np.unique(recording.symbols))
    minutes = round(len(recording.signal) / recording.rate / 60)
    model = Listener(recording.signal.shape[1], config.hidden)
    print_settings(config, model, data=source, minutes=minutes, beats=kinds)
    figures = {}

    def one_run(seed: int) -> dict[str, float]:
        heart = prepare(recording, np.random.default_rng(seed))
        model = train(config, heart, seed, Path(config.out) / f"seed_{seed}")
        metrics, drawn = evaluate(heart, predictions(model, heart.x))
        if seed == config.seed:
            figures.update(drawn)
        return metrics

    metrics = mean_over_seeds(one_run, config.seed, config.seeds)
    return report(config, metrics, EXPECTED if source != SYNTHETIC else {}, figures, NEXT)


SYNTHETIC = "synthetic electrocardiogram"


def load_data(data: str | None, quick: bool) -> tuple[tn.data.Recording, str]:
    """(the recording, its source). data: the flag --data."""
    if data != "synthetic" and (data is not None or (not quick and data_path(FILES[1]) is not None)):
        return mitbih_100(data), "MIT-BIH record 100"
    if not quick and data is None:
        print(f"{FILES[1]} was not found; get it from PhysioNet (--data). This run uses a synthetic recording.\n")
    return synthetic_ecg(np.random.default_rng(0), seconds=300), SYNTHETIC


# ---------------------------------------------------------------------------------------------- figures
def draw_strip(heart: Heart, predicted: np.ndarray, surprised: np.ndarray) -> viz.Figure:
    """Twelve seconds around the densest premature beats: the signal, the prediction, the surprise."""
    premature = heart.peaks[heart.symbols != "N"]
    company = [np.count_nonzero(abs(premature - peak) < 5 * RATE) for peak in premature]
    middle = int(np.clip(premature[np.argmax(company)], 6 * RATE, len(heart.x) - 6 * RATE))
    shown = slice(middle - 6 * RATE, middle + 6 * RATE)
    time = np.arange(shown.start, shown.stop) / RATE
    figure, (above, below) = viz.subplots(2, 1, sharex=True, height_ratios=(2, 1), figsize=(12, 5))
    above.plot(time, heart.x[shown, 0], color="0.2", linewidth=1, label="electrocardiogram")
    mean, log_variance = (np.roll(part[:, AHEAD - 1], AHEAD)[shown] for part in predicted)
    deviation = np.exp(log_variance / 2)
    band = {"color": viz.mpl(viz.SKY), "alpha": 0.4, "linewidth": 0}
    above.fill_between(time, mean - 2 * deviation, mean + 2 * deviation, **band, label="predicted 0.2 s before")
    top = heart.x[shown, 0].max()
    for peak, symbol in zip(heart.peaks, heart.symbols):
        if shown.start <= peak < shown.stop:
            color = "0.5" if symbol == "N" else viz.mpl(viz.VERMILLION)
            weight = "normal" if symbol == "N" else "bold"
            above.text(peak / RATE, top * 1.12, symbol, ha="center", color=color, weight=weight)
            if symbol != "N":
                for axes in (above, below):
                    axes.axvspan((peak / RATE) - 0.1, (peak / RATE) + 0.1, color=color, alpha=0.15, linewidth=0)
    above.set(ylabel="lead 1, in deviations", ylim=(1.3 * heart.x[shown, 0].min() - 1, top * 1.3))
    above.legend(loc="lower right", ncols=2)
    below.fill_between(time, np.maximum(surprised[shown], 0), color=viz.mpl(viz.VERMILLION), linewidth=0)
    below.set_yscale("symlog", linthresh=1)  # logarithmic above 1: late beats surprise much more than early ones
    below.set(xlabel="seconds", ylabel="surprise", xlim=(time[0], time[-1]), ylim=(0, None))
    return figure


def draw_scores(score: np.ndarray, symbols: np.ndarray) -> viz.Figure:
    """The scores of normal and premature beats, and the ROC curve."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(11, 4.4))
    score = score - score.min() + 1  # for a logarithmic axis; the zero point has no meaning
    bins = np.geomspace(1, score.max(), 40)
    for kind, color, label in (("N", viz.SKY, "normal"), ("A", viz.VERMILLION, "atrial premature")):
        if np.any(symbols == kind):
            left.hist(score[symbols == kind], bins, color=viz.mpl(color), alpha=0.8, label=label)
    for value in score[symbols == "V"]:
        left.axvline(value, color=viz.mpl(viz.PURPLE), linewidth=2, label="ventricular premature")
    left.set(xscale="log", yscale="log", xlabel="score: mean surprise around the peak, from 1", ylabel="beats")
    handles, labels = left.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    left.legend(unique.values(), unique.keys())
    viz.draw_roc(right, symbols != "N", score, "premature beats,")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "LSTM: predicting a heart beat"
DATA = "MIT-BIH record 100, 30 minutes, 34 premature beats (PhysioNet)"
FILES = ("mitbih/100.hea", "mitbih/100.dat", "mitbih/100.atr")
EXPECTED = {"auc": (0.98, 1.0)}
PICTURE = "strip.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/basics/cpu_vs_gpu.py"


if __name__ == "__main__":
    run(main)
