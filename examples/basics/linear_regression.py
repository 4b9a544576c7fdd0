"""Linear regression: a straight line through a cloud of points, by formula and by gradient descent.

    python examples/basics/linear_regression.py

442 patients with diabetes: does the body mass index x predict how far the disease has gone a year later, y? The model
is y = a + b x, and the loss is half the mean squared residual, L(a, b) = mean (a + b x - y)^2 / 2.

**By formula.** Both derivatives are zero at the minimum,

    dL/da = mean(a + b x - y)     = 0
    dL/db = mean((a + b x - y) x) = 0

two linear equations with two unknowns. The first says a = mean(y) - b mean(x); inserted into the second, it gives
b = cov(x, y) / var(x).

**By gradient descent.** Start anywhere and go downhill, again and again: theta <- theta - lr * grad L. Here the
formula is better. For a net with a million weights there is no formula, and gradient descent is the same three lines.

**The learning rate.** L is a bowl; its curvatures are the eigenvalues of the matrix of second derivatives

    H = [[1,      mean x  ],
         [mean x, mean x^2]]

Along an eigenvector each step multiplies the distance to the minimum by 1 - lr * eigenvalue. So lr must stay below
2 / (largest eigenvalue), or the steps grow; along the eigenvector of the smallest eigenvalue progress is slow. The
ratio of the two eigenvalues, the condition number, says how slow: it is 26,000 for the index in kg/m^2, and 11 for the
index in units of 10 kg/m^2 above 20. That is why inputs of nets are centered and scaled.

Sources: Efron, Hastie, Johnstone, Tibshirani, Least Angle Regression, Annals of Statistics 2004 (the data); Bishop,
Pattern Recognition and Machine Learning, 2006, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinynet as tn
from tinynet import viz
from tinynet.data import bundled
from tinynet.tools.cli import ExampleOptions, command_line, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- two ways to the line
def closed_form(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(a, b) of the line y = a + b x with the smallest squared residuals."""
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


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(ExampleOptions):
    out: str = option("out/linear_regression", "folder for the figures")
    lr: float = option(1.0, "learning rate; above 1.36 the steps grow")
    steps: int = option(400, "of gradient descent")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Fit the line both ways; return slope (per kg/m^2), intercept, r2, and the difference between the two ways."""
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

    figures = {
        "fit.png": draw_fit(bmi, y, intercept, slope),
        "descent.png": draw_descent(x, y, (a, b), limit=2 / large),
    }
    return report(config, metrics, EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_fit(bmi: np.ndarray, y: np.ndarray, intercept: float, slope: float) -> viz.Figure:
    """The line and its residuals; the residuals against the prediction."""
    fit = intercept + slope * bmi
    figure, (left, right) = viz.subplots(1, 2, figsize=(10, 4.2))
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
    return figure


def draw_descent(x: np.ndarray, y: np.ndarray, best: tuple[float, float], limit: float) -> viz.Figure:
    """The loss as contour lines with the first steps of three learning rates, and the loss at each step."""
    rates = ((0.1, "too small", viz.BLUE), (1.0, "good", viz.GREEN), (1.02 * limit, "too large", viz.VERMILLION))
    a, b = (np.linspace(center - 280, center + 280, 80) for center in best)

    def loss(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.mean((np.asarray(a)[..., None] + np.asarray(b)[..., None] * x - y) ** 2, axis=-1) / 2

    surface = loss(a[None, :], b[:, None])
    levels = surface.min() + (surface.max() - surface.min()) * np.linspace(0, 1, 15) ** 2

    figure, panels = viz.subplots(1, 4, figsize=(11, 3.3), width_ratios=[1, 1, 1, 1.3])
    for axes, (lr, verdict, color) in zip(panels, rates):
        steps = gradient_descent(x, y, lr, 20, start=(-120.0, 150.0))
        axes.contourf(a, b, surface, levels=levels, cmap="Greys", alpha=0.5)
        axes.plot(*steps.T, "o-", color=viz.mpl(color), markersize=3, linewidth=1.2)
        axes.plot(*best, "k*", markersize=10)
        axes.set(xlim=a[[0, -1]], ylim=b[[0, -1]], xlabel="intercept a", aspect="equal")
        axes.set_title(f"learning rate {lr:.2g}:\n{verdict}", fontsize=11)
        axes.label_outer()
        losses = loss(*steps.T)
        panels[3].semilogy(losses, color=viz.mpl(color), linewidth=2)
        panels[3].text(20.5, losses[-1], verdict, color=viz.mpl(color), va="bottom")
    panels[0].set_ylabel("slope b")
    panels[3].axhline(loss(*best), color="k", linestyle=":")
    panels[3].text(0, 0.92 * loss(*best), "least possible loss", va="top")
    panels[3].set(xlabel="step", xlim=(-1, 29), ylim=(1200, 120_000), xticks=(0, 10, 20))
    panels[3].set_yticks([2000, 5000, 10_000, 20_000, 50_000], ["2,000", "5,000", "10,000", "20,000", "50,000"])
    panels[3].minorticks_off()
    panels[3].set_title("half the squared error,\nstep by step", fontsize=11)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Linear regression, gradient descent"
DATA = "diabetes: 442 patients, body mass index (scikit-learn)"
EXPECTED = {"slope": (10.23, 10.24), "r2": (0.34, 0.35), "difference": (None, 1e-6)}
PICTURE = "descent.png"
NEXT = "python examples/basics/logistic_regression.py"


if __name__ == "__main__":
    run(main)
