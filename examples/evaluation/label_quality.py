"""Wrong labels: how many a net bears, what helps, and what it learns from two experts who differ.

    python examples/evaluation/label_quality.py

A net learns from labels that people gave. People make mistakes, and where the images do not tell, they differ. Three
experiments; the scores always use the right labels:

1. **Digits, 0 to 80 % of the training labels wrong.** *Symmetric*: any other digit. *Pairwise*: always the next digit,
   so a 3 becomes a 4. A net first learns what most examples have in common, and later learns the wrong labels by heart.
   Two remedies: *stop early*, after the epoch that is best on a few hundred validation digits with right labels; and
   *generalized cross-entropy*, a loss in which an example that the net finds improbable counts little.
2. **Knees, 0 to 50 % of the training grades moved by one.** The scores are quadratic kappa and the AUC of grade 2 or
   more. The net is a small one on frozen features of ImageNet.
3. **Vessels of the retina, traced by two observers.** Nets learn from the first observer, from the second, from either
   one at random, and from the mean of both. Each net is judged by both observers.

What to see (one run):

- **Digits**, accuracy on 10,000 test digits:

                                            symmetric                    pairwise
      wrong labels                 0   20 %   40 %   60 %   80 %   20 %   40 %   60 %   80 %
      cross-entropy             .964   .952   .930   .862   .592   .903   .677   .294   .056
      stopped early             .963   .948   .930   .864   .603   .894   .698   .361   .060
      generalized               .961   .956   .948   .912   .662   .953   .804   .161   .008

  With 60 % symmetric wrong labels, the right one is still the most frequent label, and the net finds it. Pairwise,
  beyond one half, the next digit is what the labels teach, and the robust loss learns it best. With symmetric wrong
  labels, stopping early gains little, because 15 epochs with a falling learning rate are too short for learning by
  heart. (With 60 % pairwise it gains .07.) In a trial with 5,000 digits, 20 epochs and a constant rate, cross-entropy
  fell to .53 (60 %, symmetric), and stopping early kept .86.
  A second run, with other rounding errors, had the same accuracies to within .01, except for two of stopping early:
  .915 with 40 % and .634 with 80 % symmetric. So do not read much into a difference of .03.
- **Knees**: kappa .603, .601, .602, .533 with 0, 10, 30, 50 % of the grades moved; AUC .846, .844, .842, .839. Mistakes
  that go up as often as down nearly cancel out.
- **Vessels**: the nets that learned from the first, the second, either, and the mean have a Dice of .738, .725, .741,
  .738 by the first observer, and of .744, .731, .749, .746 by the second. The observers agree with each other at .798.
  The nets train shortly, and what they lack is more than what the choice of the teacher changes. Both teachers are
  best, but by so little that one run cannot tell. Every net agrees more with the second observer, even if it learned
  from the first. The doubt of the net finds where the observers differ: AUC .887, .880, .890, .890.

Sources: Arpit et al., A closer look at memorization in deep networks, ICML 2017; Rolnick, Veit, Belongie, Shavit, Deep
learning is robust to massive label noise, 2017; Zhang, Sabuncu, Generalized cross entropy loss for training deep neural
networks with noisy labels, NeurIPS 2018; data: LeCun et al. 1998 (MNIST), Chen et al. 2019 (knees), Fraz et al. 2012
(CHASE_DB1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataLoader, ImageSet, Retina, handwritten_digits, knees_or_synthetic
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import SeedOptions, command_line, mean_over_seeds, option, print_settings, report, run

lenet = load_example("convnets/lenet_mnist.py").lenet  # the net for digits
fine_tuning = load_example("convnets/fine_tuning.py")  # features of ImageNet
mc_dropout = load_example("uncertainty/mc_dropout.py")  # the small net for knees on top of these features
fcn = load_example("segmentation/fcn_vessels.py")  # the net with skip connections

# ---------------------------------------------------------------------------------------- wrong labels
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)  # of wrong labels among the digits
KINDS = ("symmetric", "pairwise")
KNEE_SHARES = (0.0, 0.1, 0.3, 0.5)  # of grades that are one off


def flipped(labels: np.ndarray, share: float, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Labels 0 to 9, of which a random share is wrong.

    kind "symmetric": each of the nine other classes is as probable. "pairwise": the next class, so that a wrong 3 is
    always a 4, and a wrong 9 a 0: a mistake that people make has a reason, and happens again.
    """
    steps = rng.integers(1, 10, len(labels)) if kind == "symmetric" else 1
    return np.where(rng.random(len(labels)) < share, (labels + steps) % 10, labels)


