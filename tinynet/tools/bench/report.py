"""The files that the commands write: JSON, and the bar chart of `bench unet`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files import atomic_path

if TYPE_CHECKING:
    from .turns import Result


def write_json(path: str | os.PathLike, report: dict[str, Any]) -> None:
    """Write a report; NaN, which JSON does not know, becomes null."""
    report = json.loads(json.dumps(report), parse_constant=lambda name: None)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"all figures: {path}")


def draw_chart(results: dict[str, Result], title: str, path: str | os.PathLike) -> None:
    """Draw a PNG with a bar for each contestant, as long as its median, and a dot for each step; tinynet first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ...imaging.viz import BLUE, VERMILLION

    figure = Figure(figsize=(8, 1.4 + 0.5 * len(results)), layout="constrained", dpi=120)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    blue, vermillion = np.array(BLUE) / 255, np.array(VERMILLION) / 255
    medians = [result.median_ms for result in results.values()]
    longest = max(max(result.times_ms) for result in results.values())
    for row, (result, median) in enumerate(zip(results.values(), medians)):
        axes.barh(row, median, color=vermillion if row == 0 else blue, alpha=0.8, height=0.6)
        axes.plot(result.times_ms, [row] * len(result.times_ms), "k.", markersize=3, alpha=0.4)
        ratio = "" if row == 0 else f"  (tinynet / this: {medians[0] / median:.2f})"
        right = max(result.times_ms) + 0.01 * longest
        milliseconds = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
        axes.text(right, row, f"{milliseconds} ms{ratio}", va="center", fontsize=8)
    axes.set_yticks(range(len(results)), [result.title for result in results.values()])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.4 * longest)
    axes.set_xlabel("milliseconds; bar: median, dots: single steps")
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        canvas.print_png(temporary)
    print(f"chart: {path}")
