"""Figures: a Matplotlib figure without a window, the colors of all figures, and the curve of a training run.

The colors are those of Okabe and Ito (2008), which people with any common color blindness can tell apart.
"""

import csv
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORANGE, SKY, GREEN, YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
BLUE, VERMILLION, PURPLE = (0, 114, 178), (213, 94, 0), (204, 121, 167)


def mpl(colour: tuple[int, int, int]) -> tuple[float, ...]:
    """One of the colours above as Matplotlib wants it: 0 .. 1 instead of 0 .. 255."""
    return tuple(part / 255 for part in colour)


def new_figure(width: float, height: float) -> "Figure":
    """An empty Matplotlib figure without a window: `axes = figure.subplots(1, 3)` and draw; then `save_figure`.

    width, height: in inches, 100 pixels each.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=100)


def save_figure(path: str | os.PathLike, figure: "Figure") -> None:
    """Write a figure as PNG; an older file of that name is replaced by a whole one or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _read_columns(csv_path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Columns of a CSV table as float64; what is no number (an empty cell, a word) is nan."""
    with open(csv_path, newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if None not in row.values()]  # a line still being written is short
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
    """What a column measures: `train_loss` and `val_loss` both measure `loss`."""
    return column.removeprefix("train_").removeprefix("val_")


def plot_curve(csv_path: str | os.PathLike, png_path: str | os.PathLike) -> None:
    """Draw the training curves of a table of epochs: one small plot a quantity, training and validation
    together.

    csv_path: CSV with the columns `epoch` and any others; `train_x` and `val_x` share the plot of `x`.
    Columns without a number are left out; where a cell is empty the line goes on to the next value. Raises
    ValueError where there is no column `epoch`, no row or no number.
    """
    from matplotlib.ticker import MaxNLocator

    columns = _read_columns(csv_path)
    epochs = columns.pop("epoch")
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    if not columns:
        raise ValueError(f"plot_curve: {csv_path} has no column of numbers beside 'epoch'")
    quantities = list(dict.fromkeys(_quantity(name) for name in columns))

    across = min(3, len(quantities))
    down = -(-len(quantities) // across)
    figure = new_figure(4 * across, 3 * down)
    for number, quantity in enumerate(quantities, start=1):
        axes = figure.add_subplot(down, across, number)
        for name, values in columns.items():
            if _quantity(name) == quantity:
                known = np.isfinite(values)
                colour, marker = (VERMILLION, "s") if name.startswith("val_") else (BLUE, "o")
                style: dict[str, Any] = {"color": mpl(colour), "marker": marker, "markersize": 3}
                axes.plot(epochs[known], values[known], label=name, **style)
        axes.set_title(quantity)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(png_path, figure)
