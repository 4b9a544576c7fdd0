"""Linear regression: a straight line through a cloud of points, by formula and by gradient descent.

    python examples/basics/linear_regression.py

442 patients with diabetes: does the body mass index x predict how far the disease has gone a year later, y? The model
is y = a + b x, and the loss is half the mean squared residual, L(a, b) = mean (a + b x - y)^2 / 2.

**By formula.** Both derivatives are zero at the minimum,

    dL/da = mean(a + b x - y)     = 0
    dL/db = mean((a + b x - y) x) = 0

two linear equations with two unknowns. The first says a = mean(y) - b mean(x); put into the second, that gives
b = cov(x, y) / var(x).

**By gradient descent.** Start anywhere and go downhill, again and again: theta <- theta - lr * grad L. Here the
formula is better. But for a net with a million weights there is none, and the descent is the same three lines.

**The learning rate.** L is a bowl; its curvatures are the eigenvalues of the matrix of second derivatives

    H = [[1,      mean x  ],
         [mean x, mean x^2]]

Along an eigenvector each step multiplies the distance to the minimum by 1 - lr * eigenvalue. So lr must stay below
2 / (largest eigenvalue), or the steps grow; and along the smallest one progress is slow. The ratio of the two, the
condition number, says how slow: 26,000 for the index as it is. In units of 10 kg/m^2 above 20 it is 11, which is why
inputs of nets are centred and scaled.

Sources: Efron, Hastie, Johnstone, Tibshirani, Least Angle Regression, Annals of Statistics 2004 (the data); Bishop,
Pattern Recognition and Machine Learning, 2006, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet.tools.cli import ExampleOptions, option, parse, print_metrics, print_settings, run

TOPIC = "Linear regression, gradient descent"
DATA = "diabetes: 442 patients, body mass index (scikit-learn)"
EXPECTED = {"slope": (10.23, 10.24), "r2": (0.34, 0.35), "difference": (None, 1e-6)}
PICTURE = "descent.png"


@dataclass
class Config(ExampleOptions):
    """The flags."""

    out: str = option("out/linear_regression", "folder for the pictures")
    lr: float = option(1.0, "learning rate; above 1.36 the steps grow")
    steps: int = option(400, "of gradient descent")


# ---------------------------------------------------------------------------------------- two ways to the line
def closed_form(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(a, b) of the line y = a + b x with the least squared residuals."""
    b = np.mean((x - x.mean()) * (y - y.mean())) / np.mean((x - x.mean()) ** 2)
    return float(y.mean() - b * x.mean()), float(b)


def half_squared_error(theta: tn.Tensor, x: np.ndarray, y: np.ndarray) -> tn.Tensor:
    """L(a, b) for theta = (a, b)."""
    residual = theta[0] + theta[1] * x - y
    return tn.mean(residual**2) / 2