def one_grade_off(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Grades 0 to 4, of which a random share is moved up or down by one; 0 can only become 1, and 4 only 3."""
    steps = rng.choice((-1, 1), len(labels))
    moved = np.where((labels + steps < 0) | (labels + steps > 4), labels - steps, labels + steps)
    return np.where(rng.random(len(labels)) < share, moved, labels)


# ---------------------------------------------------------------------------------------- a robust loss
def generalized_cross_entropy(logits: tn.Tensor, labels: np.ndarray, q: float = 0.7) -> tn.Tensor:
    """The mean of (1 - p^q) / q, where p is the probability of the label.

    With q near 0 it is cross-entropy, with q = 1 the mean absolute error. Its gradient is that of cross-entropy times
    p^q: an example whose label the net finds improbable counts little.
    """
    of_label = tn.tensor(np.eye(logits.shape[-1], dtype=logits.dtype)[labels])
    log_p = (tn.log_softmax(logits) * of_label).sum(-1)
    return ((1 - tn.exp(log_p * q)) * (1 / q)).mean()


LOSSES = {"cross-entropy": tn.softmax_cross_entropy, "generalized cross-entropy": generalized_cross_entropy}


# ---------------------------------------------------------------------------------------- training
@dataclass
class Batches:
    """Random batches (images, labels) of arrays. Each iteration is one epoch, in a new order."""

    images: np.ndarray
    labels: np.ndarray
    size: int
    rng: np.random.Generator

    def __len__(self) -> int:
        return len(self.labels) // self.size

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = self.rng.permutation(len(self.labels))
        for batch in order[: len(self) * self.size].reshape(-1, self.size):
            yield self.images[batch], self.labels[batch]


def fit(
    model: nn.Module,
    loader: Iterable,
    loss: Callable[[tn.Tensor, np.ndarray], tn.Tensor],
    epochs: int,
    lr: float,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Train with AdamW. `watch` is called after each epoch, in evaluation mode."""
    optimizer = optim.AdamW(model.parameters(), lr, weight_decay=1e-4)
    steps = epochs * len(loader)
    schedule = optim.CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)
    for _ in tqdm(range(epochs), "epochs", leave=False, disable=None):
        model.train()
        for x, target in loader:
            error = loss(model(tn.tensor(x)), target)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        watch()


# ---------------------------------------------------------------------------------------- part 1: digits
def learn_digits(data: Digits, labels: np.ndarray, loss: str, config: Config, seed: int) -> Curve:
    """Train LeNet on these labels, some of which are wrong."""
    tn.seed(seed)
    model = lenet()
    loader = Batches(data.training, labels, config.batch_size, np.random.default_rng(seed))
    best: dict[str, np.ndarray] = {}
    curve = Curve([], [])

    def accuracy(images: np.ndarray, true: np.ndarray) -> float:
        return float(np.mean(nn.predict(model, images).argmax(axis=1) == true))

    def watch() -> None:
        curve.training.append(accuracy(data.training[:1000], labels[:1000]))
        curve.validation.append(accuracy(*data.validation))
        if curve.validation[-1] > max(curve.validation[:-1], default=-1.0):
            best.update(model.state_dict())

    fit(model, loader, LOSSES[loss], config.epochs, config.lr, watch)
    curve.test_last = accuracy(*data.test)
    model.load_state_dict(best)
    curve.test_early = accuracy(*data.test)
    return curve


