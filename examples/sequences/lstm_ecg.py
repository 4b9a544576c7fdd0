"""An LSTM that listens to a heart, and is surprised by the beats that come too early.

    python examples/sequences/lstm_ecg.py                    # record 100 of the MIT-BIH Arrhythmia Database
    python examples/sequences/lstm_ecg.py --seeds 3          # three nets, for the figure in the table

Nobody tells the net what an abnormal beat is. It sees normal stretches of an electrocardiogram, sample by sample, and
learns to *predict the next 0.2 seconds*: where the next P wave will be, and the tall R behind it. To do so it has to
remember when the last beat was; that is what its state is for. For every sample it says a mean and a variance: when a
beat is due, it cannot know to the hundredth of a second when the R will come, and should say so. Then it listens to
stretches it has not seen. What it holds for nearly impossible should be no part of a normal rhythm:

- an atrial premature beat (A): looks nearly normal, and comes a fifth of a second early;
- a ventricular premature beat (V): comes early, is wide, and has no P wave in front.

The *surprise* at a sample is -log p, where p is the density that was predicted for it, the mean over the 24 predictions
made at the steps before; the score of a beat is the mean surprise within 0.1 s of its peak. The area under the ROC
curve says how often an abnormal beat has a higher score than a normal one. The beat behind a premature one is a normal
one that comes late, and surprises the net even more: a false alarm. A stopwatch, the interval since the beat before, is
printed for comparison: in this record it is hard to beat. But it needs the beats to be found first, and knows nothing
of their shape.

The record is cut into stretches of 10 s. Those with nothing but normal beats are dealt out to training, validation and
evaluation; all that hold an abnormal beat are for evaluation. It is one heart: of other patients this says nothing.

Sources: Hochreiter and Schmidhuber, Long Short-Term Memory, 1997; Malhotra et al., Long short term memory networks for
anomaly detection in time series, ESANN 2015 (the idea, on such records, too); Nix and Weigend, Estimating the mean and
variance of the target probability distribution, ICNN 1994 (the loss). Data: Moody and Mark, IEEE EMB 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import nn
from tinynet.tools.cli import TrainingOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

TOPIC = "LSTM: predicting a heart beat"
DATA = "MIT-BIH record 100, 30 minutes, 34 premature beats (PhysioNet)"
FILES = ("mitbih/100.hea", "mitbih/100.dat", "mitbih/100.atr")
EXPECTED = {"auc": (0.98, 1.0)}
PICTURE = "strip.png"
ARGUMENTS = ("--seeds", "3")

RATE = 120  # samples per second after thinning out: the record has 360, more than the shape of a beat needs
AHEAD = 24  # samples that are predicted: 0.2 s
STRETCH = 10  # seconds
CROP = 5  # seconds of a training example
WARM_UP = 1  # seconds at the start of a crop whose predictions are not counted: the net has not heard a beat yet


@dataclass
class Config(TrainingOptions):
    """The flags."""

    data: str | None = option(None, "folder with mitbih/100.dat, or 'synthetic' (default: TINYNET_DATA, the cache)")
    out: str = option("out/lstm_ecg", "folder for the runs (one for each seed) and the pictures")
    seeds: int = option(1, "runs, the mean of which is compared with what is expected")
    epochs: int = option(20, "epochs of --crops crops", quick=3)
    crops: int = option(512, "crops per epoch", quick=64)
    batch_size: int = option(32, "crops in a step", quick=16)
    hidden: int = option(64, "units of the LSTM", quick=16)
    lr: float = option(5e-3, "highest learning rate (Adam; warm-up, then a cosine)", quick=2e-2)


# ---------------------------------------------------------------------------------------------- the net
class Listener(nn.Module):
    """After every sample: what the next AHEAD samples of the first lead will be, mean and log of the variance.

    x: (N, T, leads). Returns two Tensors (N, T, AHEAD).
    """

    def __init__(self, leads: int, hidden: int) -> None:
        self.memory = nn.LSTM(leads, hidden)
        self.predict = nn.Linear(hidden, 2 * AHEAD, init=nn.init.glorot_uniform)

    def forward(self, x: tn.Tensor) -> tuple[tn.Tensor, tn.Tensor]:
        outputs, _ = self.memory(x)
        y = self.predict(outputs)
        return y[:, :, :AHEAD], tn.clip(y[:, :, AHEAD:], -6, 6)  # no variance runs away to zero


def loss_of(model: Listener, x: tn.Tensor, target: tn.Tensor) -> tn.Tensor:
    """The mean of -log p of a normal distribution (but for a constant), behind the warm-up."""
    mean, log_variance = model(x)
    error = target - mean
    return (0.5 * (error * error * tn.exp(-log_variance) + log_variance))[:, WARM_UP * RATE :].mean()


# ---------------------------------------------------------------------------------------------- the data
@dataclass
class Heart:
    """A recording as the net hears it.

    x: float32 (samples, leads) at RATE. peaks: the sample of each beat's peak. symbols: what kind of beat.
    stretch_role: "train", "validate" or "evaluate", of each stretch.
    """

    x: np.ndarray
    peaks: np.ndarray
    symbols: np.ndarray
    stretch_role: np.ndarray

    @property
    def beat_role(self) -> np.ndarray:
        """That of its stretch; behind the last whole one "evaluate"."""
        stretch = self.peaks // (STRETCH * RATE)
        return np.append(self.stretch_role, "evaluate")[np.minimum(stretch, len(self.stretch_role))]


def prepare(recording: tn.data.Recording, rng: np.random.Generator) -> Heart:
    """Thin out, deal out the stretches, and scale by mean and deviation of those for training."""
    from scipy.signal import decimate

    x = decimate(recording.signal, round(recording.rate / RATE), ftype="fir", axis=0)
    peaks = (recording.beats * RATE / recording.rate).round().astype(np.int64)
    count = len(x) // (STRETCH * RATE)
    abnormal = peaks[recording.symbols != "N"]
    # The pause behind a premature beat is abnormal as well, and may reach into the next stretch.
    touched = {int(p + s * RATE) // (STRETCH * RATE) for p in abnormal for s in (-1, 0, 2)}
    role = np.full(count, "evaluate", dtype="U8")
    normal = rng.permutation([i for i in range(count) if i not in touched])
    role[normal[: len(normal) // 2]] = "train"
    role[normal[len(normal) // 2 : len(normal) * 6 // 10]] = "validate"
    heart = Heart(x, peaks, recording.symbols, role)
    training = np.concatenate([heart.x[start : start + STRETCH * RATE] for start in starts(heart, "train")])
    heart.x = ((x - training.mean(0)) / training.std(0)).astype(np.float32)
    return heart


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
        last = (STRETCH - CROP) * RATE - AHEAD  # so that the target, too, lies within the stretch
        return example(self.heart, rng.choice(self.starts) + rng.integers(last + 1))


# ---------------------------------------------------------------------------------------------- surprise
def predictions(model: Listener, x: np.ndarray) -> np.ndarray:
    """What is predicted after each sample: mean and log of the variance, float32 (2, samples, AHEAD).

    Pieces of 30 s are heard side by side, each from 5 s before it: by then the state is what it would be.
    """
    piece, before = 30 * RATE, 5 * RATE
    count = -(-len(x) // piece)
    padded = np.pad(x, ((before, count * piece - len(x)), (0, 0)), mode="edge")
    pieces = np.stack([padded[i * piece : i * piece + before + piece] for i in range(count)])
    with tn.no_grad():
        heard = model(tn.tensor(pieces).to(tn.device()))
    return np.stack([part.numpy()[:, before:].reshape(-1, AHEAD)[: len(x)] for part in heard])


def surprise(x: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """For each sample the mean of -log p over the AHEAD predictions that were made for it: float64 (samples,)."""
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
    """Train on random crops; the weights with the lowest error on the validation stretches are kept."""
    from tinynet.data import DataLoader
    from tinynet.nn.optim import Adam, CosineDecay
    from tinynet.training.io import load_weights
    from tinynet.training.train import Trainer

    tn.seed(seed)
    model = Listener(heart.x.shape[1], config.hidden).to(tn.device())
    loader = DataLoader(Crops(heart, config.crops), config.batch_size, seed=seed)
    steps = config.epochs * len(loader)
    optimizer = Adam(model.parameters(), config.lr)
    schedule = CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)
    held_out = [np.stack(part) for part in zip(*(example(heart, start) for start in starts(heart, "validate")))]

    def validate() -> dict[str, float]:
        return {"val_loss": loss_of(model, *(tn.tensor(part).to(tn.device()) for part in held_out)).item()}

    def loss(x: tn.Tensor, target: tn.Tensor) -> tn.Tensor:
        return loss_of(model, x, target)

    trainer = Trainer(model, optimizer, loss, folder, schedule=schedule, max_norm=1.0, settings=config)
    trainer.fit(loader, config.epochs, validate, resume=config.resume, runs=config.seeds)
    load_weights(folder / "best.npz", model)
    return model.eval()


def evaluate(heart: Heart, predicted: np.ndarray, out: Path | None) -> dict[str, float]:
    """Figures of the beats in the evaluation stretches, and the pictures where there is a folder for them."""
    from tinynet.imaging.metrics import auc

    surprised = surprise(heart.x, predicted)
    evaluated = heart.beat_role == "evaluate"
    evaluated[0] = False  # no beat before it
    score, is_abnormal = scores(heart, surprised)[evaluated], heart.symbols[evaluated] != "N"
    interval = np.diff(heart.peaks, prepend=0)[evaluated]
    alarm = np.quantile(score[~is_abnormal], 0.99)  # one normal beat in a hundred is above it
    ventricular = heart.symbols[evaluated] == "V"
    either = ~is_abnormal | ventricular
    figures = {
        "auc": auc(is_abnormal, score),
        "auc_ventricular": auc(ventricular[either], score[either]) if ventricular.any() else float("nan"),
        "auc_interval": auc(is_abnormal, -interval.astype(float)),
        "found_at_1_percent": float(np.mean(score[is_abnormal] > alarm)),
        "surprise_normal": float(np.median(score[~is_abnormal])),
        "surprise_premature": float(np.median(score[is_abnormal])),
    }
    if out is not None:
        draw_strip(out / "strip.png", heart, predicted, surprised)
        draw_scores(out / "scores.png", score, heart.symbols[evaluated])
    return figures


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Returns auc (of all premature beats), auc_ventricular (of the only one in this record: it proves nothing),
    auc_interval (the stopwatch), found_at_1_percent (share of the premature beats above a threshold that 1 % of the
    normal ones exceed) and the median surprise of both kinds."""
    config = parse(Config, argv, description=__doc__)
    recording, source = load_data(config.data, config.quick)
    kinds = ", ".join(f"{kind} {np.count_nonzero(recording.symbols == kind)}" for kind in np.unique(recording.symbols))
    with tn.use_backend(config.backend):
        model = Listener(recording.signal.shape[1], config.hidden)
        print_settings(
            config, model, data=source, minutes=round(len(recording.signal) / recording.rate / 60), beats=kinds
        )

        def one_run(seed: int) -> dict[str, float]:
            folder = Path(config.out) / f"seed_{seed}"
            heart = prepare(recording, np.random.default_rng(seed))
            model = train(config, heart, seed, folder)
            return evaluate(heart, predictions(model, heart.x), Path(config.out) if seed == config.seed else None)

        figures = mean_over_seeds(one_run, config.seed, config.seeds)
    print_metrics(figures, EXPECTED if source != SYNTHETIC else {}, quick=config.quick)
    print(f"pictures: {config.out}/strip.png, {config.out}/scores.png, {config.out}/seed_{config.seed}/curve.png")
    print("next: python examples/basics/cpu_vs_gpu.py")
    return figures


