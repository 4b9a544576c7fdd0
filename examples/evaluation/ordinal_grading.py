"""How severe is the osteoarthritis of a knee? Grades have an order, and training and evaluation can use it.

    python examples/evaluation/ordinal_grading.py

A radiologist gives an X-ray of a knee a grade from 0 (healthy) to 4 (severe), after Kellgren and Lawrence: by the width
of the gap between the bones and by bony spurs beside it. To say 1 for a 0 is a small mistake, to say 4 is a large one.
A net with the weights of ImageNet is fine-tuned in three ways:

- **cross-entropy**: five classes; the order is not used;
- **regression**: one output, the grade as a number, by squared error;
- **cumulative**: four outputs, P(grade > 0) to P(grade > 3), each a yes-or-no question (Frank and Hall 2001).

Each gives a *score*, the expected grade. Thresholds turn it into a grade. They are chosen on the validation knees: each
grade is given as often there as the radiologists gave it. The mean of the three scores is judged, too.

**The evaluation** is that of the screening studies (Gulshan 2016): quadratic kappa (1 is perfect agreement, 0 is
chance; a mistake by two grades costs as much as four by one), accuracy, and for the question "grade 2 or more?" the
area under the ROC curve (AUC) and two operating points. For the 95 % intervals, *patients* are drawn with replacement,
not knees: both knees of a patient resemble each other, and drawing knees would give intervals that are too narrow.

**Beside it** stands ridge regression on 28 x 28 pixels, and on the gray levels alone. X-rays of different machines were
processed differently; a net may learn the machine. So the joint is cut out and its contrast stretched before a net sees
it. It is also enlarged, and the net ends after block 11 of 16, because later blocks see squares of 32 pixels as one. In
short trials, the cut raised the AUC on the validation knees from .86 to .88, and the shorter net to .90.

What to see (one seed, 1,234 test knees):

- The nets reach a kappa of .77 to .80 and an AUC of .91; pixels .55 and .77, gray levels .16 and .59.
- Which way is best is not decided: cross-entropy .797 (interval .770 to .821), cumulative .790, regression .766.
- The thresholds count as much. With its most probable class, cross-entropy is right more often (63 % against 62 %), but
  its kappa is lower (.768 against .797): the two measures do not want the same.
- Grade 1 is called "doubtful" for a reason: of 231 knees, 52 get it from the mean of the three.

Sources: Tiulpin et al., Automatic knee osteoarthritis diagnosis from plain radiographs, Scientific Reports 8, 2018
(kappa .83, accuracy 66.7 %, AUC .93 on other knees); Gulshan et al., JAMA 316, 2016; Frank, Hall, A simple approach to
ordinal classification, ECML 2001; data: Chen et al. 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

import tinynet as tn
from tinynet import metrics, nn, viz
from tinynet.data import ImageSet, knees_or_synthetic
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import BACKENDS, ExampleOptions, command_line, option, print_settings, report, run

fine_tuning = load_example("convnets/fine_tuning.py")  # read that script first
GRADES = np.arange(5)
Part = tuple[ImageSet, np.ndarray]  # X-rays with their grades, and the patient of each

# ---------------------------------------------------------------------------------------- the images
JOINT = (26, 93, 0, 112)  # first and last row, first and last column of the joint in an X-ray of 112 x 112 pixels
VIEWS = (  # (mirrored, part of the X-ray): a mirrored left knee looks like a right one
    (False, JOINT),
    (True, JOINT),  # a net sees one of four views in each step; a test knee gets the mean of the first two
    (False, (30, 93, 0, 106)),
    (True, (24, 89, 3, 111)),
)


def joints(images: np.ndarray, height: int, width: int, part: tuple[int, int, int, int] = JOINT) -> np.ndarray:
    """A part of the X-rays, enlarged to height x width, with the same contrast in each image.

    images: uint8 (N, 112, 112, 1). The 2nd percentile of the part's gray levels becomes black, the 98th white. Returns
    uint8 (N, height, width, 1).
    """
    top, bottom, left, right = part
    cut = images[:, top:bottom, left:right, 0].astype(np.float32)
    low, high = np.percentile(cut, (2, 98), axis=(1, 2), keepdims=True)
    stretched = np.clip(255 * (cut - low) / np.maximum(high - low, 1), 0, 255).astype(np.uint8)
    enlarged = [Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC) for image in stretched]
    return np.stack([np.asarray(image) for image in enlarged])[..., None]


def features(front: nn.Sequential, images: np.ndarray, count: int, config: Config) -> list[np.ndarray]:
    """The output of the frozen front for the first `count` views of the images."""
    views = []
    for mirrored, part in VIEWS[:count]:
        seen = joints(images, config.height, config.width, part)
        views.append(fine_tuning.features(front, seen[:, :, ::-1] if mirrored else seen))
    return views


# ---------------------------------------------------------------------------------------- the net
def grader(outputs: int, config: Config) -> tuple[nn.Sequential, nn.Sequential]:
    """(front, tail): EfficientNet-Lite0 that ends after the entry `last`, and a new last layer.

    The entries after 11 see squares of 32 pixels as one, too coarse for the gap of a joint, and have four fifths of
    the weights.
    """
    front, tail = fine_tuning.split(outputs, config.cut)
    blocks = [tail[i] for i in range(config.last - config.cut + 1)]
    channels = blocks[-1].narrow.conv.weight.shape[-1]
    head = nn.Sequential(nn.GlobalAvgPool2d(), nn.Dropout(0.3), nn.Linear(channels, outputs)).to(tn.device())
    return front, nn.Sequential(*blocks, *head)


# ---------------------------------------------------------------------------------------- three ways
@dataclass(frozen=True)
class Way:
    """How a net learns grades. loss(outputs, grades); score(outputs): the expected grade; usual(outputs): the grade
    without thresholds that are chosen."""

    outputs: int
    loss: Callable[[tn.Tensor, np.ndarray], tn.Tensor]
    score: Callable[[np.ndarray], np.ndarray]
    usual: Callable[[np.ndarray], np.ndarray]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the classes."""
    return tn.softmax(tn.tensor(logits)).numpy()


