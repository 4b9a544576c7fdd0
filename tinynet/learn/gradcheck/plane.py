"""The plane through the worst entry of two arrays: printed side by side, or painted as a heat map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

LARGEST = 5  # rows and columns that are printed


@dataclass(frozen=True)
class Plane:
    """Two arrays, seen in the plane through the entry `worst`.

    marked: bool, the wrong entries. axes: the names of the axes. titles: of the two arrays.
    """

    actual: np.ndarray
    expected: np.ndarray
    marked: np.ndarray
    worst: tuple[int, ...]
    axes: Sequence[str]
    titles: tuple[str, str]

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """The two axes whose plane shows the most wrong entries beside right ones; fewer if there are fewer axes."""
        ndim = self.marked.ndim
        if ndim <= 2:
            return tuple(range(ndim))

        def contrast(shown: tuple[int, ...]) -> tuple[int, int]:
            plane = self._cut(self.marked, shown)
            wrong = int(np.count_nonzero(plane))
            return wrong * (plane.size - wrong), min(plane.shape)

        return max(combinations(range(ndim), 2), key=contrast)

    @property
    def _place(self) -> tuple[int, int]:
        """Row and column of the worst entry."""
        shown = self.shown
        return self.worst[shown[0]] if len(shown) == 2 else 0, self.worst[shown[-1]] if shown else 0

    @property
    def _heading(self) -> str:
        """'the plane [0, :, :, 2]: h down, w across'."""
        names = [self.axes[k] for k in self.shown]
        if not names:
            return "the number"
        index = ", ".join(":" if k in self.shown else str(i) for k, i in enumerate(self.worst))
        return f"the plane [{index}]: " + (f"{names[0]} down, {names[1]} across" if names[1:] else f"{names[0]} across")

    def _cut(self, array: np.ndarray, shown: Sequence[int]) -> np.ndarray:
        """The plane through `worst` as a 2-D array; one row if there are fewer than two axes."""
        return np.atleast_2d(array[tuple(slice(None) if k in shown else i for k, i in enumerate(self.worst))])

    def __str__(self) -> str:
        """Both arrays side by side, or a window of them; wrong entries are marked with `*`."""
        marked, *planes = (self._cut(a, self.shown) for a in (self.marked, self.actual, self.expected))
        starts = [max(0, min(i - LARGEST // 2, n - LARGEST)) for i, n in zip(self._place, marked.shape)]
        window = [range(start, min(start + LARGEST, n)) for start, n in zip(starts, marked.shape)]
        tables = [[title, *_table(plane, marked, *window)] for title, plane in zip(self.titles, planes)]
        widths = [max(map(len, table)) for table in tables]
        lines = ["   ".join(f"{line:<{width}}" for line, width in zip(pair, widths)) for pair in zip(*tables)]
        return "\n".join([self._heading, *(f"    {line.rstrip()}" for line in lines)])

    def heat_map(self, path: str | os.PathLike) -> None:
        """Paint one array, the other and their difference as a PNG; the worst entry is framed."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        planes = [self._cut(a, self.shown) for a in (self.actual, self.expected, self.actual - self.expected)]
        rows, columns = planes[0].shape
        figure = Figure(figsize=(11, 1.6 + 3 * min(1.2, rows / columns)), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(self._heading, fontsize=10)
        largest, gap = _largest(*planes[:2]), _largest(planes[2])
        names = [self.axes[k] for k in self.shown]
        y, x = self._place
        for panel, plane, title, limit in zip(
            figure.subplots(1, 3), planes, (*self.titles, "difference"), (largest, largest, gap)
        ):
            image = panel.imshow(plane, cmap="RdBu_r", vmin=-limit, vmax=limit)
            panel.set_title(title)
            panel.set_xlabel(names[-1] if names else "")
            panel.set_ylabel(names[0] if len(names) == 2 else "")
            panel.set_xticks(range(columns) if columns <= 12 else [0, columns - 1])
            panel.set_yticks(range(rows) if rows <= 12 else [0, rows - 1])
            panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, linewidth=2))
            figure.colorbar(image, ax=panel, shrink=0.8)
        figure.savefig(path, dpi=110, format="png")


def _largest(*planes: np.ndarray) -> float:
    """The largest finite absolute value, or 1 if there is none but 0."""
    return max(float(np.max(np.abs(p[np.isfinite(p)]), initial=0.0)) for p in planes) or 1.0


def _table(plane: np.ndarray, marked: np.ndarray, rows: range, columns: range) -> list[str]:
    """A window of the plane as lines of text, with the indices above and on the left."""
    cells = [[f"{plane[i, j]:.4g}" + ("*" if marked[i, j] else " ") for j in columns] for i in rows]
    width = max(max(len(cell) for line in cells for cell in line), 4)
    margin = max(len(str(i)) for i in rows)
    header = " " * margin + " |" + " ".join(f"{j:>{width - 1}} " for j in columns)
    body = [f"{i:>{margin}} |" + " ".join(f"{cell:>{width}}" for cell in line) for i, line in zip(rows, cells)]
    return [header, *body]
