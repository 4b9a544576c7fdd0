"""Build the site: `make docs`, or `python docs/book/build.py --out out/site`.

Every page is made from a file that serves another purpose, too: a document, the folder of an operation, an exercise, a
script with its measured figures, a docstring. This program writes them as Markdown into OUT/source, with links that
lead from page to page, and Sphinx makes the site in OUT/html. A new op folder, exercise or script has its page without
any further step. A warning of Sphinx, such as a link that leads nowhere, is an error.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import operator
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tinynet
from tinynet.learn.exercises.course import COURSE
from tinynet.tools.bands import format_band, format_figure
from tinynet.tools.examples import Example, find_examples

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]*)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"(```.*?```)", re.DOTALL)
LANGUAGES = {".py": "python", ".cu": "cuda", ".cuh": "cuda", ".md": "markdown", ".h": "c++", ".cpp": "c++"}
CHAPTERS = {  # heading of the navigation -> its pages
    "Start": ["start"],
    "Lectures": ["lectures/*", "scripts"],
    "Touch": ["touch"],
    "Operations": ["operations"],
    "Exercises": ["exercises", "exercises_measured", "course"],
    "Nuclei": ["nuclei"],
    "CUDA without a GPU": ["cuda", "register_block"],
    "Reference": ["reference", "coming_from", "gradcheck"],
    "How it is built": ["design", "performance", "contributing"],
}
NAMESPACES = (  # beside tinynet itself: the modules whose names a user writes
    *("nn", "nn.init", "optim", "train", "io", "data", "metrics", "segment", "instances", "viz", "boxes"),
    *("registration", "random", "cuda", "cusim"),
)


@dataclass
class Site:
    """The pages: name without ".md" -> Markdown; and which page shows a file of the repository."""

    pages: dict[str, str] = field(default_factory=dict)
    page_of: dict[str, str] = field(default_factory=dict)  # file, relative to ROOT -> name of its page
    images: set[str] = field(default_factory=set)  # files, relative to ROOT

    def add(self, name: str, text: str, file: str | None = None) -> None:
        """A page; its links are still those of `file`, or of the repository's root."""
        self.pages[name] = text
        if file is not None:
            self.page_of[file] = name