def squared_error(y: tn.Tensor, grades: np.ndarray) -> tn.Tensor:
    """y: (N, 1), the grade minus 2, so that the initial outputs near 0 lie in the middle."""
    target = tn.tensor((grades[:, None] - 2).astype(y.dtype)).to(y.device)
    return ((y - target) ** 2).mean()


def cumulative_loss(logits: tn.Tensor, grades: np.ndarray) -> tn.Tensor:
    """logits: (N, 4), of grade > 0, ..., grade > 3. Grade 2 is learned as 1 1 0 0."""
    return tn.bce_with_logits(logits, grades[:, None] > GRADES[:-1])


def exceeds(logits: np.ndarray) -> np.ndarray:
    """P(grade > k), k = 0 .. 3."""
    return tn.sigmoid(tn.tensor(logits).to(tn.device())).numpy()


WAYS = {
    "cross-entropy": Way(5, tn.softmax_cross_entropy, lambda y: probabilities(y) @ GRADES, lambda y: y.argmax(axis=1)),
    "regression": Way(1, squared_error, lambda y: y[:, 0] + 2, lambda y: graded(y[:, 0] + 2, GRADES[:-1] + 0.5)),
    "cumulative": Way(4, cumulative_loss, lambda y: exceeds(y).sum(axis=1), lambda y: (exceeds(y) > 0.5).sum(axis=1)),
}


