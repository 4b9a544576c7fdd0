"""How sure is the net? Dropout stays on after training, and many passes vote: Monte Carlo (MC) dropout.

    python examples/uncertainty/mc_dropout.py

Dropout is meant for training. If it stays on, every pass through the net uses other units and gives another answer, as
if it came from another net. Gal and Ghahramani (2016) read the spread of the answers as the uncertainty of the net.
The plain alternative costs one pass without dropout: a probability p near 0.5 says that the net is not sure. So every
figure here stands beside the figure of p (1 - p). Three uses:

1. **Vessels of the retina**, traced by two observers. Does the uncertainty find the pixels where they differ?
2. **Referral of knees** (Leibig 2017). The net asks a specialist about the X-rays of which it is least sure. How good
   are its answers for the others, by the share that it refers?
3. **Calibration.** Is a net that is 80 % sure right in 80 % of the cases? The expected calibration error before and
   after averaging passes, and before and after *temperature scaling*: the logits are divided by a number that is chosen
   on validation X-rays (Guo 2017).

Three measures are computed from the passes: the *entropy* of their mean probability, their *mutual information* and
their *variance*. If all passes say 0.5, the entropy is high, and the other two are 0: the net knows that the image does
not tell. If half of them say 0 and half 1, all three are high: the net does not know.

A pass costs less than it seems: what comes before the first dropout is the same in every pass and is computed once. The
net for vessels has no dropout at the full resolution; the net for knees is small and stands on frozen features.

What to see (one run):

- **Vessels**, the area under the ROC curve (AUC) for the pixels where the observers differ, a mean of 8 photographs:
  p (1 - p) .900, variance .909, mutual information .901, entropy .912. The variance finds these pixels, but hardly
  better than one pass. Among pixels of the same p (1 - p) its AUC is .62, so what it adds is real and small. The gain
  is mostly that of an *ensemble*: the mean of the passes has the best uncertainty and the better Dice, .774 for .763.
- **Referral**: if the net refers 30 % of 1,234 X-rays, it answers "grade 2 or more?" for the others with an accuracy of
  .866 by p (1 - p), .866 by entropy, .854 by variance, .838 by mutual information, .785 at random (standard error
  .012). Referral by uncertainty works well; MC dropout is not what makes it work.
- **Calibration error** of the grade: .073 in one pass, .039 with the mean of the passes, .030 with one pass and a
  temperature, .029 with both. One number that is fitted in a moment does as much as twenty passes.

Sources: Gal, Ghahramani, Dropout as a Bayesian approximation, ICML 2016; Leibig et al., Leveraging uncertainty
information from deep neural networks for disease detection, Scientific Reports 7, 2017; Kendall, Gal, What
uncertainties do we need in Bayesian deep learning for computer vision?, NIPS 2017; Guo, Pleiss, Sun, Weinberger, On
calibration of modern neural networks, ICML 2017; data: CHASE_DB1 (Fraz et al. 2012), knees (Chen et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax, xlogy
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, viz
from tinynet.data import DataError, Retina, knees_or_synthetic
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import TrainingOptions, command_line, mean_over_seeds, option, print_settings, report, run

fine_tuning = load_example("convnets/fine_tuning.py")  # ImageNet's features, fine-tuned
fcn = load_example("segmentation/fcn_vessels.py")  # the net with skip connections, its data and training


# ---------------------------------------------------------------------------------------- passes with dropout
def switch_dropout(model: nn.Module, on: bool) -> None:
    """Dropout as in training (on) or as in evaluation (off). Other layers, such as batch norm, stay as they are."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train() if on else module.eval()


def passes(model: nn.Module, rest: Callable[[tn.Tensor], tn.Tensor], x: np.ndarray, count: int) -> np.ndarray:
    """The logits of `count` passes with dropout: (count, N, ...).

    rest: the part of the model from its first dropout on. x: what the part before it made of the images, (N, ...). It
    is the same for all passes, so it is computed once. Every pass draws other masks: it is the answer of another net.
    """
    switch_dropout(model, on=True)
    logits = np.stack([nn.predict(rest, x) for _ in range(count)])
    switch_dropout(model, on=False)
    return logits