# ---------------------------------------------------------------------------------------- the pages
def documents(site: Site) -> None:
    """The documents, as they are."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        site.add(path.stem, path.read_text(encoding="utf-8"), f"docs/{path.name}")
    site.add("start", (ROOT / "README.md").read_text(encoding="utf-8"), "README.md")
    site.add("contributing", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "CONTRIBUTING.md")


def operations(site: Site) -> None:
    """For each op folder: its derivation, then the definition, the versions and the cases."""
    names = []
    for derivation in sorted((ROOT / "tinynet/ops").glob("*/derivation.md")):
        folder = derivation.parent
        names.append(folder.name)
        text = derivation.read_text(encoding="utf-8")
        files = sorted((p for p in folder.iterdir() if p.suffix in LANGUAGES and p.name != "__init__.py"), key=_rank)
        parts = [text, "## The files", "Each file as it runs; `reference.py` is the definition."]
        parts += [_source(path) for path in files if path != derivation]
        site.add(f"operations/{folder.name}", "\n\n".join(parts), f"tinynet/ops/{folder.name}/derivation.md")
    rows = "\n".join(
        f"| [{name}](operations/{name}.md) | {_first_heading(site.pages[f'operations/{name}'])} |" for name in names
    )
    head = (
        "# Operations\n\nOne folder each: formula, definition, the versions for the CPU, the CUDA kernels, the cases."
    )
    site.add(
        "operations", f"{head}\n\n| op | |\n| --- | --- |\n{rows}\n\n{_toctree(f'operations/{name}' for name in names)}"
    )


def _rank(path: Path) -> tuple[int, str]:
    first = ("reference.py", "op.py", "entries.py", "cpu.py")
    return (first.index(path.name) if path.name in first else 9, path.name)


def _first_heading(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ").partition(": ")[2]


def _source(path: Path) -> str:
    """A source file, folded; its name and the first line of its docstring are visible."""
    about = ""
    if path.suffix == ".py":
        about = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    anchor = path.relative_to(ROOT).as_posix().replace("/", "-")
    return f"::::{{dropdown}} `{path.name}` {about}\n:name: {anchor}\n\n{_code(path)}\n::::"


def _code(path: Path) -> str:
    """A source file with line numbers."""
    language, text = LANGUAGES.get(path.suffix, "text"), path.read_text(encoding="utf-8")
    return f"`````{{code-block}} {language}\n:linenos:\n\n{text}`````"


def exercises(site: Site) -> None:
    """For each exercise its task; the solution is not shown."""
    names = []
    folder = ROOT / "tinynet/learn/exercises/course"
    for identity in COURSE:
        name = f"{identity.replace('-', '_')}.py"
        tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        title, _, rest = (ast.get_docstring(tree) or "").partition("\n")
        commands = f"python -m tinynet exercises start {identity}\npython -m tinynet exercises check {identity}"
        names.append((identity, title, _constant(tree, "TEACHES")))
        text = f"# {identity}: {title}\n\n```sh\n{commands}\n```\n\n{inspect.cleandoc(rest)}"
        site.add(f"course/{identity}", text, f"tinynet/learn/exercises/course/{name}")
    rows = "\n".join(f"| [{i}](course/{i}.md) | {title} | {teaches} |" for i, title, teaches in names)
    head = "# The course, exercise by exercise\n\n| exercise | task | it teaches |\n| --- | --- | --- |"
    site.add("course", f"{head}\n{rows}\n\n{_toctree(f'course/{i}' for i, _, _ in names)}")


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
        parts += ["## The script", _code(path)]
        names.append(f"scripts/{example.name}")
        site.add(names[-1], "\n\n".join(parts), f"examples/{example.path}")
    for path in sorted(folder.glob("*/*.py")):  # the helpers of scripts
        name = path.relative_to(ROOT).as_posix()
        if name not in site.page_of:
            names.append(f"scripts/{path.parent.name}/{path.stem}")
            site.add(names[-1], f"# {path.name}\n\n{_code(path)}", name)
    site.pages["scripts"] += "\n\n" + _toctree(names)


def _measured(example: Example, run: dict | None) -> list[str]:
    """The table of a script's figures, if it has been run."""
    if run is None:
        return []
    bands = {name: format_band(band) for name, band in example.expected.items()}
    rows = [f"| {name} | {bands.get(name, '')} | {format_figure(value)} |" for name, value in run["figures"].items()]
    about = f"Data: {example.data}. {run['minutes']:.1f} minutes on {run['machine']}."
    table = "\n".join(["| figure | expected | measured |", "| --- | --- | --- |", *rows])
    return ["## What it measured", about, table]


def lectures(site: Site) -> None:
    """One page for each part of the table "lecture by lecture" in examples/README.md."""
    _, _, table = (ROOT / "examples/README.md").read_text(encoding="utf-8").partition("\n## Lecture by lecture")
    for part in table.split("\n### ")[1:]:
        number = re.match(r"Lecture (\d+)", part)
        if number:
            body = part.partition("\n## ")[0]
            site.add(f"lectures/{number[1]}", f"# {body}", f"examples/lecture {number[1]}")


