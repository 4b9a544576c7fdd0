"""Softmax regression: logistic regression for more than two classes.

    python examples/basics/softmax_regression.py

Each class k has its own weights and gets a score z_k = w_k . x + b_k; the softmax turns the scores into probabilities,

    p_k = exp(z_k) / (exp(z_1) + ... + exp(z_K))

and the loss is -log of the probability of the true class, on average. Its derivative is as simple as in logistic
regression: dL/dz_k = p_k - 1 for the true class, p_k for the others. With two classes it *is* logistic regression, with
w = w_1 - w_2.

Two tables: **six skin diseases** from 34 findings of the clinic and the microscope. They look alike to the eye, and two
of them also to the model, as the confusion matrix shows. And **ten digits** of 8 x 8 pixels, where the weights of a
class are an image themselves: red where ink speaks for the digit, blue where ink speaks against it.

Sources: Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4; Guvenir, Demiroz, Ilter, Learning
differential diagnosis of erythemato-squamous diseases, Artificial Intelligence in Medicine 13, 1998 (the diseases).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataError, bundled, dermatology, standardize, stratified_folds
from tinynet.tools.cli import SeedOptions, command_line, mean_over_seeds, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- the model
def fit(x: np.ndarray, target: np.ndarray, classes: int, config: Config) -> nn.Linear:
    """Weights (D, classes) and biases that make the target (N,) most likely. x: float32 (N, D)."""
    model = nn.Linear(x.shape[1], classes)
    optimizer = optim.SGD(model.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay)
    for _ in range(config.steps):
        loss = tn.softmax_cross_entropy(model(tn.tensor(x)), target)  # the softmax is inside
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def cross_validate(table: tn.data.Table, config: Config, seed: int) -> tuple[np.ndarray, nn.Linear]:
    """(the class of every example, predicted by a model that has not seen it; the last of these models)."""
    tn.seed(seed)
    fold = stratified_folds(table.target, config.splits, np.random.default_rng(seed))
    predicted = np.empty_like(table.target)
    for number in range(config.splits):
        training, test = fold != number, fold == number
        x, x_test = standardize(table.features[training], table.features[test])
        model = fit(x, table.target[training], len(table.classes), config)
        predicted[test] = nn.predict(model, x_test).argmax(axis=1)  # the largest score has the largest p
    return predicted, model


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(SeedOptions):
    out: str = option("out/softmax_regression", "folder for the figures")
    data: str | None = option(None, "dermatology.data, or a folder with tables/dermatology.data in it")
    splits: int = option(5, "parts of a table; each is tested by a model that was trained on the other parts")
    steps: int = option(400, "of gradient descent, on all training examples at once", quick=60)
    lr: float = option(0.2, "learning rate")
    # The best of 0, 0.001, 0.002, 0.005, ... 0.05 by the loss, mean of both tables, in a cross-validation within the
    # first training part of seed 0; strictly, it should be chosen anew within each part.
    weight_decay: float = option(0.002, "pull of the weights toward zero")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Both tables, by cross-validation; return the accuracy on each."""
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
    figures = {}

    def one_run(seed: int) -> dict[str, float]:
        scores = {}
        for name, table in tables.items():
            predicted, model = cross_validate(table, config, seed)
            scores[f"{name}_accuracy"] = float(np.mean(predicted == table.target))
            if seed == config.seed:
                figures[f"{name}.png"] = draw[name](table, predicted, model)
        return scores

    return report(config, mean_over_seeds(one_run, config.seed, config.seeds), EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_diseases(table: tn.data.Table, predicted: np.ndarray, model: nn.Linear) -> viz.Figure:
    """The confusion matrix."""
    figure, axes = viz.subplots(figsize=(7, 5.4))
    viz.draw_confusion(axes, metrics.confusion_matrix(table.target, predicted, 6), table.classes)
    return figure


def draw_digits(table: tn.data.Table, predicted: np.ndarray, model: nn.Linear) -> viz.Figure:
    """The weights of each class as an image; below, a digit of the class, and one that was mistaken for another."""
    figure, axes = viz.subplots(3, 10, figsize=(11, 3.6))
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
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Softmax regression, confusion matrix"
DATA = "dermatology, 366 x 34 (UCI); digits, 1,797 images of 8 x 8 pixels (scikit-learn)"
FILES = ("tables/dermatology.data",)
EXPECTED = {"dermatology_accuracy": (0.95, None), "digits_accuracy": (0.95, None)}
PICTURE = "dermatology.png"
NEXT = "python examples/basics/perceptron.py"


if __name__ == "__main__":
    run(main)