@dataclass
class Curve:
    """Accuracies of one training. training, validation: after each epoch, on 1,000 training digits with their labels,
    some of which are wrong, and on validation digits with right labels. test_last, test_early: on test digits, after
    the last epoch and after the epoch that was best on the validation digits.
    """

    training: list[float]
    validation: list[float]
    test_last: float = float("nan")
    test_early: float = float("nan")


@dataclass
class Digits:
    """Images are float32 (N, 28, 28, 1) in [0, 1]. Only the training digits get wrong labels."""

    training: np.ndarray
    labels: np.ndarray
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def choose_digits(digits: ImageSet, test: ImageSet, config: Config) -> Digits:
    """--digits training digits, and a tenth as many for validation, at random from the training set."""
    order = np.random.default_rng(config.seed).permutation(len(digits))
    count = min(config.digits, len(digits) * 10 // 11)
    training, validation = digits.subset(order[:count]), digits.subset(order[count:][: max(1, count // 10)])
    return Digits(scaled(training), training.labels, *((scaled(part), part.labels) for part in (validation, test)))


def scaled(digits: ImageSet) -> np.ndarray:
    """Gray levels 0 to 255 as float32 from 0 to 1."""
    return digits.images.astype(np.float32) / 255


Curves = dict[tuple[str, float, str], Curve]  # (kind, share of wrong labels, loss) -> its training


def digit_curves(data: Digits, config: Config, seed: int) -> Curves:
    """Train with every kind and share of wrong labels and every loss."""
    curves: Curves = {}
    for kind in KINDS:
        for share in SHARES[: config.shares]:
            labels = flipped(data.labels, share, kind, np.random.default_rng((seed, 1)))
            for loss in LOSSES:
                same = (
                    curves.get((KINDS[0], 0.0, loss)) if share == 0 else None
                )  # the kinds differ in wrong labels only
                curves[kind, share, loss] = same or learn_digits(data, labels, loss, config, seed)
    return curves


def methods(curves: Curves, kind: str, config: Config) -> dict[str, np.ndarray]:
    """The accuracy on test digits for each share of wrong labels, by method."""
    plain, robust = ([curves[kind, share, loss] for share in SHARES[: config.shares]] for loss in LOSSES)
    return {
        "plain": np.array([curve.test_last for curve in plain]),
        "early": np.array([curve.test_early for curve in plain]),
        "robust": np.array([curve.test_last for curve in robust]),
    }


# ---------------------------------------------------------------------------------------- part 2: knees
Knees = dict[str, tuple[np.ndarray, np.ndarray]]  # part -> (features, grades)


def prepare_knees(config: Config) -> tuple[Knees, str]:
    """(features and grades of training and test X-rays, their source). One computation serves all nets."""
    parts, source = knees_or_synthetic(config.data, config.seed, (70, 10, 20), config.knee_size, config.quick)
    front, _ = fine_tuning.split(5, mc_dropout.TRAINED_FROM)
    chosen = {part: parts[part][0] for part in ("train", "test")}
    return {part: (fine_tuning.features(front, x.images), x.labels) for part, x in chosen.items()}, source


def knee_scores(knees: Knees, config: Config, seed: int) -> dict[str, np.ndarray]:
    """{"kappa": (shares,), "auc": (shares,)} on test X-rays with their own grades; the AUC is of grade 2 or more."""
    features, true = knees["test"]
    scores: dict[str, list[float]] = {"kappa": [], "auc": []}
    for share in KNEE_SHARES[: config.shares]:
        tn.seed(seed)
        grades = one_grade_off(knees["train"][1], share, np.random.default_rng((seed, 2)))
        net = mc_dropout.knee_net(features.shape[1:])
        fine_tuning.fine_tune(net, knees["train"][0], grades, epochs=config.knee_epochs, seed=seed)
        logits = fine_tuning.outputs(net, features)
        table = metrics.confusion_matrix(true, logits.argmax(axis=1), 5)
        scores["kappa"].append(metrics.cohen_kappa(table, "quadratic"))
        severe = tn.softmax(tn.tensor(logits)).numpy()[:, 2:].sum(axis=1)
        scores["auc"].append(metrics.auc(true >= 2, severe))
    return {name: np.array(values) for name, values in scores.items()}


# ---------------------------------------------------------------------------------------- part 3: two observers
OBSERVERS = ("first", "second")


def by_observer(retinas: list[Retina]) -> dict[str, list[Retina]]:
    """What a net can learn from: the tracings of one observer, of either one at random, or the mean of both.

    Where the observers differ, the mean is 0.5. The lists are as long as `retinas`, "either" is twice as long.
    """
    second = [replace(retina, vessels=retina.second) for retina in retinas]
    means = [(retina.vessels + retina.second.astype(np.float32)) / 2 for retina in retinas]
    mean = [replace(retina, vessels=tracing) for retina, tracing in zip(retinas, means)]
    return {"first": retinas, "second": second, "either": retinas + second, "mean": mean}


Eyes = tuple[list[Retina], list[Retina]]  # photographs for training and for tests, traced by both observers


def observer_scores(eyes: Eyes, config: Config, seed: int) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """(scores of a net for each kind of tracings, the vessels that each net finds in the first test photograph).

    Scores: Dice and AUC on test photographs, by the tracings of the first and of the second observer, and how well the
    net's doubt (a probability near 0.5) finds where they differ, as an AUC. The threshold is the best one for the
    tracings that the net learned from, on a quarter of its training photographs.
    """
    training, test = eyes
    images, test_images = ([fcn.prepare(retina) for retina in part] for part in eyes)
    judges, few = by_observer(test), by_observer(training[::4])
    few["mean"] = few["either"]  # a mean is no yes or no
    table, maps = {}, {}
    for name, teachers in by_observer(training).items():
        tn.seed(seed)
        net = fcn.SkipNet()
        crops = fcn.Crops(images * (len(teachers) // len(images)), teachers, config.size, config.crops)
        fit(net, DataLoader(crops, 8, seed=seed), tn.bce_with_logits, config.vessel_epochs, config.vessel_lr)
        again = [fcn.by_skips(net, image)[r.field] for r, image in zip(few["first"], images[::4])]
        threshold = fcn.best_threshold(again * (len(few[name]) // len(again)), few[name])
        logits = [fcn.by_skips(net, image) for image in test_images]
        inside = [logit[retina.field] for logit, retina in zip(logits, test)]
        qualities = {judge: fcn.quality(inside, judges[judge], threshold) for judge in OBSERVERS}
        table[name] = {f"{key}_{judge}": value for judge in OBSERVERS for key, value in qualities[judge].items()}
        differ = [(r.vessels != r.second)[r.field] for r in test]
        table[name]["auc_differ"] = float(np.mean([metrics.auc(d, -np.abs(x)) for d, x in zip(differ, inside)]))
        maps[name] = (logits[0] > threshold) & test[0].field
    return table, maps


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(SeedOptions):
    out: str = option("out/label_quality", "folder for the figures")
    data: str | None = option(None, "folder with mnist, knee_oa and chase_db1 (default: TINYNET_DATA, then the cache)")
    seeds: int = option(1, "runs, with seeds from --seed on; their mean is compared with the expected metrics")
    shares: int = option(5, "use the first so many shares of wrong labels", quick=2)
    digits: int = option(4_000, "digits to train on; a tenth as many are for validation", quick=400)
    batch_size: int = option(100, "digits in a step", quick=25)
    epochs: int = option(15, "epochs of the digits", quick=4)
    lr: float = option(1e-3, "highest learning rate (AdamW; warm-up, then a cosine) for digits")
    knee_size: int = option(112, "height and width of the X-rays, pixels", quick=32)
    knee_epochs: int = option(6, "epochs of the X-rays", quick=4)
    vessel_epochs: int = option(3, "epochs of --crops crops of photographs", quick=1)
    vessel_lr: float = option(2e-3, "highest learning rate for vessels")
    crops: int = option(800, "crops of photographs per epoch", quick=8)
    size: int = option(128, "height and width of a crop, pixels", quick=64)
    images: int | None = option(None, "read only so many photographs (default: all)")
    drawing: int = option(128, "height and width of the drawings that replace missing photographs, pixels", quick=64)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "digits", "batch_size", "epochs", "knee_epochs", "vessel_epochs", "crops", "images")
        self.at_least(8, "size", "knee_size")
        self.at_least(28, "drawing")
        if not 1 <= self.shares <= len(SHARES):
            raise ValueError(f"--shares is {self.shares}; it must lie in 1 .. {len(SHARES)}")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Learn digits, grades of knees and vessels of the retina from wrong labels; return scores by right labels."""
    *both, source = handwritten_digits(config.data)
    digits = choose_digits(*both, config)
    knees, knee_source = prepare_knees(config)
    *eyes, eye_source = fcn.load_data(config)
    eyes = tuple([retina for retina in part if retina.second is not None] for part in eyes)
    if not all(eyes):
        eye_source += ", left out: without tracings of a second observer"
    weights = fine_tuning.source()  # of the features of knees
    sources = {"source_of_digits": source, "source_of_knees": knee_source, "source_of_vessels": eye_source}
    print_settings(config, lenet(), **sources, weights=weights)
    runs: list[tuple] = []

    def one_run(seed: int) -> dict[str, float]:
        curves = digit_curves(digits, config, seed)
        knee = knee_scores(knees, config, seed)
        table, maps = observer_scores(eyes, config, seed) if all(eyes) else ({}, {})
        runs.append((curves, knee, table, maps))
        results = digit_results(curves, config)
        results |= {f"{name}_{round(100 * share)}": v for name, vs in knee.items() for share, v in zip(KNEE_SHARES, vs)}
        return results | {f"{key}_by_{name}": v for name, row in table.items() for key, v in row.items()}

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    curves, _, table, maps = runs[0]
    figures = {"noise.png": draw_noise(runs, config), "epochs.png": draw_epochs(curves, config)}
    if all(eyes):
        agreement = [metrics.dice(r.vessels[r.field], r.second[r.field]) for r in eyes[1]]
        results["dice_observers"] = float(np.mean(agreement))
        print_observers(table)
        figures["observers.png"] = draw_observers(eyes[1][0], maps)
    real = (
        source.startswith("MNIST"),
        knee_source.startswith("knee"),
        eye_source.startswith("CHASE"),
        weights == "ImageNet",
    )
    return report(config, results, EXPECTED if all(real) else {}, figures, NEXT)


def digit_results(curves: Curves, config: Config) -> dict[str, float]:
    """The accuracy on test digits of each method, for each kind and share of wrong labels."""
    return {
        f"{method}_{kind}_{round(100 * share)}": float(accuracy)
        for kind in KINDS
        for method, accuracies in methods(curves, kind, config).items()
        for share, accuracy in zip(SHARES, accuracies)
    }


def print_observers(table: dict[str, dict[str, float]]) -> None:
    """The scores of each net, by both observers."""
    rows = [{"learned from": name, **row} for name, row in table.items()]
    print(f"\nvessels, by the tracings of the first and of the second observer\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
NAMES = {
    **{"plain": "cross-entropy, last epoch", "early": "cross-entropy, stopped early"},
    **{"robust": "generalized cross-entropy", "first": "first observer", "second": "second observer"},
    **{"either": "either, at random", "mean": "mean of both"},
}


def draw_noise(runs: list[tuple], config: Config) -> viz.Figure:
    """Scores against the share of wrong labels: digits with both kinds, knees."""
    figure, panels = viz.subplots(1, 3, figsize=(14, 4.6))
    colors = [viz.mpl(color) for color in (viz.VERMILLION, viz.BLUE, viz.GREEN)]
    for axes, kind in zip(panels, KINDS):
        lines = [methods(curves, kind, config) for curves, *_ in runs]
        for (name, values), color in zip(lines[0].items(), colors):
            mean = np.mean([line[name] for line in lines], axis=0)
            style = "s--" if name == "early" else "o-"  # without wrong labels the lines lie on each other
            axes.plot([100 * share for share in SHARES[: len(values)]], mean, style, color=color, label=NAMES[name])
        axes.set(xlabel="wrong labels, %", ylabel="accuracy on test digits", ylim=(0, 1.02))
        axes.set_title(f"digits, {kind}: " + ("any other class" if kind == "symmetric" else "always the next class"))
        axes.legend(loc="lower left")
    axes, knees = panels[2], {name: np.mean([knee[name] for _, knee, *_ in runs], axis=0) for name in runs[0][1]}
    for (name, values), color in zip(knees.items(), (viz.BLUE, viz.ORANGE)):
        label = "quadratic kappa of the grade" if name == "kappa" else "AUC of grade 2 or more"
        axes.plot([100 * s for s in KNEE_SHARES[: len(values)]], values, "o-", color=viz.mpl(color), label=label)
    axes.set(xlabel="training grades that are one off, %", ylabel="score on test X-rays", ylim=(0, 1.02))
    axes.set_title("knees: one grade off")
    axes.legend(loc="lower left")
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure


def draw_epochs(curves: Curves, config: Config) -> viz.Figure:
    """How the nets learn the wrong labels by heart: accuracies after each epoch, with many symmetric wrong labels."""
    share = SHARES[min(3, config.shares - 1)]
    figure, panels = viz.subplots(1, 2, figsize=(11, 4.4), sharey=True)
    for axes, loss in zip(panels, LOSSES):
        curve = curves["symmetric", share, loss]
        epochs = np.arange(1, len(curve.training) + 1)
        axes.plot(epochs, curve.validation, color=viz.mpl(viz.BLUE), label="validation digits, right labels")
        axes.plot(epochs, curve.training, color=viz.mpl(viz.VERMILLION), label="training digits, their labels")
        axes.axhline(1 - share, color="0.5", linestyle="--", linewidth=1, label="share of right labels in training")
        if loss == "cross-entropy":
            best = int(np.argmax(curve.validation))
            axes.plot(best + 1, curve.validation[best], "k*", markersize=12, label="stopped early")
        axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02), xticks=epochs[:: max(1, len(epochs) // 7)])
        axes.set_title(f"{loss}, {share:.0%} of the labels wrong")
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    return figure


def draw_observers(retina: Retina, maps: dict[str, np.ndarray]) -> viz.Figure:
    """A part of a photograph: where the observers differ, and what the nets of their tracings find there."""
    part = viz.busiest_square((retina.vessels != retina.second) & retina.field, 300)
    both = viz.compare_masks(retina.vessels[part], retina.second[part])
    figure, panels = viz.subplots(2, 3, figsize=(11, 7.8))
    titles = {"photograph": retina.image[part], "gray: both, blue: only first, orange: only second": both}
    titles |= {f"net that learned from: {NAMES[name]}": found[part] for name, found in maps.items()}
    for axes, (title, image) in zip(panels.flat, titles.items()):
        axes.imshow(image, cmap="gray_r")
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Evaluation: wrong labels"
DATA = "MNIST, knee X-rays (Osteoarthritis Initiative), CHASE_DB1 (vessels traced by two observers)"
FILES = ("mnist", "knee_oa/knee_oa_112.zip", "chase_db1/CHASEDB1.zip")
EXPECTED = {
    "plain_symmetric_0": (0.95, 0.98),
    "plain_symmetric_60": (0.78, 0.92),
    "robust_symmetric_60": (0.87, 0.95),
    "plain_pairwise_40": (0.58, 0.78),
    "robust_pairwise_40": (0.7, 0.9),
    "plain_pairwise_80": (None, 0.2),
    "kappa_0": (0.55, 0.66),
    "kappa_30": (0.55, 0.66),
    "auc_50": (0.81, 0.87),
    "dice_first_by_first": (0.7, 0.79),
    "dice_first_by_either": (0.7, 0.79),
    "dice_observers": (0.79, 0.8),
}
PICTURE = "noise.png"
NEXT = "python examples/interpretability/saliency.py"


if __name__ == "__main__":
    run(main)
