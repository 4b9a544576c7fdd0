"""How good is a diagnosis? ROC curve, operating points, and Cohen's kappa.

    python examples/evaluation/roc_and_kappa.py

303 patients of the Cleveland Clinic: 13 measurements, and the narrowing of their coronary vessels in five degrees, 0
(none) to 4. Two questions need two kinds of metrics.

**Is there disease, yes or no?** The model gives a score, and the ROC curve shows the effect of every threshold on it.
The area under the curve (AUC) rates the score as a whole; its interval says how much 303 patients can tell (DeLong's
formula; the bootstrap, which draws the patients again, agrees). But a doctor needs *one* threshold, an operating point,
and the best one depends on the purpose:

- screening must not miss a patient: sensitivity 95 %, whatever the specificity;
- before an operation one wants to be sure: specificity 95 %;
- Youden's index, sensitivity + specificity - 1, weighs both alike.

(Before a threshold is used, it must be judged on other patients than those by which it was chosen.)

**Which degree?** Accuracy is a poor metric here: the constant answer "0" is right in 54 %. Cohen's kappa takes the
agreement by chance into account,

    kappa = 1 - (disagreement observed) / (disagreement expected by chance)

and counts every mistake alike. If the degrees are ordered, taking a 3 for a 4 is not as bad as taking it for a 0: the
linear kappa weighs a mistake by the distance |i - j|, the quadratic kappa by (i - j)^2. A famous table shows the
difference: two neurologists judged the same patients for multiple sclerosis, in Winnipeg and in New Orleans.

**The model** for ordered degrees has one score s = w . x for all of them and a threshold for each step of the scale
(the proportional odds model): P(degree > k) = sigmoid(s - threshold_k). It is logistic regression, four times with the
same w, and its loss here is the mean of the four cross-entropies; McCullagh's loss is -log P(degree).

Every patient is judged by a model that has not seen him (5-fold cross-validation). The metrics are means over three
random splits of the patients.

Sources: Detrano et al., American Journal of Cardiology 64, 1989 (the data); Hanley and McNeil 1982, DeLong et al.
1988 (AUC); Youden, Cancer 3, 1950; Cohen 1960 and 1968 (kappa); McCullagh, Regression models for ordinal data, JRSS B
42, 1980; Westlund and Kurland, American Journal of Hygiene 57, 1953 (the neurologists), with plain kappas in Landis and
Koch, Biometrics 33, 1977.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataError, cleveland, standardize, stratified_folds
from tinynet.tools.cli import SeedOptions, command_line, mean_over_seeds, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- the model
class ProportionalOdds(nn.Module):
    """Logits of "degree > k" for k = 0 .. steps - 1: x (N, D) -> (N, steps), all with the same w."""

    def __init__(self, inputs: int, steps: int) -> None:
        self.score = nn.Linear(inputs, 1, bias=False)
        self.thresholds = nn.Parameter(np.linspace(-1, 1, steps).astype(np.float32))

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        return self.score(x) - self.thresholds


def one_hot(features: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """Replace a column of codes without an order (pain, electrocardiogram, scan) by a 0/1 column for each code."""
    parts = []
    for name, values in zip(columns, features.T):
        if name in ("cp", "restecg", "thal"):
            codes = np.unique(values[~np.isnan(values)])
            parts += [np.where(np.isnan(values), np.nan, values == code) for code in codes]
        else:
            parts.append(values)
    return np.stack(parts, axis=1)


def fit(x: np.ndarray, degree: np.ndarray, steps: int, config: Config) -> ProportionalOdds:
    """x: float32 (N, D); degree: 0 .. steps, (N,)."""
    model = ProportionalOdds(x.shape[1], steps)
    optimizer = optim.SGD(model.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay)
    exceeds = (degree[:, None] > np.arange(steps)).astype(np.float32)  # degree 2 of 4: 1 1 0 0
    for _ in range(config.steps):
        loss = tn.bce_with_logits(model(tn.tensor(x)), exceeds)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def cross_validate(features: np.ndarray, degree: np.ndarray, config: Config, seed: int) -> np.ndarray:
    """P(degree > k) of every patient, by a model that has not seen him: (N, steps)."""
    tn.seed(seed)
    steps = int(degree.max())
    fold = stratified_folds(degree, config.splits, np.random.default_rng(seed))
    exceeds = np.empty((len(degree), steps))
    for number in range(config.splits):
        training, test = fold != number, fold == number
        x, x_test = standardize(features[training], features[test])
        model = fit(x, degree[training], steps, config)
        exceeds[test] = tn.sigmoid(tn.tensor(nn.predict(model, x_test))).numpy()
    return exceeds


# ---------------------------------------------------------------------------------------- the metrics
# Patients in each city: rows by the neurologist of New Orleans, columns by the neurologist of Winnipeg.
CLASSES = ("certain", "probable", "possible", "doubtful")
NEUROLOGISTS = {
    "Winnipeg": np.array([[38, 5, 0, 1], [33, 11, 3, 0], [10, 14, 5, 6], [3, 7, 3, 10]]),
    "New Orleans": np.array([[5, 3, 0, 0], [3, 11, 4, 0], [2, 13, 3, 4], [1, 2, 4, 14]]),
}
WEIGHTS = (None, "linear", "quadratic")


def operating_points(true: np.ndarray, score: np.ndarray) -> dict[str, tuple[float, float]]:
    """Name -> (false positive rate, true positive rate)."""
    false_positives, true_positives, _ = metrics.roc_curve(true, score)
    screening = np.flatnonzero(true_positives >= 0.95)[0]  # the first: the fewest false alarms
    certain = np.flatnonzero(false_positives <= 0.05)[-1]
    youden = np.argmax(true_positives - false_positives)
    points = {"sensitivity 95 %": screening, "specificity 95 %": certain, "Youden's index": youden}
    return {name: (float(false_positives[i]), float(true_positives[i])) for name, i in points.items()}


def kappas(table: np.ndarray) -> list[float]:
    """Plain, linear, quadratic."""
    return [metrics.cohen_kappa(table, weights) for weights in WEIGHTS]


def beside_scikit_learn(true: np.ndarray, score: np.ndarray, degree: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """difference_to_scikit_learn: the largest difference from scikit-learn's values; {} if it is not installed."""
    try:
        from sklearn.metrics import cohen_kappa_score, roc_auc_score
    except ImportError:
        return {}
    ours = [metrics.auc(true, score), *kappas(metrics.confusion_matrix(degree, said, 5))]
    theirs = [roc_auc_score(true, score), *(cohen_kappa_score(degree, said, weights=w) for w in WEIGHTS)]
    return {"difference_to_scikit_learn": float(np.abs(np.subtract(ours, theirs)).max())}