def entropy(p: np.ndarray) -> np.ndarray:
    """-sum p log p over the last axis, in nats."""
    return -xlogy(p, p).sum(axis=-1)


def uncertainties(p: np.ndarray) -> dict[str, np.ndarray]:
    """Three measures for the probabilities of T passes, (T, ..., classes) -> (...).

    "entropy" of the mean probabilities: all uncertainty. "mutual information": the entropy minus the mean entropy of
    the passes; it is 0 if all passes agree, even if they agree on 0.5. "variance" over the passes, the sum of the
    classes. The last two are meant to show what the *net* does not know, in contrast to what the image does not tell.
    """
    total = entropy(p.mean(axis=0))
    information = total - np.mean([entropy(one) for one in p], axis=0)
    return {"entropy": total, "mutual information": information, "variance": p.var(axis=0).sum(axis=-1)}


# ---------------------------------------------------------------------------------------- the net for vessels
def stage(c_in: int, c_out: int, p: float) -> nn.Sequential:
    """Two convolutions 3 x 3, each with dropout."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.ELU(),
        nn.Dropout(p),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.ELU(),
        nn.Dropout(p),
    )


class SkipNet(nn.Module):
    """The net of fcn_vessels.py with dropout: x (N, H, W, 3), H and W multiples of 8 -> logits (N, H, W, 1).

    The stage with the whole resolution, which costs most, has no dropout: it is `first`, computed once. The
    predictions from its maps have dropout as all others do.
    """

    def __init__(self, p: float, channels: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        self.first = fcn.stage(3, channels[0])
        self.drop = nn.Dropout(p)
        self.stages = [stage(c_in, c_out, p) for c_in, c_out in pairwise(channels)]
        self.heads = [nn.Conv2d(c, 1, 1, init=fcn.zeros) for c in channels]

    def rest(self, x: tn.Tensor) -> tn.Tensor:
        """The logits for the maps of the first stage."""
        scores = [self.heads[0](self.drop(x))]
        for down, head in zip(self.stages, self.heads[1:]):
            x = down(tn.max_pool2d(x, 2))
            scores.append(head(x))
        y = scores.pop()
        while scores:  # from coarse to fine
            finer = scores.pop()
            y = tn.resize2d(y, finer.shape[1:3]) + finer
        return y

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        return self.rest(self.first(x))


# ---------------------------------------------------------------------------------------- the net for knees
TRAINED_FROM = 12  # entry of EfficientNet-Lite0; the entries before it are frozen, and compute features for knee_net


def knee_net(shape: tuple[int, int, int], p: float = 0.4) -> nn.Sequential:
    """x: features of ImageNet (N, *shape) -> logits of the grades (N, 5). shape: (height, width, channels)."""
    height, width, channels = shape
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, 64, 1),
        nn.ELU(),
        nn.Dropout(p),
        nn.Flatten(),
        nn.Linear(height * width * 64, 64),
        nn.ELU(),
        nn.Dropout(p),
        nn.Linear(64, 5),
    )


FIRST = 3  # the entry of knee_net that is its first dropout


# ---------------------------------------------------------------------------------------- part 1: two observers
PLAIN, MEAN = "one pass without dropout", "mean of the passes"
MEASURES = ("entropy", "mutual information", "variance")
SHORT = {  # names of metrics
    **{PLAIN: "plain", MEAN: "passes", "at random": "random"},
    **{"entropy": "entropy", "mutual information": "information", "variance": "variance"},
    **{f"{PLAIN}, temperature": "plain_temperature", f"{MEAN}, temperature": "passes_temperature"},
}


@dataclass
class Eye:
    """A photograph, the probabilities of both ways, and the scores that shall find where the observers differ.

    p, mean: float32, the vessel's probability in one pass without dropout, and the mean of the passes with it. scores:
    for each name an array. All of them hold the pixels of the field of view, (pixels,).
    """

    retina: Retina
    p: np.ndarray
    mean: np.ndarray
    scores: dict[str, np.ndarray]

    @property
    def differ(self) -> np.ndarray:
        """True where the second observer contradicts the first."""
        return (self.retina.vessels != self.retina.second)[self.retina.field]

    @property
    def wrong(self) -> np.ndarray:
        """True where the net, in one pass without dropout, contradicts the first observer."""
        return (self.p > 0.5) != self.retina.vessels[self.retina.field]


def look(net: SkipNet, retina: Retina, count: int) -> Eye:
    """The net's answers for one photograph."""
    image = fcn.prepare(retina)
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)))[None]
    maps = nn.predict(net.first, padded)

    def in_field(logits: np.ndarray) -> np.ndarray:
        return expit(logits[..., :height, :width, 0][..., retina.field])

    p = in_field(nn.predict(net.rest, maps))[0]
    each = in_field(passes(net, net.rest, maps, count))[:, 0]
    scores = {PLAIN: p * (1 - p), **uncertainties(np.stack([1 - each, each], axis=-1))}
    return Eye(retina, p, each.mean(axis=0), scores)


