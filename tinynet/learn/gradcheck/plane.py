"""The plane through the worst entry, printed side by side or painted as a heat map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations

import numpy as np

LARGEST = 5  # rows and columns that are printed


def choose(marked: np.ndarray, worst: tuple[int, ...]) -> tuple[int, ...]:
    """The two axes along which to look at the entry `worst`: those whose plane shows most of right beside wrong.

    marked: bool, which entries are wrong. Returns both axes, fewer where the array has fewer.
    """
    if marked.ndim <= 2:
        return tuple(range(marked.ndim))

    def contrast(axes: tuple[int, ...]) -> tuple[int, int]:
        plane = cut(marked, worst, axes)
        wrong = int(np.count_nonzero(plane))
        return wrong * (plane.size - wrong), min(plane.shape)

    return max(combinations(range(marked.ndim), 2), key=contrast)


def cut(array: np.ndarray, worst: tuple[int, ...], axes: Sequence[int]) -> np.ndarray:
    """The plane through `worst` along these axes, as a 2-D array (one row where there is one axis, or none)."""
    plane = array[tuple(slice(None) if k in axes else worst[k] for k in range(array.ndim))]
    return np.atleast_2d(plane)


def side_by_side(
    got: np.ndarray,
    want: np.ndarray,
    marked: np.ndarray,
    worst: tuple[int, ...],
    axes: Sequence[str],
    titles: tuple[str, str],
) -> str:
    """Both arrays in the plane through the entry `worst`, or a window of it; wrong entries are marked with `*`."""
    shown = choose(marked, worst)
    wrong = cut(marked, worst, shown)
    centre = (worst[shown[0]] if len(shown) == 2 else 0, worst[shown[-1]] if shown else 0)
    rows, columns = (_window(c, n) for c, n in zip(centre, wrong.shape))
    tables = [_table(cut(a, worst, shown), wrong, rows, columns) for a in (got, want)]
    widths = [max(map(len, [*table, title])) for table, title in zip(tables, titles)]
    lines = ["   ".join(f"{title:<{width}}" for title, width in zip(titles, widths))]
    lines += ["   ".join(f"{line:<{width}}" for line, width in zip(pair, widths)) for pair in zip(*tables)]
    return "\n".join([_heading(got.shape, worst, axes, shown), *(f"    {line.rstrip()}" for line in lines)])


def heat_map(
    path: str | os.PathLike,
    got: np.ndarray,
    want: np.ndarray,
    marked: np.ndarray,
    worst: tuple[int, ...],
    axes: Sequence[str],
    titles: tuple[str, str],
) -> None:
    """Paint the plane through `worst` as a PNG: one array, the other, their difference; the worst entry framed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    shown = choose(marked, worst)
    planes = [cut(a, worst, shown) for a in (got, want, got - want)]
    rows, columns = planes[0].shape
    figure = Figure(figsize=(11, 1.6 + 3 * min(1.2, rows / columns)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_heading(got.shape, worst, axes, shown), fontsize=10)
    largest = max((float(np.max(np.abs(p[np.isfinite(p)]), initial=0.0)) for p in planes[:2]), default=0.0) or 1.0
    gap = float(np.max(np.abs(planes[2][np.isfinite(planes[2])]), initial=0.0)) or 1.0
    for panel, plane, title, limit in zip(
        figure.subplots(1, 3), planes, (*titles, "difference"), (largest, largest, gap)
    ):
        image = panel.imshow(plane, cmap="RdBu_r", vmin=-limit, vmax=limit)
        panel.set_title(title)
        panel.set_xlabel(axes[shown[-1]] if shown else "")
        panel.set_ylabel(axes[shown[0]] if len(shown) == 2 else "")
        panel.set_xticks(range(columns) if columns <= 12 else [0, columns - 1])
        panel.set_yticks(range(rows) if rows <= 12 else [0, rows - 1])
        corner = (worst[shown[-1]] if shown else 0, worst[shown[0]] if len(shown) == 2 else 0)
        panel.add_patch(Rectangle((corner[0] - 0.5, corner[1] - 0.5), 1, 1, fill=False, linewidth=2))
        figure.colorbar(image, ax=panel, shrink=0.8)
    figure.savefig(path, dpi=110, format="png")


def _heading(shape: Sequence[int], worst: tuple[int, ...], axes: Sequence[str], shown: Sequence[int]) -> str:
    """'the plane [0, :, :, 2]: h down, w across'."""
    if not shape:
        return "the number"
    index = ", ".join(":" if k in shown else str(i) for k, i in enumerate(worst))
    directions = f"{axes[shown[0]]} down, {axes[shown[1]]} across" if len(shown) == 2 else f"{axes[shown[0]]} across"
    return f"the plane [{index}]: {directions}"


def _window(centre: int, length: int) -> range:
    """At most LARGEST indices around `centre`."""
    start = max(0, min(centre - LARGEST // 2, length - LARGEST))
    return range(start, min(start + LARGEST, length))


def _table(plane: np.ndarray, wrong: np.ndarray, rows: range, columns: range) -> list[str]:
    """The window as lines of text, with the indices above and on the left."""
    cells = [[f"{plane[i, j]:.4g}" + ("*" if wrong[i, j] else " ") for j in columns] for i in rows]
    width = max(max(len(cell) for line in cells for cell in line), 4)
    margin = max(len(str(i)) for i in rows)
    header = " " * margin + " |" + " ".join(f"{j:>{width - 1}} " for j in columns)
    body = [f"{i:>{margin}} |" + " ".join(f"{cell:>{width}}" for cell in line) for i, line in zip(rows, cells)]
    return [header, *body]
