"""The pages of the site and the links between them."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]*)((?:#[^)\s]*)?\))")
SMALL_IMAGE = re.compile(r'<img src="([^"]*)" alt="([^"]*)" width="[0-9]+">')  # in a table; tinynet.css has its width
FENCE = re.compile(r"(```.*?```)", re.DOTALL)
LANGUAGES = {".py": "python", ".cu": "cuda", ".cuh": "cuda", ".md": "markdown", ".h": "c++", ".cpp": "c++"}


@dataclass
class Site:
    """The pages: name without ".md" -> Markdown; and which page shows a file of the repository."""

    pages: dict[str, str] = field(default_factory=dict)
    page_of: dict[str, str] = field(default_factory=dict)  # file, relative to ROOT -> name of its page
    images: set[str] = field(default_factory=set)  # files, relative to ROOT
    copies: dict[str, str] = field(default_factory=dict)  # path below examples/ -> what Sphinx-Gallery makes a page of

    def add(self, name: str, text: str, file: str | None = None) -> None:
        """A page; its links are still those of `file`, or of the repository's root."""
        self.pages[name] = text
        if file is not None:
            self.page_of[file] = name


def toctree(names: Iterable[str], caption: str = "") -> str:
    """Pages for the navigation beside the text."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "```{toctree}\n" + "\n".join([*options, "", *(f"/{name}" for name in names)]) + "\n```"


def code_block(path: Path) -> str:
    """A source file with line numbers."""
    language, text = LANGUAGES.get(path.suffix, "text"), path.read_text(encoding="utf-8")
    return f"`````{{code-block}} {language}\n:linenos:\n\n{text}`````"


def constant(tree: ast.Module, name: str) -> str:
    """The value of a constant of a file that is not run."""
    values = [s.value for s in tree.body if isinstance(s, ast.Assign) and getattr(s.targets[0], "id", "") == name]
    return str(ast.literal_eval(values[0])) if values else ""


def relinked(site: Site, name: str, text: str, folder: str) -> str:
    """The Markdown of a page, with links that lead to other pages. folder: where its links start, below ROOT."""

    def replace(match: re.Match) -> str:
        before, target, after = match.groups()
        if not target or ":" in target:  # a place on this page, another site
            return match[0]
        file = posixpath.normpath(posixpath.join(folder, target))
        if file + after[:-1] in site.page_of:  # a part of a document with a page of its own
            file, after = file + after[:-1], ")"
        place = destination(site, file, is_image=before.startswith("!"))
        if place is None:
            return before[1:-2]  # a folder: the words without a link
        return before + posixpath.relpath(place, posixpath.dirname(name) or ".") + after

    pieces = FENCE.split(SMALL_IMAGE.sub(r"![\2](\1)", text))
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
        site.add(f"source/{file}", f"---\norphan: true\n---\n\n# {file}\n\n{code_block(path)}", file)
    page = site.page_of.get(file)
    return page and page + (".md" if page in site.pages else ".rst")  # Sphinx-Gallery writes reStructuredText