def gradient_descent(
    x: np.ndarray, y: np.ndarray, lr: float, steps: int, start: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """The path of (a, b) from `start`: float64 (steps + 1, 2)."""
    theta = np.array(start)
    path = [theta]
    for _ in range(steps):
        t = tn.tensor(theta, requires_grad=True)
        half_squared_error(t, x, y).backward()
        theta = theta - lr * t.grad  # theta <- theta - lr * grad L
        path.append(theta)
    return np.array(path)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Fit the line both ways; returns slope (per kg/m^2), intercept, r2, and how far the two ways are apart."""
    from tinynet.data import bundled

    config = parse(Config, argv, description=__doc__)
    table = bundled("diabetes")
    bmi, y = table.features[:, table.columns.index("bmi")], table.target
    x = (bmi - 20) / 10
    print_settings(config, data=DATA, patients=len(y))

    a, b = closed_form(x, y)
    path = gradient_descent(x, y, config.lr, config.steps)
    residual = y - (a + b * x)
    slope, intercept = b / 10, a - 2 * b  # back in kg/m^2: a + b (bmi - 20) / 10
    metrics = {
        "slope": slope,
        "intercept": intercept,
        "r2": 1 - residual.var() / y.var(),  # the share of the variance that the line explains
        "difference": float(np.abs(path[-1] - (a, b)).max()),
    }
    print(f"closed form:      a = {a:.6f}, b = {b:.6f}: progress = {intercept:.2f} + {slope:.3f} * index")
    print(f"gradient descent: a = {path[-1][0]:.6f}, b = {path[-1][1]:.6f}, after {config.steps} steps")
    hessian = np.array([[1, x.mean()], [x.mean(), np.mean(x**2)]])
    small, large = np.linalg.eigvalsh(hessian)
    print(f"curvatures {small:.3f} and {large:.3f}: condition number {large / small:.0f}, lr below {2 / large:.2f}")

    out = Path(config.out)
    draw_fit(out / "fit.png", bmi, y, intercept, slope)
    draw_descent(out / "descent.png", x, y, (a, b), limit=2 / large)
    print_metrics(metrics, EXPECTED, quick=config.quick)
    print(f"pictures: {config.out}/fit.png, {config.out}/descent.png")
    print("next: python examples/basics/logistic_regression.py")
    return metrics


# ---------------------------------------------------------------------------------------- pictures
def draw_fit(path: Path, bmi: np.ndarray, y: np.ndarray, intercept: float, slope: float) -> None:
    """The line with the residuals that it makes small, and what is left of y without the line."""
    from tinynet import viz

    fit = intercept + slope * bmi
    figure = viz.new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    left.vlines(bmi, fit, y, color="0.75", linewidth=0.7, label="residuals")
    left.plot(bmi, y, ".", color=viz.mpl(viz.BLUE), markersize=4)
    ends = np.array([bmi.min(), bmi.max()])
    label = f"{intercept:.0f} + {slope:.2f} x"
    left.plot(ends, intercept + slope * ends, color=viz.mpl(viz.VERMILLION), linewidth=2, label=label)
    left.set(xlabel="body mass index x, kg/m²", ylabel="progress of diabetes after a year, y", title="the fit")
    left.legend()
    right.axhline(0, color=viz.mpl(viz.VERMILLION), linewidth=2)
    right.plot(fit, y - fit, ".", color=viz.mpl(viz.BLUE), markersize=4)
    right.set(xlabel="predicted", ylabel="residual", title="what the line does not explain")
    viz.save_figure(path, figure)


def draw_descent(path: Path, x: np.ndarray, y: np.ndarray, best: tuple[float, float], limit: float) -> None:
    """The bowl from above with the first steps of three learning rates, and the loss that they lead to."""
    from tinynet import viz

    rates = ((0.1, "too small", viz.BLUE), (1.0, "good", viz.GREEN), (1.02 * limit, "too large", viz.VERMILLION))
    a, b = (np.linspace(centre - 280, centre + 280, 80) for centre in best)

    def loss(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.mean((np.asarray(a)[..., None] + np.asarray(b)[..., None] * x - y) ** 2, axis=-1) / 2

    surface = loss(a[None, :], b[:, None])

    figure = viz.new_figure(13, 3.8)
    panels = figure.subplots(1, 4)
    for axes, (lr, verdict, colour) in zip(panels, rates):
        steps = gradient_descent(x, y, lr, 20, start=(-120.0, 150.0))
        levels = surface.min() + (surface.max() - surface.min()) * np.linspace(0, 1, 15) ** 2
        axes.contour(a, b, surface, levels=levels, colors="0.7", linewidths=0.8)
        axes.plot(*steps.T, "o-", color=viz.mpl(colour), markersize=3, linewidth=1)
        axes.plot(*best, "k*", markersize=9)
        axes.set(xlim=a[[0, -1]], ylim=b[[0, -1]], xlabel="a", title=f"lr {lr:.2f}: {verdict}")
        panels[3].semilogy(loss(*steps.T), color=viz.mpl(colour), label=f"lr {lr:.2f}")
    panels[0].set_ylabel("b")
    panels[3].axhline(loss(*best), color="k", linestyle=":", label="least possible")
    panels[3].set(xlabel="step", title="loss")
    panels[3].legend()
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