SYNTHETIC = "synthetic electrocardiogram"


def load_data(data: str | None, quick: bool) -> tuple[tn.data.Recording, str]:
    """(the recording, where it comes from). data: as the flag --data, None for what is at hand."""
    from tinynet.data import data_path, mitbih_100, synthetic_ecg

    if data != "synthetic" and (data is not None or (not quick and data_path(FILES[1]) is not None)):
        return mitbih_100(data), "MIT-BIH record 100"
    if not quick and data is None:
        print(f"{FILES[1]} was not found: a synthetic one takes its place; PhysioNet has the real one (--data)\n")
    return synthetic_ecg(np.random.default_rng(0), seconds=300), SYNTHETIC


# ---------------------------------------------------------------------------------------------- pictures
def draw_strip(path: Path, heart: Heart, predicted: np.ndarray, surprised: np.ndarray) -> None:
    """Twelve seconds with two premature beats or more, if there are: the signal, what was expected, the surprise."""
    from tinynet import viz

    premature = heart.peaks[heart.symbols != "N"]
    company = [np.count_nonzero(abs(premature - peak) < 5 * RATE) for peak in premature]
    middle = int(np.clip(premature[np.argmax(company)], 6 * RATE, len(heart.x) - 6 * RATE))
    shown = slice(middle - 6 * RATE, middle + 6 * RATE)
    time = np.arange(shown.start, shown.stop) / RATE
    figure = viz.new_figure(12, 5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    above.plot(time, heart.x[shown, 0], color="0.2", linewidth=1, label="electrocardiogram")
    mean, log_variance = (np.roll(part[:, AHEAD - 1], AHEAD)[shown] for part in predicted)
    deviation = np.exp(log_variance / 2)
    band = {"color": viz.mpl(viz.SKY), "alpha": 0.4, "linewidth": 0}
    above.fill_between(time, mean - 2 * deviation, mean + 2 * deviation, **band, label="as predicted 0.2 s before")
    top = heart.x[shown, 0].max()
    for peak, symbol in zip(heart.peaks, heart.symbols):
        if shown.start <= peak < shown.stop:
            colour = "0.5" if symbol == "N" else viz.mpl(viz.VERMILLION)
            weight = "normal" if symbol == "N" else "bold"
            above.text(peak / RATE, top * 1.12, symbol, ha="center", color=colour, weight=weight)
            if symbol != "N":
                for axes in (above, below):
                    axes.axvspan((peak / RATE) - 0.1, (peak / RATE) + 0.1, color=colour, alpha=0.15, linewidth=0)
    above.set(ylabel="lead 1, in deviations", ylim=(1.3 * heart.x[shown, 0].min() - 1, top * 1.3))
    above.legend(loc="lower right", ncols=2)
    below.fill_between(time, np.maximum(surprised[shown], 0), color=viz.mpl(viz.VERMILLION), linewidth=0)
    below.set_yscale("symlog", linthresh=1)  # from 1 on logarithmic: late beats surprise much more than early ones
    below.set(xlabel="seconds", ylabel="surprise", xlim=(time[0], time[-1]), ylim=(0, None))
    viz.save_figure(path, figure)


def draw_scores(path: Path, score: np.ndarray, symbols: np.ndarray) -> None:
    """The scores of normal and premature beats, and the ROC curve."""
    from tinynet import viz

    figure = viz.new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    score = score - score.min() + 1  # for a logarithmic axis; where zero lies means nothing
    bins = np.geomspace(1, score.max(), 40)
    for kind, colour, label in (("N", viz.SKY, "normal"), ("A", viz.VERMILLION, "atrial premature")):
        if np.any(symbols == kind):
            left.hist(score[symbols == kind], bins, color=viz.mpl(colour), alpha=0.8, label=label)
    for value in score[symbols == "V"]:
        left.axvline(value, color=viz.mpl(viz.PURPLE), linewidth=2, label="ventricular premature")
    left.set(xscale="log", yscale="log", xlabel="score: mean surprise around the peak, from 1", ylabel="beats")
    handles, labels = left.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    left.legend(unique.values(), unique.keys())
    viz.draw_roc(right, symbols != "N", score, "premature beats,")
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
