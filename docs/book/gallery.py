"""Sphinx extension: how Sphinx-Gallery runs the copies of the scripts, and what their pages show before the lines.

Sphinx-Gallery calls `command_line` before it runs a script, and `pictures` after each block of code.
"""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

from tinynet.data import data_path
from tinynet.tools.examples import examples_folder, find_examples

EXAMPLES = {example.name: example for example in find_examples(examples_folder())}
FIRST_CELL = """\
# This notebook needs tinynet: clone its repository, and type `pip install -e ".[examples]"` in the folder of setup.py.
# (On PyPI, the name "tinynet" belongs to another project.)
import sys

# The command line of the script. Without "--quick" it runs in full, on data that README.md tells you how to get.
sys.argv[1:] = {arguments}"""
LAST_CELL = """\
from pathlib import Path

from IPython.display import Image, display

for path in sorted(Path(sys.argv[-1]).rglob("*.png"), key=lambda path: path.stat().st_mtime_ns):
    print(path)
    display(Image(path))"""


def command_line(settings: dict[str, Any], variables: dict[str, Any]) -> list[str]:
    """The arguments of a script. Its notebook, which is written after the run, begins with them.

    The pages of the first hour have none, and their notebooks no further cells.
    """
    source = Path(variables["src_file"])
    example = EXAMPLES.get(f"{source.parent.name}/{source.stem}")
    if example is None:
        settings.update(first_notebook_cell=None, last_notebook_cell=None)
        return []
    command = itertools.takewhile(lambda argument: not argument.startswith("-"), example.arguments)
    arguments = [*command, "--quick", "--out", f"out/{source.stem}"]
    first = FIRST_CELL.format(arguments=arguments).replace("'", '"')
    settings.update(first_notebook_cell=first, last_notebook_cell=LAST_CELL)
    missing = [file for file in example.files if data_path(file) is None]
    print(f"examples/{example.path} --quick" + (f", without {', '.join(missing)}" if missing else ""), flush=True)
    return arguments


def pictures(block: Any, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """The images that the script has written, as reStructuredText. Only its last block, the run, writes any."""
    source, shown = Path(variables["src_file"]), []
    folder = source.parent / "out" / source.stem
    written = [path for path in folder.rglob("*") if path.suffix in (".png", ".gif")]
    for path in sorted(written, key=lambda path: path.stat().st_mtime_ns):
        target = Path(next(variables["image_path_iterator"])).with_suffix(path.suffix)
        shutil.copy(path, target)
        shown.append(figure_rst([target], settings["src_dir"], f"{source.stem}: {path.stem}"))
    return "\n".join(shown)


def introduce(app: Any, page: str, text: list[str]) -> None:
    """Before the page of a script is read: its docstring is Markdown; what the script measured follows."""
    if page.removeprefix("scripts/") in EXAMPLES:
        markdown = f".. include:: /{page.replace('scripts', 'intro', 1)}.md\n   :parser: myst_parser.sphinx_\n\n"
        text[0] = re.sub(r"(?ms)^(=+\n).*?(?=^\.\. GENERATED FROM)", rf"\1\n{markdown}", text[0], count=1)
    if page.startswith(("scripts/", "start/")):
        text[0] = re.sub(r"(?m)^ *tinynet: compiling.*\n", "", text[0])  # on stderr, if the cache of kernels is new
        text[0] = text[0].replace(f"{examples_folder().parent}/", "")  # this machine's name of the repository


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", introduce)
    return {"parallel_read_safe": True}