def auc_among_equals(true: np.ndarray, score: np.ndarray, plain: np.ndarray, bins: int = 50) -> float:
    """The AUC of `score` among pixels of nearly the same plain uncertainty: what it knows that `plain` does not.

    The pixels are sorted by `plain` and divided into bins of equal size. 0.5: the score adds nothing. Each bin counts
    by its pairs of a positive and a negative pixel.
    """
    total = pairs = 0.0
    for part in np.array_split(np.argsort(plain, kind="stable"), bins):
        weight = float(true[part].sum()) * float((~true[part]).sum())
        if weight:
            total += weight * metrics.auc(true[part], score[part])
            pairs += weight
    return total / pairs


def vessel_answers(training: list[Retina], test: list[Retina], config: Config, seed: int) -> list[Eye]:
    """Train the net for vessels; return its answers for the test photographs."""
    tn.seed(seed)
    net = SkipNet(config.dropout)
    images = [fcn.prepare(retina) for retina in training]
    fcn.train(net, fcn.Crops(images, training, config.size, config.crops), 8, config, seed)
    return [look(net, retina, config.passes) for retina in tqdm(test, "photographs", leave=False, disable=None)]


def vessel_results(eyes: list[Eye]) -> dict[str, float]:
    """Means over the photographs: how well each score finds where the observers differ, and where the net is wrong."""
    results = {}
    for name in eyes[0].scores:
        short = SHORT[name]
        results[f"differ_{short}"] = np.mean([metrics.auc(eye.differ, eye.scores[name]) for eye in eyes])
        results[f"wrong_{short}"] = np.mean([metrics.auc(eye.wrong, eye.scores[name]) for eye in eyes])
        if name != PLAIN:
            same = [auc_among_equals(eye.differ, eye.scores[name], eye.scores[PLAIN]) for eye in eyes]
            results[f"added_{short}"] = np.mean(same)
    for name, values in (("plain", [eye.p for eye in eyes]), ("passes", [eye.mean for eye in eyes])):
        results[f"dice_{name}"] = np.mean(
            [metrics.dice(e.retina.vessels[e.retina.field], p > 0.5) for e, p in zip(eyes, values)]
        )
    return {name: float(value) for name, value in results.items()}


