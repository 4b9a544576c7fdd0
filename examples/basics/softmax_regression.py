"""Softmax regression: logistic regression for more than two classes.

    python examples/basics/softmax_regression.py

Each class k has weights of its own and gets a score z_k = w_k . x + b_k; the softmax makes probabilities of the scores,

    p_k = exp(z_k) / (exp(z_1) + ... + exp(z_K))

and the loss is -log of the probability of the true class, on average. Its derivative is as simple as that of logistic
regression: dL/dz_k = p_k - 1 for the true class, p_k for the others. With two classes it *is* logistic regression, with
w = w_1 - w_2.

Two tables: **six skin diseases** from 34 findings of the clinic and the microscope, which look alike to the eye (in the
confusion matrix: two of them also to the model); and **ten digits** of 8 x 8 pixels, where the weights of a class are a
picture themselves: red where ink speaks for the digit, blue where it speaks against it.

Sources: Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4; Guvenir, Demiroz, Ilter, Learning
differential diagnosis of erythemato-squamous diseases, Artificial Intelligence in Medicine 13, 1998 (the diseases).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import metrics, nn
from tinynet.nn.optim import SGD
from tinynet.tools.cli import ExampleOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

TOPIC = "Softmax regression, confusion matrix"
DATA = "dermatology, 366 x 34 (UCI); digits, 1,797 images of 8 x 8 pixels (scikit-learn)"
FILES = ("tables/dermatology.data",)
EXPECTED = {"dermatology_accuracy": (0.95, None), "digits_accuracy": (0.95, None)}
PICTURE = "dermatology.png"


@dataclass
class Config(ExampleOptions):
    """The flags."""

    out: str = option("out/softmax_regression", "folder for the pictures")
    data: str | None = option(None, "dermatology.data, or a folder with tables/dermatology.data in it")
    seeds: int = option(3, "runs with other splits, the mean of which counts", quick=1)
    splits: int = option(5, "parts of a table, each tested once by a model that learnt from the others")
    steps: int = option(400, "of gradient descent, on all training examples at once", quick=60)
    lr: float = option(0.2, "learning rate")
    # Of 0, 0.001, 0.002, 0.005, ... 0.05 the one with the least loss, mean of both tables, in a cross-validation within
    # the first training part of seed 0; strictly, it should be chosen anew within each.
    weight_decay: float = option(0.002, "pull of the weights towards zero")


# ---------------------------------------------------------------------------------------- the model
def fit(x: np.ndarray, target: np.ndarray, classes: int, config: Config) -> nn.Linear:
    """Weights (D, classes) and biases that make the target (N,) most likely. x: float32 (N, D)."""
    model = nn.Linear(x.shape[1], classes)
    optimizer = SGD(model.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay)
    for _ in range(config.steps):
        loss = tn.softmax_cross_entropy(model(tn.tensor(x)), target)  # the softmax is inside
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def cross_validate(table: tn.data.Table, config: Config, seed: int) -> tuple[np.ndarray, nn.Linear]:
    """(a predicted class for every example, by a model that has not seen it; the last of these models)."""
    from tinynet.data import standardize, stratified_folds

    tn.seed(seed)
    fold = stratified_folds(table.target, config.splits, np.random.default_rng(seed))
    predicted = np.empty_like(table.target)
    for number in range(config.splits):
        training, test = fold != number, fold == number
        x, x_test = standardize(table.features[training], table.features[test])
        model = fit(x, table.target[training], len(table.classes), config)
        with tn.no_grad():
            predicted[test] = model(tn.tensor(x_test)).numpy().argmax(axis=1)  # the largest score: the largest p
    return predicted, model


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Both tables, by cross-validation; returns the share of right answers for each."""
    from tinynet.data import DataError, bundled, dermatology

    config = parse(Config, argv, description=__doc__)
    tables = {"digits": bundled("digits")}
    try:
        tables = {"dermatology": dermatology(config.data), **tables}
    except DataError as error:
        if config.data is not None:
            raise
        print(f"without the skin diseases: {error}\n")
    sizes = {name: f"{len(table.target)} examples, {len(table.classes)} classes" for name, table in tables.items()}
    print_settings(config, **sizes)
    draw = {"dermatology": draw_diseases, "digits": draw_digits}

    def one_run(seed: int) -> dict[str, float]:
        figures = {}
        for name, table in tables.items():
            predicted, model = cross_validate(table, config, seed)
            figures[f"{name}_accuracy"] = float(np.mean(predicted == table.target))
            if seed == config.seed:
                draw[name](Path(config.out) / f"{name}.png", table, predicted, model)
        return figures

    figures = mean_over_seeds(one_run, config.seed, config.seeds)
    print_metrics(figures, EXPECTED, quick=config.quick)
    print("pictures: " + ", ".join(f"{config.out}/{name}.png" for name in tables))
    print("next: python examples/basics/perceptron.py")
    return figures


# ---------------------------------------------------------------------------------------- pictures
def draw_diseases(path: Path, table: tn.data.Table, predicted: np.ndarray, model: nn.Linear) -> None:
    """The confusion matrix."""
    from tinynet import viz

    figure = viz.new_figure(7, 5.4)
    viz.draw_confusion(figure.subplots(), metrics.confusion_matrix(table.target, predicted, 6), table.classes)
    viz.save_figure(path, figure)


def draw_digits(path: Path, table: tn.data.Table, predicted: np.ndarray, model: nn.Linear) -> None:
    """The weights of each class as a picture; below, a digit of it, and one that was taken for another."""
    from tinynet import viz

    figure = viz.new_figure(11, 3.6)
    axes = figure.subplots(3, 10)
    weights = model.weight.numpy().T.reshape(10, 8, 8)
    limit = np.abs(weights).max()
    images = table.features.reshape(-1, 8, 8)
    for digit in range(10):
        axes[0, digit].imshow(weights[digit], cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes[0, digit].set_title(str(digit))
        of_class = table.target == digit
        axes[1, digit].imshow(images[of_class & (predicted == digit)][0], cmap="gray_r")
        wrong = np.flatnonzero(of_class & (predicted != digit))
        if wrong.size:
            axes[2, digit].imshow(images[wrong[0]], cmap="gray_r")
            axes[2, digit].set_title(f"says {predicted[wrong[0]]}", fontsize=9, color=viz.mpl(viz.VERMILLION))
    for row, name in zip(axes, ("weights", "right", "wrong")):
        row[0].set_ylabel(name)
        for panel in row:
            panel.set(xticks=[], yticks=[], frame_on=False)
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
