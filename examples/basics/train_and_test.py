"""Training, validation and test set: what each is for, and four ways to fool yourself without them.

    python examples/basics/train_and_test.py

- The **training set** sets the weights.
- The **validation set** decides everything else: how many neurons, how much weight decay, when to stop.
- The **test set** is used once, at the end, for the accuracy that you report. If anything was chosen by it, it is no
  longer a test.

**Leakage** is knowledge of the test set that finds its way into the model. It gives accuracies that the model will not
reach on new patients. To show it without a doubt, the labels below are tossed coins: *nothing can be learned, the true
accuracy is 50 %*. Everything above 50 % is self-deception:

1. *Features chosen on all patients.* Of 2,000 columns of noise, 20 correlate with the coins by chance. If they are
   chosen before the split, they correlate with the coins of the test patients, too.
2. *The same patient in both sets.* There are five nearly equal images of each patient. If they are split by image, the
   model only has to recognize the patient; if they are split by patient, it can only guess.
3. *The best of many, on the test set.* Of 200 models that all guess, the best is lucky on exactly these 50 patients.
4. *Testing on the training set.* The nearest neighbor of a training example is the example itself.

**The learning curve** shows what more data would bring. While training and validation accuracy are far apart, more data
help; once they meet, only a better model helps.

Sources: Ambroise and McLachlan, Selection bias in gene extraction, PNAS 99, 2002 (1); Kaufman et al., Leakage in data
mining, ACM TKDD 2012; Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2009, section 7.10.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinynet as tn
from tinynet import nn, optim, viz
from tinynet.data import bundled, standardize, stratified_folds
from tinynet.tools.cli import SeedOptions, command_line, mean_over_seeds, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- the three sets
def fit(x: np.ndarray, target: np.ndarray, weight_decay: float, config: Config, seed: int) -> nn.Module:
    """A net with one hidden layer. x: float32 (N, 64); target: digits (N,)."""
    tn.seed(seed)
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.AdamW(net.parameters(), lr=5e-3, weight_decay=weight_decay)
    for _ in range(config.steps):
        batch = rng.choice(len(x), min(100, len(x)), replace=False)
        loss = tn.softmax_cross_entropy(net(tn.tensor(x[batch])), target[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def accuracy(net: nn.Module, x: np.ndarray, target: np.ndarray) -> float:
    """Share of right answers."""
    return float(np.mean(nn.predict(net, x).argmax(axis=1) == target))


WEIGHT_DECAYS = (0.0, 0.1, 0.3, 1.0, 3.0)
SIZES = (20, 50, 100, 200, 500, 1078)


def the_right_way(config: Config, seed: int) -> tuple[dict[str, float], np.ndarray]:
    """Choose the weight decay on the validation set and test once; then measure the learning curve of the choice.

    The curve is (sizes, 3): training images, accuracy on them, accuracy on the validation set.
    """
    table = bundled("digits")
    fold = stratified_folds(table.target, 5, np.random.default_rng(seed))
    training, validation, test = fold < 3, fold == 3, fold == 4
    x, x_validation, x_test = standardize(*(table.features[rows] for rows in (training, validation, test)))
    t, t_validation, t_test = (table.target[rows] for rows in (training, validation, test))

    scores = [accuracy(fit(x, t, wd, config, seed), x_validation, t_validation) for wd in WEIGHT_DECAYS]
    chosen = WEIGHT_DECAYS[int(np.argmax(scores))]
    net = fit(x, t, chosen, config, seed)
    print(f"chosen on the validation set: weight decay {chosen:g}, {max(scores):.3f}", flush=True)

    order = np.random.default_rng(seed).permutation(len(x))
    curve = []
    for size in SIZES:
        few = order[:size]
        small = fit(x[few], t[few], chosen, config, seed)
        curve.append((size, accuracy(small, x[few], t[few]), accuracy(small, x_validation, t_validation)))
    return {"validation_accuracy": max(scores), "test_accuracy": accuracy(net, x_test, t_test)}, np.array(curve)


# ---------------------------------------------------------------------------------------- fooling yourself
def nearest_neighbor(x: np.ndarray, t: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """For each test row the label of the nearest training row."""
    squared_distance = np.sum(x_test**2, axis=1)[:, None] - 2 * x_test @ x.T + np.sum(x**2, axis=1)
    return t[squared_distance.argmin(axis=1)]


def nearest_mean(x: np.ndarray, t: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """For each test row the class whose mean is nearer: the simplest linear classifier."""
    w = x[t == 1].mean(axis=0) - x[t == 0].mean(axis=0)
    middle = (x[t == 1].mean(axis=0) + x[t == 0].mean(axis=0)) / 2
    return ((x_test - middle) @ w > 0).astype(int)


def chosen_columns(x: np.ndarray, t: np.ndarray, count: int) -> np.ndarray:
    """The columns whose correlation with t is largest."""
    correlation = (x - x.mean(axis=0)).T @ (t - t.mean()) / (x.std(axis=0) * t.std())
    return np.argsort(-np.abs(correlation))[:count]


def leak_by_selection(rng: np.random.Generator) -> tuple[float, float]:
    """(accuracy with columns chosen on all patients, on the training patients only): 100 patients, half to test."""
    x, t = rng.standard_normal((100, 2000)), rng.integers(0, 2, 100)
    training, test = slice(0, 50), slice(50, 100)
    result = []
    for rows in (slice(None), training):
        columns = chosen_columns(x[rows], t[rows], 20)
        predicted = nearest_mean(x[training][:, columns], t[training], x[test][:, columns])
        result.append(float(np.mean(predicted == t[test])))
    return result[0], result[1]


def leak_by_patient(rng: np.random.Generator, images: np.ndarray) -> tuple[float, float]:
    """(accuracy split by image, split by patient): 100 patients with five noisy copies of one image each."""
    own = images[rng.choice(len(images), 100, replace=False)]
    patient = np.repeat(np.arange(100), 5)
    x = own[patient] + rng.normal(0, 1, (500, own.shape[1]))  # of 16 gray levels
    t = rng.integers(0, 2, 100)[patient]
    by_image = rng.permutation(500) < 250
    by_patient = rng.permutation(100)[patient] < 50
    result = [np.mean(nearest_neighbor(x[s], t[s], x[~s]) == t[~s]) for s in (by_image, by_patient)]
    return float(result[0]), float(result[1])


def leak_by_choice(rng: np.random.Generator) -> tuple[float, float]:
    """(accuracy of the best of 200 guessing models on the 50 patients that chose it, on 50 others)."""
    answers = rng.integers(0, 2, (200, 100))  # each model answers with its own coins
    right = answers == rng.integers(0, 2, 100)
    best = right[:, :50].mean(axis=1).argmax()
    return float(right[best, :50].mean()), float(right[best, 50:].mean())


def leak_by_memory(rng: np.random.Generator) -> tuple[float, float]:
    """Accuracy of the nearest neighbor (on its own training set, on 50 others)."""
    x, t = rng.standard_normal((100, 20)), rng.integers(0, 2, 100)
    right = nearest_neighbor(x[:50], t[:50], x) == t
    return float(right[:50].mean()), float(right[50:].mean())


WAYS = {
    "selection": "features chosen\non all patients",
    "patients": "the same patient\nin both sets",
    "best_of_many": "best of 200,\non the test set",
    "training_set": "tested on the\ntraining set",
}


def fool_yourself(config: Config, seed: int, images: np.ndarray) -> dict[str, float]:
    """The accuracies of the four ways; each is a mean over `repeats` sets of coins."""
    rng = np.random.default_rng(seed)
    rows = [
        (*leak_by_selection(rng), *leak_by_patient(rng, images), *leak_by_choice(rng), *leak_by_memory(rng))
        for _ in range(config.repeats)
    ]
    names = [f"{kind}_{way}" for way in WAYS for kind in ("leak", "honest")]
    return dict(zip(names, np.mean(rows, axis=0).tolist()))


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(SeedOptions):
    out: str = option("out/train_and_test", "folder for the figures")
    steps: int = option(300, "of training, 100 images each", quick=60)
    repeats: int = option(200, "sets of coin tosses in a run, whose mean counts", quick=10)


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Return validation and test accuracy on the digits; leak_* and honest_* on the coins."""
    print_settings(config, data=DATA)
    images = bundled("digits").features
    curves = []

    def one_run(seed: int) -> dict[str, float]:
        accuracies, curve = the_right_way(config, seed)
        curves.append(curve)
        return accuracies | fool_yourself(config, seed, images)

    metrics = mean_over_seeds(one_run, config.seed, config.seeds)
    figures = {
        "leakage.png": draw_leakage(metrics),
        "learning_curve.png": draw_learning_curve(np.mean(curves, axis=0)),
    }
    return report(config, metrics, EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_learning_curve(curve: np.ndarray) -> viz.Figure:
    """Accuracy against the number of training images."""
    figure, axes = viz.subplots(figsize=(6, 4))
    axes.semilogx(curve[:, 0], curve[:, 1], "o-", color=viz.mpl(viz.BLUE), label="training set")
    axes.semilogx(curve[:, 0], curve[:, 2], "s-", color=viz.mpl(viz.VERMILLION), label="validation set")
    axes.set(xlabel="training images", ylabel="accuracy", title="the learning curve", ylim=(0.5, 1.02))
    axes.set_xticks(curve[:, 0], [f"{size:.0f}" for size in curve[:, 0]])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def draw_leakage(metrics: dict[str, float]) -> viz.Figure:
    """The accuracy measured with each leak, and without it, where the true accuracy is 50 %."""
    figure, axes = viz.subplots(figsize=(8, 4))
    for kind, shift, color, label in (
        ("leak", -0.2, viz.VERMILLION, "with the leak"),
        ("honest", 0.2, viz.GREEN, "without"),
    ):
        accuracies = [metrics[f"{kind}_{way}"] for way in WAYS]
        places = np.arange(len(WAYS)) + shift
        axes.bar(places, accuracies, width=0.38, color=viz.mpl(color), label=label)
        for place, value in zip(places, accuracies):
            axes.text(place, value - 0.02, f"{value:.0%}", ha="center", va="top", color="w")
    axes.axhline(0.5, color="k", linestyle="--", linewidth=1, zorder=0, label="the truth: a coin")
    axes.set_xticks(range(len(WAYS)), WAYS.values())
    axes.set(ylabel="accuracy that one would report", ylim=(0, 1.15), title="labels are tossed coins")
    axes.legend(loc="upper center", ncols=3)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Training, validation and test set; leakage; learning curves"
DATA = "digits: 1,797 images of 8 x 8 pixels (scikit-learn); coin tosses"
EXPECTED = {
    "test_accuracy": (0.95, None),
    "leak_selection": (0.75, None),
    "honest_selection": (0.48, 0.52),
    "leak_patients": (0.9, None),
    "honest_patients": (0.48, 0.52),
    "leak_best_of_many": (0.6, None),
    "honest_best_of_many": (0.48, 0.52),
    "leak_training_set": (1, 1),
    "honest_training_set": (0.48, 0.52),
}
PICTURE = "leakage.png"
NEXT = "python examples/evaluation/roc_and_kappa.py"


if __name__ == "__main__":
    run(main)