def heart(config: Config, table: tn.data.Table, figures: dict[str, viz.Figure]) -> dict[str, float]:
    """The metrics of the Cleveland patients; adds their figures to `figures`."""
    features, degree = one_hot(table.features, table.columns), table.target
    diseased = degree > 0

    def one_run(seed: int) -> dict[str, float]:
        exceeds = cross_validate(features, degree, config, seed)
        score, said = exceeds[:, 0], np.sum(exceeds > 0.5, axis=1)
        confusion = metrics.confusion_matrix(degree, said, 5)
        if seed == config.seed:
            print_intervals(diseased, score)
            figures["roc.png"] = draw_roc(diseased, score)
            figures["heart_kappa.png"] = draw_agreement({"model": (confusion, "01234", "predicted", "true")})
        plain, linear, quadratic = kappas(confusion)
        return {
            "auc": metrics.auc(diseased, score),
            "accuracy": float(np.mean(said == degree)),
            "kappa": plain,
            "kappa_linear": linear,
            "kappa_quadratic": quadratic,
            **beside_scikit_learn(diseased, score, degree, said),
        }

    return mean_over_seeds(one_run, config.seed, config.seeds)


def print_intervals(diseased: np.ndarray, score: np.ndarray) -> None:
    """Print the AUC with both intervals, and the operating points."""
    delong = metrics.auc_interval(diseased, score)
    bootstrap = metrics.bootstrap_interval(metrics.auc, diseased, score)
    print(f"AUC {metrics.auc(diseased, score):.3f}, 95 % interval: ", end="")
    print("{:.3f} to {:.3f} (DeLong), {:.3f} to {:.3f} (bootstrap)".format(*delong, *bootstrap))
    for name, (false_positives, true_positives) in operating_points(diseased, score).items():
        print(f"{name:17} sensitivity {true_positives:.3f}, specificity {1 - false_positives:.3f}")
    print()


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(SeedOptions):
    out: str = option("out/roc_and_kappa", "folder for the figures")
    data: str | None = option(None, "processed.cleveland.data, or a folder with tables/processed.cleveland.data in it")
    splits: int = option(5, "parts of the patients; each is judged by a model that was trained on the other parts")
    steps: int = option(500, "of gradient descent, on all training patients at once", quick=100)
    lr: float = option(0.2, "learning rate")
    # The best of 0, 0.001, 0.003, 0.01, ... 0.3 by the loss in a cross-validation within the first training part of
    # seed 0; strictly, it should be chosen anew within each part. Twice as many steps change nothing.
    weight_decay: float = option(0.001, "pull of the weights toward zero")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Return the metrics of the heart patients (if the file is found), and the neurologists' kappas."""
    print_settings(config, data=DATA)
    results, figures = {}, {}
    try:
        results |= heart(config, cleveland(config.data), figures)
    except DataError as error:
        if config.data is not None:
            raise
        print(f"without the heart patients: {error}\n")
    for city, table in NEUROLOGISTS.items():
        key = city.lower().replace(" ", "_")
        results |= dict(zip((key, f"{key}_linear", f"{key}_quadratic"), np.round(kappas(table), 4).tolist()))
    raters = "neurologist in Winnipeg", "neurologist in New Orleans"  # columns, rows
    tables = {f"patients in {city}": (table, CLASSES, *raters) for city, table in NEUROLOGISTS.items()}
    figures["kappa.png"] = draw_agreement(tables)
    return report(config, results, EXPECTED | SCIKIT_LEARN, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_roc(diseased: np.ndarray, score: np.ndarray) -> viz.Figure:
    """The ROC curve with the operating points, and the distribution of the scores."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(10, 4.4))
    viz.draw_roc(left, diseased, score)
    for (name, place), color in zip(operating_points(diseased, score).items(), (viz.ORANGE, viz.PURPLE, viz.GREEN)):
        left.plot(*place, "o", color=viz.mpl(color), markersize=8, label=name)
    left.legend(loc="lower right", fontsize=9)
    bins = np.linspace(0, 1, 26)
    for value, color, name in ((False, viz.BLUE, "no disease"), (True, viz.VERMILLION, "disease")):
        right.hist(score[diseased == value], bins, color=viz.mpl(color), alpha=0.6, label=name)
    right.set(xlabel="probability of disease, by the model", ylabel="patients")
    right.legend()
    return figure


def draw_agreement(tables: dict[str, tuple[np.ndarray, Sequence[str], str, str]]) -> viz.Figure:
    """Tables side by side, each with its three kappas. tables: title -> (table, classes, column rater, row rater)."""
    figure, panels = viz.subplots(1, len(tables), squeeze=False, figsize=(4.8 * len(tables), 5.4))
    for axes, (title, (table, classes, columns, rows)) in zip(panels[0], tables.items()):
        viz.draw_confusion(axes, table, classes)
        plain, linear, quadratic = kappas(table)
        axes.set_title(f"{title}\nκ {plain:.2f}, linear {linear:.2f}, quadratic {quadratic:.2f}", fontsize=11)
        axes.set(xlabel=columns, ylabel=rows)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Evaluation: ROC curve, operating points, Cohen's kappa"
DATA = "Cleveland heart disease, 303 x 13, five degrees (UCI); two neurologists' ratings"
FILES = ("tables/processed.cleveland.data",)
EXPECTED = {
    "auc": (0.87, 0.93),
    "kappa_quadratic": (0.6, 0.8),
    "winnipeg": (0.2079, 0.2079),  # 0.208 and 0.297 in Landis and Koch
    "winnipeg_linear": (0.3797, 0.3797),
    "winnipeg_quadratic": (0.5246, 0.5246),
    "new_orleans": (0.2965, 0.2965),
    "new_orleans_linear": (0.4773, 0.4773),
    "new_orleans_quadratic": (0.6256, 0.6256),
}
SCIKIT_LEARN = {"difference_to_scikit_learn": (None, 1e-12)}  # if it is installed
PICTURE = "kappa.png"
NEXT = "python examples/convnets/convolution_by_hand.py"


if __name__ == "__main__":
    run(main)