# ---------------------------------------------------------------------------------------- part 2: referral
@dataclass
class Answers:
    """The answers of the net for X-rays. logits: (T, N, 5) of T passes; T is 1 without dropout. grades: (N,)."""

    logits: np.ndarray
    grades: np.ndarray

    def p(self, temperature: float = 1.0) -> np.ndarray:
        """The probabilities of the grades in each pass, (T, N, 5)."""
        return softmax(self.logits / temperature, axis=-1)

    @property
    def severe(self) -> np.ndarray:
        """The probability of grade 2 or more in each pass, (T, N)."""
        return self.p()[..., 2:].sum(axis=-1)


Knees = dict[str, tuple[np.ndarray, np.ndarray]]  # part -> (features, grades)


def prepare_knees(config: Config) -> tuple[Knees, str]:
    """(features and grades of the training, validation and test X-rays; their source)."""
    parts, source = knees_or_synthetic(config.data, config.seed, (70, 30, 30), config.knee_size, config.quick)
    front, _ = fine_tuning.split(5, TRAINED_FROM)
    return {part: (fine_tuning.features(front, x.images), x.labels) for part, (x, _) in parts.items()}, source


def knee_answers(knees: Knees, config: Config, seed: int) -> tuple[dict[str, Answers], dict[str, Answers]]:
    """Train the net for knees; return its answers for validation and test X-rays in one pass, and in many."""
    tn.seed(seed)
    net = knee_net(knees["train"][0].shape[1:], config.knee_dropout).to(tn.device())
    fine_tuning.fine_tune(net, *knees["train"], epochs=config.knee_epochs, seed=seed)
    once, many = {}, {}
    for part in ("val", "test"):
        features, grades = knees[part]
        maps = nn.predict(net[:FIRST], features.astype(np.float32))
        once[part] = Answers(nn.predict(net[FIRST:], maps)[None], grades)
        many[part] = Answers(passes(net, net[FIRST:], maps, config.passes), grades)
    return once, many


FEWEST = 15  # X-rays in a point of the calibration curve; fewer are not drawn
KEYS = ("accuracy", "kappa")
SHARES = np.arange(0, 0.71, 0.05)  # of the X-rays that are referred to a specialist


def referral(answers: Answers, order: np.ndarray) -> dict[str, np.ndarray]:
    """Scores on the X-rays that are not referred, for each of SHARES of referred ones.

    order: the X-rays, the first ones are referred first.
    """
    yes, grade = answers.severe.mean(axis=0) > 0.5, answers.p().mean(axis=0).argmax(axis=1)
    scores: dict[str, list[float]] = {key: [] for key in KEYS}
    for share in SHARES:
        kept = order[round(share * len(order)) :]
        scores["accuracy"].append(float(np.mean(yes[kept] == (answers.grades[kept] >= 2))))
        table = metrics.confusion_matrix(answers.grades[kept], grade[kept], 5)
        scores["kappa"].append(metrics.cohen_kappa(table, "quadratic"))
    return {name: np.array(values) for name, values in scores.items()}


