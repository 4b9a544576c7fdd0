"""Figures: a Matplotlib figure without a window, the colors of all figures, and the curve of a training run.

The colors are from Okabe and Ito (2008), which people with any common color blindness can tell apart.
"""

import csv
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure

ORANGE, SKY, GREEN, YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
BLUE, VERMILLION, PURPLE = (0, 114, 178), (213, 94, 0), (204, 121, 167)

FIGURE_WIDTH = 1600  # pixels of a saved figure: sharp on a slide
MOST_PLOTS = 24  # of a training curve: 300 plots would take gigabytes, and nobody would look at them


def mpl(color: tuple[int, int, int]) -> tuple[float, ...]:
    """A color for Matplotlib: parts in 0 .. 1 instead of 0 .. 255."""
    return tuple(part / 255 for part in color)


def new_figure(width: float, height: float) -> "Figure":
    """An empty Matplotlib figure without a window: draw into `figure.subplots(1, 3)`, then call `save_figure`.

    width, height: in inches. Text of 10 points is 1/7 inch high, so a wider figure has smaller text.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def subplots(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options: Any) -> "tuple[Figure, Any]":
    """(figure, axes) as from `matplotlib.pyplot.subplots`, but without a window: `new_figure`, then its `subplots`.

    figsize: (width, height) in inches. options: e.g. height_ratios, sharex.
    """
    figure = new_figure(*figsize)
    return figure, figure.subplots(rows, columns, **options)


def save_figure(path: str | os.PathLike, figure: "Figure") -> None:
    """Write a figure as PNG, 1,600 pixels wide. An older file is replaced in one step."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=FIGURE_WIDTH / figure.get_figwidth())


def _read_columns(csv_path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Columns of a CSV table as float64. A cell without a number becomes NaN."""
    with open(csv_path, newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        try:
            rows = [row for row in reader if None not in row.values()]  # a line that is being written is short
        except csv.Error as error:
            raise ValueError(f"plot_curve: {csv_path} is not a readable table ({error})") from error
        names = reader.fieldnames or []
    if "epoch" not in names:
        raise ValueError(f"plot_curve: {csv_path} has no column 'epoch', only {names}")
    if not rows:
        raise ValueError(f"plot_curve: {csv_path} has no rows yet")
    return {name: np.array([_number(row[name]) for row in rows]) for name in names}


def _number(text: str) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _quantity(column: str) -> str:
    """The quantity of a column: `loss` for `train_loss` and `val_loss`."""
    return column.removeprefix("train_").removeprefix("val_")


def plot_curve(csv_path: str | os.PathLike, png_path: str | os.PathLike) -> None:
    """Draw the training curves of a CSV table: one plot for each quantity, training and validation together.

    csv_path: CSV with the column `epoch` and others; `train_x` and `val_x` share the plot of `x`. Columns without a
    number are left out; a line skips empty cells. The first 24 quantities are drawn. Raises ValueError if there is no
    column `epoch`, no row or no number.
    """
    from matplotlib.ticker import MaxNLocator

    columns = _read_columns(csv_path)
    epochs = columns.pop("epoch")
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    if not columns:
        raise ValueError(f"plot_curve: {csv_path} has no column of numbers beside 'epoch'")
    quantities = list(dict.fromkeys(_quantity(name) for name in columns))[:MOST_PLOTS]

    across = min(3, len(quantities))
    down = -(-len(quantities) // across)
    figure = new_figure(4 * across, 3 * down)
    for number, quantity in enumerate(quantities, start=1):
        axes = figure.add_subplot(down, across, number)
        for name, values in columns.items():
            if _quantity(name) == quantity:
                known = np.isfinite(values)
                color, marker = (VERMILLION, "s") if name.startswith("val_") else (BLUE, "o")
                style: dict[str, Any] = {"color": mpl(color), "marker": marker, "markersize": 3}
                axes.plot(epochs[known], values[known], label=name, **style)
        axes.set_title(quantity)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(png_path, figure)