def touch(site: Site) -> None:
    """A list of the pages to touch."""
    items = []
    for path in sorted((ROOT / "docs/pages").glob("*.html")):
        title = re.search(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"))
        items.append(f'- <a href="{path.name}">{title[1] if title else path.stem}</a>')
        site.page_of[f"docs/pages/{path.name}"] = "touch"
    about = "Each page is one file, which works without a network. Its values are compared with tinynet's by a test."
    site.add("touch", f"# Pages to touch\n\n{about}\n\n" + "\n".join(items))


def reference(site: Site) -> None:
    """Every public name, by the module it is documented in."""
    names: list[str] = []
    documented: set[int] = set()
    for title in ("tinynet", *(f"tinynet.{name}" for name in NAMESPACES)):
        module = tinynet if title == "tinynet" else operator.attrgetter(title.removeprefix("tinynet."))(tinynet)
        directives = []
        for name in _public(module):
            value = inspect.unwrap(getattr(module, name))
            is_here = (getattr(value, "__module__", None) or "").startswith(module.__name__)
            if is_here and id(value) not in documented and callable(value):
                directives.append(_directive(title, name, value))
                if name == value.__name__:
                    documented.add(id(value))
        about = inspect.cleandoc(module.__doc__ or "").partition("\n")[0]
        body = "\n".join(directives)
        site.add(f"reference/{title}", f"# {title}\n\n{about}\n\n```{{eval-rst}}\n{body}\n```")
        names.append(f"reference/{title}")
    rows = "\n".join(f"- [{name.partition('/')[2]}]({name}.md)" for name in names)
    site.add("reference", f"# Reference\n\nEvery public name, from its docstring.\n\n{rows}\n\n{_toctree(names)}")


def _public(module: object) -> list[str]:
    listed = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    return sorted(listed, key=str.lower)


def _directive(module: str, name: str, value: Any) -> str:
    """The directive that shows the docstring of a class or function; one line for another name of it."""
    if name != value.__name__:
        return f"``{module}.{name}`` is another name of ``{value.__name__}``.\n"
    members = "\n   :members:" if inspect.isclass(value) else ""
    return f".. {'autoclass' if inspect.isclass(value) else 'autofunction'}:: {module}.{name}{members}\n"


def _constant(tree: ast.Module, name: str) -> str:
    """The value of a constant of a file that is not run."""
    values = [s.value for s in tree.body if isinstance(s, ast.Assign) and getattr(s.targets[0], "id", "") == name]
    return str(ast.literal_eval(values[0])) if values else ""


# ---------------------------------------------------------------------------------------- Markdown
def _toctree(names: Iterable[str], caption: str = "") -> str:
    """Pages for the navigation beside the text."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "```{toctree}\n" + "\n".join([*options, "", *(f"/{name}" for name in names)]) + "\n```"


def index(site: Site) -> str:
    """The first page: what tinynet is, and the navigation."""
    intro = site.pages["start"].partition("\n## ")[0]
    trees = []
    for caption, wanted in CHAPTERS.items():
        names = [
            n
            for w in wanted
            for n in (sorted(p for p in site.pages if p.startswith(w[:-1])) if w.endswith("*") else [w])
        ]
        trees.append(_toctree([name for name in names if name in site.pages], caption))
    return intro + "\n\n" + "\n\n".join(trees)


def relinked(site: Site, name: str, text: str, folder: str) -> str:
    """The Markdown of a page, with links that lead to other pages. folder: where its links start, below ROOT."""

    def replace(match: re.Match) -> str:
        before, target, after = match.groups()
        if not target or ":" in target:  # a place on this page, another site
            return match[0]
        file = posixpath.normpath(posixpath.join(folder, target))
        place = destination(site, file, is_image=before.startswith("!"))
        if place is None:
            return before[1:-2]  # a folder: the words without a link
        return before + posixpath.relpath(place, posixpath.dirname(name) or ".") + after

    pieces = FENCE.split(text)
    return "".join(piece if piece.startswith("```") else LINK.sub(replace, piece) for piece in pieces)


def destination(site: Site, file: str, is_image: bool) -> str | None:
    """Where the site has a file of the repository. A source file without a page gets one; a folder has none.

    Raises FileNotFoundError for a link that leads nowhere.
    """
    path = ROOT / file
    if not path.exists() and file not in site.page_of:
        raise FileNotFoundError(f"a document links to {file}, which does not exist")
    if is_image:
        site.images.add(file)
        return f"_static/{file}"
    if file not in site.page_of and path.is_file():
        site.add(f"source/{file}", f"---\norphan: true\n---\n\n# {file}\n\n{_code(path)}", file)
    return f"{site.page_of[file]}.md" if file in site.page_of else None


# ---------------------------------------------------------------------------------------- the run
PARTS = (documents, operations, exercises, scripts, lectures, touch, reference)


def write(site: Site, source: Path) -> None:
    """Write all pages, images and settings into the folder."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    folders = {page: posixpath.dirname(file) for file, page in site.page_of.items()}
    text_of_index = index(site)
    for name in [name for name in site.pages if name in folders]:  # other pages are made here, with the right links
        site.pages[name] = relinked(site, name, site.pages[name], folders[name])
    site.pages["index"] = relinked(site, "index", text_of_index, "")
    for name, text in site.pages.items():
        path = source / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for image in site.images:
        path = source / "_static" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / image, path)
    shutil.copytree(ROOT / "docs/pages", source / "pages")
    for name in ("conf.py", "docstrings.py"):
        shutil.copy(Path(__file__).with_name(name), source)
    (source / "_static").mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("tinynet.css"), source / "_static")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out/site", help="folder for the pages and the site")
    out = parser.parse_args().out
    site = Site()
    for make in PARTS:
        make(site)
    write(site, out / "source")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(out / "source"), str(ROOT)])}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "auto"]
    done = subprocess.run([*command, str(out / "source"), str(out / "html")], env=environment)
    if done.returncode:
        sys.exit(done.returncode)
    print(f"{len(site.pages)} pages: {out / 'html/index.html'}")


if __name__ == "__main__":
    main()
