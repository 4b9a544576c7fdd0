"""A page for each lecture: its ideas, each with the derivation, the kernel, the exercise and the measured model."""

from __future__ import annotations

from pathlib import PurePosixPath

from tinynet.tools.bands import format_band, format_figure
from tinynet.tools.examples import find_examples, measured

from .exercises import command, describe
from .pages import ROOT, Site, toctree
from .table import FOLDER, TITLE, Lecture, Link, Row, heading, lectures_of_table, slug

ABOUT = """Each idea of the lectures has a section: the formula, where its gradient is derived, the kernel that computes
it, the exercise in which you write it yourself, and a model with measured figures."""


def lectures(site: Site) -> None:
    """One page for each lecture, and the overview, to which links to the table lead."""
    found, cards = lectures_of_table(), []
    for lecture in found:
        site.add(f"lectures/{lecture.number}", _page(lecture), lecture.file)
        link = f":link: lectures/{lecture.number}\n:link-type: doc"
        cards.append(f":::{{grid-item-card}} {lecture.title}\n{link}\n\n{lecture.sections['']}\n:::")
    grid = "\n".join(["::::{grid} 1", ":gutter: 3", "", *cards, "::::"])
    pages = toctree(f"lectures/{lecture.number}" for lecture in found)
    site.add("lectures", f"# Lecture by lecture\n\n{ABOUT}\n\n{grid}\n\n{pages}", f"{FOLDER}/README.md#{slug(TITLE)}")


def _page(lecture: Lecture) -> str:
    """The Markdown of a lecture; its links start in docs/lectures."""
    parts, figures = [f"# {lecture.title}", lecture.sections[""]], _Figures()
    for row in lecture.rows:
        text = lecture.sections[row.idea]
        parts += [f"## {row.idea}", text, _links(row), *(figures.table(script, text) for script in row.scripts)]
    return "\n\n".join(part for part in parts if part)


def _links(row: Row) -> str:
    """What belongs to an idea, as a card."""
    items = [
        *(_operation(link) for link in row.operations),
        *(_exercise(link) for link in row.exercises),
        *(_document(link) for link in row.documents),
    ]
    return "\n".join([":::{card}", *(f"- {item}" for item in items), ":::"]) if items else ""


def _linked(text: str, target: str) -> str:
    """A Markdown link to a file of the repository, from a page of docs/lectures."""
    return f"[{text}](../../{target})"


def _operation(link: Link) -> str:
    """Where the op is derived, and its kernels."""
    name = PurePosixPath(link.file).parent.name
    title = f"{name}: {heading(link)}" if link.anchor else heading(link)
    kernel = f"{_linked('its versions', link.file + '#the-versions')}, `python -m tinynet op {name}`"
    return f"**Derivation**: {_linked(title, link.target)}. **Kernel**: {kernel}"


def _exercise(link: Link) -> str:
    about = describe(link.text)
    title = _linked(f"{link.text}: {about.title}", link.file)
    return f"**Exercise**: {title} teaches {about.teaches}. `{command(link.text)}`"


def _document(link: Link) -> str:
    """A page to touch opens as it is; a document is a page of the site."""
    if link.file.endswith(".html"):
        title = link.text.removesuffix(", a page to touch")
        return f'**Touch**: <a href="../{PurePosixPath(link.file).name}">{title}</a>'
    return f"**Read**: {_linked(heading(link), link.file)}"


class _Figures:
    """The scripts and what they measured."""

    def __init__(self) -> None:
        folder = ROOT / FOLDER
        self.examples = {f"{FOLDER}/{example.path}": example for example in find_examples(folder)}
        self.measured = measured(folder)

    def table(self, script: Link, text: str) -> str:
        """A script's figures, folded: the expected ones and those that the text names, which are bold.

        A script without figures, which other scripts import, has a link only.
        """
        example = self.examples.get(script.file)
        run = self.measured.get(example.name) if example else None
        about = _linked(heading(script), script.file)
        if example is None or run is None:
            return f"The lines of the model: {about}."
        rows = []
        for name, value in run["figures"].items():
            band = format_band(example.expected[name]) if name in example.expected else ""
            bold = "**" if f"`{name}`" in text else ""
            if band or bold:
                rows.append(f"| {bold}{name}{bold} | {band} | {bold}{format_figure(value)}{bold} |")
        title = f"Measured: `{example.path}`, {_duration(run['minutes'])}"
        start = f"`python -m tinynet examples {script.text}`; with `--quick` it takes seconds."
        table = "\n".join(["| figure | expected | measured |", "| --- | --- | --- |", *rows])
        return f":::{{dropdown}} {title}\n{about}\n\nData: {example.data}. {start}\n\n{table}\n:::"


def _duration(minutes: float) -> str:
    return f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute" if minutes >= 0.5 else "seconds"