def referral_curves(once: Answers, many: Answers, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """The scores by the share of referred X-rays, for each way of choosing them."""
    binary = np.stack([1 - many.severe, many.severe], axis=-1)
    curves = {PLAIN: referral(once, np.argsort(-once.severe[0] * (1 - once.severe[0]), kind="stable"))}
    for name, score in uncertainties(binary).items():
        curves[name] = referral(many, np.argsort(-score, kind="stable"))
    rng = np.random.default_rng(seed)
    by_chance = [referral(many, rng.permutation(len(many.grades))) for _ in range(50)]
    curves["at random"] = {key: np.mean([one[key] for one in by_chance], axis=0) for key in KEYS}
    return curves


# ---------------------------------------------------------------------------------------- part 3: calibration
def fit_temperature(answers: Answers) -> float:
    """The number by which the logits must be divided so that the right grades of the X-rays become most probable."""
    right = np.arange(len(answers.grades)), answers.grades

    def loss(temperature: float) -> float:
        return float(-np.log(answers.p(temperature).mean(axis=0)[right] + 1e-12).mean())

    return float(minimize_scalar(loss, bounds=(0.2, 5), method="bounded").x)


def confidence(answers: Answers, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """(is the most probable grade right, its probability): bool (N,), float (N,)."""
    p = answers.p(temperature).mean(axis=0)
    return p.argmax(axis=1) == answers.grades, p.max(axis=1)


Calibrated = dict[str, tuple[np.ndarray, np.ndarray]]  # way -> (is the most probable grade right, its probability)


def calibration(once: dict[str, Answers], many: dict[str, Answers]) -> Calibrated:
    """The answers for test X-rays, with a temperature that validation X-rays fit, and without."""
    ways = {}
    for name, answers in ((PLAIN, once), (MEAN, many)):
        ways[name] = confidence(answers["test"], 1.0)
        ways[f"{name}, temperature"] = confidence(answers["test"], fit_temperature(answers["val"]))
    return ways


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    out: str = option("out/mc_dropout", "folder for the figures, and a folder of the net for vessels")
    passes: int = option(20, "passes with dropout", quick=4)
    dropout: float = option(0.2, "share of the values that dropout sets to zero in the net for vessels")
    seeds: int = option(1, "runs, with seeds from --seed on; their mean is compared with the expected metrics")
    epochs: int = option(6, "epochs of --crops crops, for vessels", quick=2)
    crops: int = option(800, "crops per epoch", quick=24)
    size: int = option(128, "height and width of a crop, pixels", quick=64)
    lr: float = option(2e-3, "highest learning rate for vessels (AdamW; warm-up, then a cosine)")
    images: int | None = option(None, "read only so many photographs (default: all)")
    drawing: int = option(128, "height and width of the drawings that replace missing photographs, pixels", quick=64)
    knee_size: int = option(112, "height and width of the X-rays, pixels", quick=32)
    knee_dropout: float = option(0.4, "share of the values that dropout sets to zero in the net for knees")
    knee_epochs: int = option(10, "epochs of the X-rays", quick=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "passes", "seeds", "crops", "knee_epochs", "images")
        self.at_least(8, "size", "knee_size")
        self.at_least(28, "drawing")
        for name in ("dropout", "knee_dropout"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must lie between 0 and 1")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train a net for vessels and a net for knees with dropout; judge their uncertainty; return the scores."""
    training, test, eye_source = fcn.load_data(config)
    test = [retina for retina in test if retina.second is not None]
    if not test:
        raise DataError("none of the test photographs has a tracing of the second observer; it is needed here")
    knees, knee_source = prepare_knees(config)
    print_settings(config, SkipNet(config.dropout), eyes=eye_source, knees=knee_source, weights=fine_tuning.source())
    figures: dict[str, viz.Figure] = {}

    def one_run(seed: int) -> dict[str, float]:
        eyes = vessel_answers(training, test, config, seed)
        once, many = knee_answers(knees, config, seed)
        curves = referral_curves(once["test"], many["test"], seed)
        calibrated = calibration(once, many)
        if seed == config.seed:
            figures["maps.png"] = draw_maps(eyes[0])
            figures["referral.png"] = draw_referral(curves)
            figures["calibration.png"] = draw_calibration(calibrated)
        return vessel_results(eyes) | knee_results(curves, calibrated)

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    real = eye_source.startswith("CHASE") and knee_source.startswith("knee") and fine_tuning.source() == "ImageNet"
    return report(config, results, EXPECTED if real else {}, figures, NEXT)


def knee_results(curves: dict[str, dict[str, np.ndarray]], calibrated: Calibrated) -> dict[str, float]:
    """Scores without referral and with 30 % of the X-rays referred, and calibration errors."""
    at = int(np.argmin(np.abs(SHARES - 0.3)))
    results = {f"{key}_{SHORT[name]}_all": float(curves[name][key][0]) for name in (PLAIN, "entropy") for key in KEYS}
    for name, curve in curves.items():
        results |= {f"{key}_{SHORT[name]}": float(values[at]) for key, values in curve.items()}
    for name, (right, sure) in calibrated.items():
        results[f"ece_{SHORT[name]}"] = metrics.expected_calibration_error(right, sure)
    return results


# ---------------------------------------------------------------------------------------- figures
def draw_maps(eye: Eye) -> viz.Figure:
    """A part of a photograph: where the observers differ, and where the net is uncertain."""
    retina = eye.retina
    part = viz.busiest_square((retina.vessels != retina.second) & retina.field, 300)
    both = viz.compare_masks(retina.vessels[part], retina.second[part])
    figure, panels = viz.subplots(2, 3, figsize=(12, 8.2))
    titles = {"photograph": retina.image[part], "gray: both observers, blue, orange: only one": both}
    for name, score in eye.scores.items():
        whole = np.zeros(retina.field.shape, np.float32)
        whole[retina.field] = score
        titles[f"{name}: p (1 - p)" if name == PLAIN else f"passes with dropout: {name}"] = whole[part]
    for axes, (title, image) in zip(panels.flat, titles.items()):
        axes.imshow(image, cmap="magma", vmin=0, vmax=np.quantile(image, 0.995))
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    return figure


COLORS = {
    **{PLAIN: (0, 0, 0), "entropy": viz.BLUE, "mutual information": viz.GREEN, "variance": viz.VERMILLION},
    "at random": (150, 150, 150),
}


def draw_referral(curves: dict[str, dict[str, np.ndarray]]) -> viz.Figure:
    """Accuracy and kappa of the X-rays that the net keeps, against the share that it refers to a specialist."""
    figure, panels = viz.subplots(1, 2, figsize=(11.5, 4.6))
    labels = {"accuracy": "accuracy, grade 2 or more: yes or no", "kappa": "quadratic kappa of the grade"}
    for axes, (key, label) in zip(panels, labels.items()):
        for name, curve in curves.items():
            text = f"passes: {name}" if name in MEASURES else name
            style = "--" if name in (PLAIN, "at random") else "-"
            axes.plot(100 * SHARES, curve[key], style, color=viz.mpl(COLORS[name]), label=text)
        axes.set(xlabel="X-rays referred to a specialist, %", ylabel=f"{label}, the others")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def draw_calibration(calibrated: Calibrated) -> viz.Figure:
    """How often the net is right, against how sure it is: a perfect net lies on the diagonal."""
    figure, axes = viz.subplots(figsize=(6.4, 6))
    axes.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    for name, color in zip(calibrated, (viz.BLACK, viz.VERMILLION, viz.BLUE, viz.GREEN)):
        sure, right, count = metrics.calibration_curve(*calibrated[name])
        error = metrics.expected_calibration_error(*calibrated[name])
        some = count >= FEWEST
        style = "s--" if "temperature" in name else "o-"
        axes.plot(sure[some], right[some], style, color=viz.mpl(color), label=f"{name}: error {error:.3f}")
    axes.set(xlabel="probability of the answer", ylabel="share of right answers", xlim=(0.2, 1), ylim=(0, 1))
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Uncertainty: Monte Carlo dropout"
DATA = "CHASE_DB1 (vessels traced by two observers), knee X-rays (Osteoarthritis Initiative)"
FILES = ("chase_db1/CHASEDB1.zip", "knee_oa/knee_oa_112.zip")
EXPECTED = {
    "differ_plain": (0.87, 0.93),
    "differ_variance": (0.87, 0.94),
    "dice_passes": (0.74, 0.81),
    "accuracy_plain": (0.84, 0.89),
    "accuracy_variance": (0.82, 0.88),
    "ece_plain": (0.04, 0.11),
    "ece_plain_temperature": (None, 0.05),
    "ece_passes": (0.02, 0.06),
}
PICTURE = "referral.png"
NEXT = "python examples/volumes/vnet_hippocampus.py"


if __name__ == "__main__":
    run(main)
