"""A page for each script of examples/."""

from __future__ import annotations

import ast
import inspect
import json

from tinynet.tools.bands import format_band, format_figure
from tinynet.tools.examples import Example, find_examples

from .pages import ROOT, Site, code_block, toctree


def scripts(site: Site) -> None:
    """For each script of examples/: its docstring, what it measured, its figure, its lines."""
    folder, names = ROOT / "examples", []
    measured = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    site.add(
        "scripts",
        (folder / "README.md").read_text(encoding="utf-8").partition("\n## Lecture by lecture")[0],
        "examples/README.md",
    )
    for example in find_examples(folder):
        path = folder / example.path
        text = path.read_text(encoding="utf-8")
        title, _, rest = (ast.get_docstring(ast.parse(text)) or "").partition("\n")
        parts = [f"# {title.rstrip('.')}", inspect.cleandoc(rest), *_measured(example, measured.get(example.name))]
        picture = f"docs/examples/{path.stem}.png"
        if (ROOT / picture).exists():
            parts.append(f"![{example.topic}](../../{picture})")
        parts += ["## The script", code_block(path)]
        names.append(f"scripts/{example.name}")
        site.add(names[-1], "\n\n".join(parts), f"examples/{example.path}")
    for path in sorted(folder.glob("*/*.py")):  # the helpers of scripts
        name = path.relative_to(ROOT).as_posix()
        if name not in site.page_of:
            names.append(f"scripts/{path.parent.name}/{path.stem}")
            site.add(names[-1], f"# {path.name}\n\n{code_block(path)}", name)
    site.pages["scripts"] += "\n\n" + toctree(names)


def _measured(example: Example, run: dict | None) -> list[str]:
    """The table of a script's figures, if it has been run."""
    if run is None:
        return []
    bands = {name: format_band(band) for name, band in example.expected.items()}
    rows = [f"| {name} | {bands.get(name, '')} | {format_figure(value)} |" for name, value in run["figures"].items()]
    about = f"Data: {example.data}. {run['minutes']:.1f} minutes on {run['machine']}."
    table = "\n".join(["| figure | expected | measured |", "| --- | --- | --- |", *rows])
    return ["## What it measured", about, table]
