"""The measured ladder of an op: what each version of its kernels gains over the definition, from docs/kernels.json."""

from __future__ import annotations

import functools
import html
import itertools
import json
from collections.abc import Iterable
from typing import Any

from .pages import ROOT

KERNELS = ROOT / "docs/kernels.json"  # written by `python -m tinynet bench ops --json docs/kernels.json`
DEFINITION = "reference"
ROW, LABELS, BARS, VALUES = 26, 84, 150, 150  # of the drawing, in its units: height of a row, widths of its columns

Row = dict[str, Any]


@functools.cache
def report() -> dict[str, Any]:
    """The report of `bench ops`."""
    return json.loads(KERNELS.read_text(encoding="utf-8"))


def ladder(ops: Iterable[str]) -> str:
    """The section of a page for an op folder with these ops: for each kernel a drawing, a table and all other calls."""
    rows = [row for row in report()["rows"] if row["op"] in set(ops)]
    if not rows:
        command = f"python -m tinynet bench ops {' '.join(ops)}"
        return f"## The measured ladder\n\nNot measured yet. To measure it on your machine:\n\n    {command}"
    machine, settings = report()["machine"], report()["settings"]
    about = (
        f"Milliseconds on {settings['threads']} threads of one machine ({machine['processor']}), float32. "
        f"The definition is `reference.py`, run by NumPy. *Of the roof*: the share of the speed that the machine "
        f"allows, {machine['sgemm_gflops']:.0f} GFLOP/s (a product of matrices by BLAS) and "
        f"{machine['triad_gbytes']:.0f} GB/s (a triad). It is above 100 % if the data come from a cache, if a version "
        "does with fewer operations than the definition, or if it is faster than BLAS. "
        f'<a href="../roofline.html#{rows[0]["op"]}">The same figures as a roofline</a>.'
    )
    rows.sort(key=lambda row: (row["op"], row["kernel"] != "forward"))
    kernels = [_kernel(list(of)) for _, of in itertools.groupby(rows, key=lambda row: (row["op"], row["kernel"]))]
    return "\n\n".join(["## The measured ladder", about, *kernels])


def _kernel(rows: list[Row]) -> str:
    """One kernel: the call with the most versions, and among those the one with the most operations, comes first."""
    op, kernel = rows[0]["op"], rows[0]["kernel"]
    calls = [list(of) for _, of in itertools.groupby(rows, key=lambda row: row["shapes"])]
    calls.sort(key=lambda call: (-len(call), -call[0]["flops"]))
    first, *others = calls
    words = kernel.replace("_", " ")
    # A rubric looks like a heading. As a heading, "backward" on every page would count as much in a search as the op.
    title = f":::{{rubric}} {op}: {words}\n:heading-level: 3\n:::"
    parts = [title, f"`{kernel}` of {first[0]['shapes']}:", drawing(first), table(first)]
    if others:
        more = "\n\n".join(f"{call[0]['shapes']}:\n\n{table(call)}" for call in others)
        title = f"{len(others)} other call{'s' * (len(others) > 1)} of {op} {words}"
        parts.append(f"::::{{dropdown}} {title}\n\n{more}\n::::")
    return "\n\n".join(parts)


def gain(row: Row, call: list[Row]) -> float:
    """How many times as fast as the definition a version is in this call."""
    (definition,) = [other for other in call if other["implementation"] == DEFINITION]
    return definition["ms"] / row["ms"]


def table(call: list[Row]) -> str:
    """The versions of a call as a table, the slowest first."""
    lines = [
        "| version | ms | times as fast as the definition | GFLOP/s | of the roof |",
        "| --- | --: | --: | --: | --: |",
    ]
    for row in sorted(call, key=lambda row: row["gflops"]):
        share = "" if row["share"] is None else f"{100 * row['share']:.{int(row['share'] < 0.1)}f} %"
        ms = f"{row['ms']:.3g}" if row["ms"] < 100 else f"{row['ms']:.0f}"
        name = row["implementation"] + (" (runs by default)" if row is call[0] and len(call) > 2 else "")
        name += "" if row["quiet"] else " (other processes were busy)"
        lines.append(f"| {name} | {ms} | {gain(row, call):.3g} | {row['gflops']:.3g} | {share} |")
    return "\n".join(lines)


def drawing(call: list[Row]) -> str:
    """A bar for each version, as long as its GFLOP/s, the slowest first; the table beside it says the same in words."""
    rows = sorted(call, key=lambda row: row["gflops"])
    longest, height = rows[-1]["gflops"], ROW * len(rows) + 4
    label = f"bars of the GFLOP/s of {len(rows)} versions, from the slowest to the fastest; the table has the figures"
    bars = []
    for number, row in enumerate(rows):
        y, length = ROW * number + 4, max(BARS * row["gflops"] / longest, 1)
        color = "var(--color-foreground-muted)" if row["implementation"] == DEFINITION else "var(--color-brand-primary)"
        value = f"{row['gflops']:.3g} GFLOP/s, {gain(row, call):.3g} x"
        middle, name = y + ROW / 2 + 2, html.escape(row["implementation"])
        bars.append(f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">{name}</text>')
        bars.append(f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{ROW - 8}" style="fill:{color}"></rect>')
        bars.append(f'<text x="{LABELS + length + 8:.1f}" y="{middle}">{value}</text>')
    style = "max-width:26rem;width:100%;font-size:13px;fill:var(--color-foreground-primary)"
    box = f'viewBox="0 0 {LABELS + BARS + VALUES} {height}"'
    lines = "\n".join(bars)
    return f'<svg class="ladder" {box} role="img" aria-label="{label}" style="{style}">\n{lines}\n</svg>'
