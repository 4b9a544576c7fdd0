"""The figures of a run beside the band in which each of them is expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

Band = tuple[float | None, float | None]  # lowest and highest; None: no limit


def in_band(figure: float, band: Band) -> bool:
    """True if a figure lies in its band, limits included. NaN never does."""
    low, high = band
    return not math.isnan(figure) and (low is None or figure >= low) and (high is None or figure <= high)


def format_band(band: Band) -> str:
    """ ">= 0.96", "<= 1e-06", "0.5 to 0.7", "60,965,224"."""
    low, high = band
    if high is None:
        return "" if low is None else f">= {format_figure(low)}"
    if low is None:
        return f"<= {format_figure(high)}"
    return format_figure(low) if low == high else f"{format_figure(low)} to {format_figure(high)}"


def format_figure(figure: float) -> str:
    """Four digits of a measurement, all digits of a count."""
    return f"{figure:,.0f}" if float(figure).is_integer() and abs(figure) < 1e12 else f"{figure:.4g}"


def print_metrics(metrics: Mapping[str, float], expected: Mapping[str, Band], quick: bool = False) -> None:
    """Print the figures of a run beside their bands. quick: the run was too short for the bands to hold."""
    width = max(len(name) for name in metrics)
    print(f"\n{'':{width}}  {'measured':>10}  expected{' of a whole run; this was a quick one' if quick else ''}")
    for name, figure in metrics.items():
        band = expected.get(name, (None, None))
        outside = "" if quick or band == (None, None) or in_band(figure, band) else "  <-- outside"
        print(f"{name:{width}}  {format_figure(figure):>10}  {format_band(band)}{outside}".rstrip())
    print(flush=True)


def mean_over_seeds(run: Callable[[int], Mapping[str, float]], seed: int, seeds: int) -> dict[str, float]:
    """The mean of each figure over run(seed), run(seed + 1), ...: a single seed may be a lucky one.

    Prints the figures of every run if there are several. Raises ValueError if seeds < 1.
    """
    if seeds < 1:
        raise ValueError(f"--seeds is {seeds}; at least 1 is needed")
    runs = []
    for number in range(seed, seed + seeds):
        runs.append(run(number))
        if seeds > 1:
            figures = ", ".join(f"{name} {format_figure(figure)}" for name, figure in runs[-1].items())
            print(f"seed {number}: {figures}", flush=True)
    return {name: sum(figures[name] for figures in runs) / seeds for name in runs[0]}