def thresholds(score: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """Four thresholds, such that each grade is given as often as it occurs."""
    return np.quantile(score, np.cumsum(np.bincount(grades, minlength=5))[:4] / len(grades))


def graded(score: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The number of thresholds below the score: 0 to 4."""
    return np.sum(score[:, None] > limits, axis=1)


def learn(way: Way, x: dict[str, list[np.ndarray]], grades: np.ndarray, config: Config) -> dict[str, np.ndarray]:
    """Fine-tune a net; return its outputs for "val" and "test", the mean over the views of an X-ray.

    x: part -> features of each view.
    """
    tn.seed(config.seed)
    _, tail = grader(way.outputs, config)
    fine_tuning.fine_tune(tail, x["train"], grades, way.loss, config.epochs, config.lr, config.seed)
    return {part: np.mean([fine_tuning.outputs(tail, view) for view in x[part]], axis=0) for part in ("val", "test")}


# ---------------------------------------------------------------------------------------- without a net
def pixels(images: np.ndarray) -> np.ndarray:
    """Mean gray levels of 28 x 28 squares: (N, 784)."""
    n, height, width, _ = images.shape
    return images.reshape(n, 28, height // 28, 28, width // 28).mean(axis=(2, 4)).reshape(n, -1)


def gray_levels(images: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and nine percentiles of each image, without any place: (N, 11)."""
    levels = images.reshape(len(images), -1).astype(np.float64)
    percentiles = np.percentile(levels, (1, 5, 10, 25, 50, 75, 90, 95, 99), axis=1)
    return np.column_stack([levels.mean(axis=1), levels.std(axis=1), percentiles.T])


def ridge(x: dict[str, np.ndarray], grades: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The grade by ridge regression, for "val" and "test"; the penalty is the best of seven on the validation knees.

    x, grades: for each part. Features are standardized.
    """
    mean, deviation = x["train"].mean(axis=0), x["train"].std(axis=0) + 1e-6
    z = {part: (values - mean) / deviation for part, values in x.items()}
    middle = grades["train"].mean()
    gram, moment = z["train"].T @ z["train"], z["train"].T @ (grades["train"] - middle)
    best = (-np.inf, {})
    for penalty in 10.0 ** np.arange(7):
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), moment)
        scores = {part: z[part] @ weights + middle for part in ("val", "test")}
        said = graded(scores["val"], thresholds(scores["val"], grades["val"]))
        best = max(best, (agree(grades["val"], said)[0], scores), key=lambda pair: pair[0])
    return best[1]


# ---------------------------------------------------------------------------------------- the evaluation
def agree(grades: np.ndarray, said: np.ndarray) -> tuple[float, float]:
    """(quadratic kappa, accuracy)."""
    kappa = metrics.cohen_kappa(metrics.confusion_matrix(grades, said, 5), "quadratic")
    return kappa, float(np.mean(said == grades))


def measures(grades: np.ndarray, said: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Quadratic kappa, accuracy, AUC of grade 2 or more."""
    return np.array([*agree(grades, said), metrics.auc(grades >= 2, score)])


def intervals(patients: np.ndarray, samples: int, *arrays: np.ndarray) -> np.ndarray:
    """95 % intervals of `measures`, (2, 3), by drawing patients with replacement, each with all of his knees."""
    _, patient = np.unique(patients, return_inverse=True)
    count, rng = patient.max() + 1, np.random.default_rng(0)
    drawn = []
    for _ in range(samples):
        times = np.bincount(rng.integers(0, count, count), minlength=count)  # how often each patient is drawn
        knees = np.repeat(np.arange(len(patient)), times[patient])
        drawn.append(measures(*(array[knees] for array in arrays)))
    return np.quantile(drawn, (0.025, 0.975), axis=0)


def operating_points(parts: dict[str, Part], score: dict[str, np.ndarray], wanted: float = 0.9) -> list[dict]:
    """Sensitivity and specificity on the test knees; thresholds that give `wanted` of one on the validation knees."""
    ill = {part: parts[part][0].labels >= 2 for part in score}
    _, specific = metrics.sensitivity_at(ill["val"], score["val"], wanted)
    sensitive = np.quantile(score["val"][ill["val"]], 1 - wanted)
    rows = []
    for name, limit in ((f"sensitivity {wanted:.0%}", sensitive), (f"specificity {wanted:.0%}", specific)):
        yes = score["test"] >= limit
        rates = {"sensitivity": float(yes[ill["test"]].mean()), "specificity": float(1 - yes[~ill["test"]].mean())}
        rows.append({"chosen on validation for": name, **rates})
    return rows


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(ExampleOptions):
    out: str = option("out/ordinal_grading", "folder for the figures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    backend: str = option("cpu", "which implementation of the kernels runs", choices=BACKENDS)
    height: int = option(96, "height of the enlarged joint, pixels", quick=48)
    width: int = option(160, "width of the enlarged joint, pixels", quick=80)
    cut: int = option(6, "the first trained entry of EfficientNet-Lite0", quick=11)
    last: int = option(11, "its last entry in use (1 to 16)")
    epochs: int = option(4, "passes over the training knees", quick=2)
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    samples: int = option(1000, "resamples for the intervals", quick=50)
    drawings: int = option(100, "drawings to learn from if the X-rays are missing; half as many to test with")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(32, "height", "width")
        self.at_least(1, "epochs", "samples")
        self.at_least(20, "drawings")
        if not 0 <= self.cut <= self.last <= 16 or self.last == 0:
            raise ValueError(f"--cut {self.cut} --last {self.last}: entries in 0 <= cut <= last <= 16 are needed")


Scores = dict[str, dict[str, np.ndarray]]  # method -> "val" and "test" -> the expected grade of each knee
BEST = "mean of the three"


def without_nets(parts: dict[str, Part]) -> Scores:
    """Ridge regression on gray levels and on pixels."""
    grades = {part: knees.labels for part, (knees, _) in parts.items()}
    kinds = {"gray levels alone": gray_levels, "ridge on pixels": pixels}
    return {
        name: ridge({part: describe(knees.images) for part, (knees, _) in parts.items()}, grades)
        for name, describe in kinds.items()
    }


def with_nets(parts: dict[str, Part], config: Config) -> tuple[Scores, list[dict]]:
    """(scores of the three ways and of their mean, a table of the test knees without chosen thresholds)."""
    front, _ = grader(5, config)
    x = {
        part: features(front, knees.images, len(VIEWS) if part == "train" else 2, config)
        for part, (knees, _) in parts.items()
    }
    scores, rows = {}, []
    for name, way in WAYS.items():
        outputs = learn(way, x, parts["train"][0].labels, config)
        scores[name] = {part: way.score(y) for part, y in outputs.items()}
        agreement = {part: agree(parts[part][0].labels, way.usual(y)) for part, y in outputs.items()}
        print(f"{name}: kappa {agreement['val'][0]:.3f}, accuracy {agreement['val'][1]:.3f} (validation)", flush=True)
        rows.append({"without thresholds": name, **dict(zip(("kappa", "accuracy"), agreement["test"]))})
    scores[BEST] = {part: np.mean([scores[way][part] for way in WAYS], axis=0) for part in ("val", "test")}
    return scores, rows


def judge(parts: dict[str, Part], scores: Scores, config: Config) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """(measures, grades of the test knees by each method); prints the measures with their intervals."""
    (test, patients), val = parts["test"], parts["val"][0]
    results, said, rows = {}, {}, []
    for name, score in scores.items():
        said[name] = graded(score["test"], thresholds(score["val"], val.labels))
        values = measures(test.labels, said[name], score["test"])
        limits = intervals(patients, config.samples, test.labels, said[name], score["test"])
        texts = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in zip(values, *limits)]
        rows.append({"thresholds from validation": name, **dict(zip(("kappa", "accuracy", "AUC"), texts))})
        key = name.replace(" ", "_").replace("-", "_")
        results |= dict(zip((f"{key}_kappa", f"{key}_accuracy", f"{key}_auc"), map(float, values)))
    published = dict(zip(("kappa", "accuracy", "AUC"), ("0.83", "0.667", "0.93")))
    rows.append({"thresholds from validation": "Tiulpin 2018, other knees", **published})
    print("\n" + metrics.format_table(rows))
    return results, said


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train the three ways, choose thresholds on the validation knees; return the measures on the test knees."""
    counts = (config.drawings, config.drawings // 2, config.drawings // 2)
    parts, source = knees_or_synthetic(config.data, config.seed, counts, synthetic=config.quick)
    print_settings(config, weights=fine_tuning.source(), knees=source)
    nets, usual = with_nets(parts, config)
    scores = without_nets(parts) | nets
    print("\nThe grade without thresholds is the most probable one, the rounded number, or the number of P > 1/2.")
    print(metrics.format_table(usual))
    results, said = judge(parts, scores, config)
    print("\n" + metrics.format_table(operating_points(parts, scores[BEST])), flush=True)
    test, val = parts["test"][0], parts["val"][0]
    figures = {
        "grades.png": draw_grades(test.labels, scores, thresholds(scores[BEST]["val"], val.labels)),
        "confusion.png": draw_confusions(test.labels, said),
        "joints.png": draw_joints(test, said[BEST], scores[BEST]["test"], config),
    }
    return report(config, results, {} if source.startswith("drawings") else EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
COLORS = (viz.mpl(viz.SKY), viz.mpl(viz.GREEN), viz.mpl(viz.YELLOW), viz.mpl(viz.ORANGE), viz.mpl(viz.VERMILLION))


def draw_grades(grades: np.ndarray, scores: dict[str, dict[str, np.ndarray]], limits: np.ndarray) -> viz.Figure:
    """ROC curves of grade 2 or more; the scores of each true grade with the thresholds."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(12, 5.2))
    colors = ((170, 170, 170), (100, 100, 100), viz.BLUE, viz.GREEN, viz.ORANGE, viz.BLACK)
    for (name, score), color in zip(scores.items(), colors):
        viz.draw_roc(left, grades >= 2, score["test"], name, color)
    left.set_title("grade 2 or more?")
    left.legend(loc="lower right", fontsize=8)
    score = scores["mean of the three"]["test"]
    bins = np.linspace(-0.25, 4.25, 46)
    right.hist([score[grades == grade] for grade in GRADES], bins, stacked=True, color=COLORS, label=list("01234"))
    for limit in limits:
        right.axvline(limit, color="k", linestyle="--", linewidth=1)
    right.set(xlabel="expected grade, mean of the three; dashed: thresholds", ylabel="test knees")
    right.legend(title="radiologists' grade")
    return figure


def draw_confusions(grades: np.ndarray, said: dict[str, np.ndarray]) -> viz.Figure:
    """The confusion matrix of each method."""
    figure, panels = viz.subplots(2, 3, figsize=(11, 8))
    for axes, (name, answers) in zip(panels.flat, said.items()):
        viz.draw_confusion(axes, metrics.confusion_matrix(grades, answers, 5), "01234")
        axes.set(
            title=f"{name}: κ {agree(grades, answers)[0]:.2f}", xlabel="predicted grade", ylabel="radiologists' grade"
        )
    return figure


def draw_joints(test: ImageSet, said: np.ndarray, score: np.ndarray, config: Config) -> viz.Figure:
    """Of each grade: an X-ray, three joints as the net sees them, and the worst mistake."""
    figure, panels = viz.subplots(5, 5, figsize=(11, 7.2), width_ratios=(1, 1.6, 1.6, 1.6, 1.6))
    for grade, row in zip(GRADES, panels):
        knees = np.flatnonzero(test.labels == grade)
        chosen = [*knees[:3], knees[np.argmax(np.abs(score[knees] - grade))]]
        row[0].imshow(test.images[chosen[0], :, :, 0], cmap="gray")
        row[0].set_ylabel(f"grade {grade}")
        for panel, i, joint in zip(row[1:], chosen, joints(test.images[chosen], config.height, config.width)):
            panel.imshow(joint[:, :, 0], cmap="gray")
            panel.set_title(f"graded {said[i]}", fontsize=9, color="k" if said[i] == grade else viz.mpl(viz.VERMILLION))
        row[-1].set_title(f"furthest off: {row[-1].get_title()}", fontsize=9, color=row[-1].title.get_color())
    panels[0, 0].set_title("X-ray", fontsize=9)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Evaluation: ordered grades, quadratic kappa with intervals"
DATA = "knee X-rays with grades 0 to 4 (Chen et al.), 5,778 + 826 + 1,234"
FILES = ("knee_oa/knee_oa_112.zip",)
EXPECTED = {
    "gray_levels_alone_kappa": (0.1, 0.25),
    "ridge_on_pixels_kappa": (0.5, 0.6),
    "ridge_on_pixels_auc": (0.75, 0.8),
    "cross_entropy_kappa": (0.72, None),
    "regression_kappa": (0.72, None),
    "cumulative_kappa": (0.75, None),
    "mean_of_the_three_kappa": (0.75, None),
    "mean_of_the_three_auc": (0.9, None),
}
PICTURE = "grades.png"
NEXT = "python examples/evaluation/taxonomy.py"


if __name__ == "__main__":
    run(main)
