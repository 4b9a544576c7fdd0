"""The gallery: a page and a notebook for each script of examples/, which Sphinx-Gallery makes from a copy."""

from __future__ import annotations

import re

from tinynet.tools.bands import format_band, format_figure
from tinynet.tools.examples import TOPICS, Example, find_examples, measured

from .pages import ROOT, Site, code_block, toctree

SECTION = re.compile(r"^# -{20,} (.*)\n", re.MULTILINE)
RUN = '\nif __name__ == "__main__":\n'
QUICK_RUN = """\
``python examples/{path} --quick`` shows that everything works, and its metrics mean little.
If a data set is missing, a bundled or synthetic one takes its place."""


def scripts(site: Site) -> None:
    """For each script: the copy for Sphinx-Gallery, and the Markdown that its page shows before the lines."""
    folder, helpers = ROOT / "examples", []
    runs = measured(folder)
    site.page_of["examples"] = "scripts/index"
    site.copies["GALLERY_HEADER.rst"] = heading("Gallery of the scripts")
    for topic in TOPICS:
        site.copies[f"{topic}/GALLERY_HEADER.rst"] = heading(topic.capitalize(), "-")
    for example in find_examples(folder):
        _, docstring, code = (folder / example.path).read_text(encoding="utf-8").split('"""', 2)
        title, rest = docstring.split("\n\n", 1)
        site.page_of[f"examples/{example.path}"] = f"scripts/{example.name}"
        site.copies[example.path] = gallery_source(example, title.rstrip("."), rest, code)
        parts = [rest, *_measured(example, runs.get(example.name))]
        picture = _picture(example)
        if (ROOT / picture).exists():
            site.images.add(picture)
            parts.append(f"![{example.topic}](/_static/{picture})")
        site.add(f"intro/{example.name}", "\n\n".join(parts))
    for path in sorted(folder.glob("*/*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in site.page_of:  # a helper of scripts
            helpers.append(f"scripts/{path.parent.name}/{path.stem}")
            site.add(helpers[-1], f"# {path.name}\n\n{code_block(path)}", name)
    readme = (folder / "README.md").read_text(encoding="utf-8").partition("\n## Lecture by lecture")[0]
    site.add("scripts", readme + "\n\n" + toctree(helpers), "examples/README.md")


def gallery_source(example: Example, title: str, rest: str, code: str) -> str:
    """A script as Sphinx-Gallery reads it: its comments between sections become headings, its code stays as it is.

    title, rest: of the docstring. It is Markdown, for the notebook. (`gallery.introduce` has it rendered for the page.)
    """
    code = SECTION.sub(lambda match: block(match[1][0].upper() + match[1][1:]), code)
    code = code.replace(RUN, block("The quick run", QUICK_RUN.format(path=example.path)) + RUN)
    about = f'"""\n{heading(title)}\n{example.topic}. Data: {example.data}.\n\n{rest}"""\n' + block("The script")
    if (ROOT / _picture(example)).exists():
        about += f"\n# sphinx_gallery_thumbnail_path = '_static/{_picture(example)}'"
    return about + code


def heading(title: str, line: str = "=") -> str:
    """A title with a line below it, which means the same in Markdown and in reStructuredText."""
    return f"{title}\n{line * len(title)}\n"


def block(title: str, text: str = "") -> str:
    """A heading as a comment that Sphinx-Gallery shows as text."""
    lines = ["%%", *heading(title, "-").splitlines(), *(["", *text.splitlines()] if text else [])]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _picture(example: Example) -> str:
    return f"docs/examples/{example.name.split('/')[1]}.png"


def _measured(example: Example, run: dict | None) -> list[str]:
    """The table of a script's figures, if it has been run."""
    if run is None:
        return []
    bands = {name: format_band(band) for name, band in example.expected.items()}
    rows = [f"| {name} | {bands.get(name, '')} | {format_figure(value)} |" for name, value in run["figures"].items()]
    about = f"Data: {example.data}. {run['minutes']:.1f} minutes on {run['machine']}."
    table = "\n".join(["| figure | expected | measured |", "| --- | --- | --- |", *rows])
    return ["# Measured in full", about, table]
