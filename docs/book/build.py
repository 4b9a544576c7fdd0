"""Build the site: `make docs`, or `python docs/book/build.py --out out/site`.

Every page is made from a file that serves another purpose, too: a document, the folder of an operation, an exercise, a
script with its measured figures, a docstring. This program writes them as Markdown into OUT/source, with links that
lead from page to page, and Sphinx makes the site in OUT/html. A new op folder, exercise or script has its page without
any further step. A warning of Sphinx, such as a link that leads nowhere, is an error.

Sphinx-Gallery runs each script of examples/ with --quick, and shows what it prints and draws. The data of TINYNET_DATA
are not used, because not all of them may be published: a script without its data runs on a bundled or synthetic set,
and says so. A second build runs the scripts again that have changed. Remove the folder OUT to run all of them.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import shutil
import subprocess
import sys
from pathlib import Path

from parts import documents, exercises, lectures, operations, reference, scripts, touch
from parts.pages import ROOT, Site, relinked, toctree

CHAPTERS = {  # heading of the navigation -> its pages
    "Start": ["start/index", "start/next", "glossary", "one_page"],
    "Lectures": ["lectures", "scripts/index", "scripts"],
    "Touch": ["touch"],
    "Operations": ["operations"],
    "Exercises": ["exercises", "exercises_measured", "course"],
    "Nuclei": ["nuclei", "nuclei_training"],
    "CUDA without a GPU": ["cuda", "register_block"],
    "Reference": ["reference", "coming_from", "gradcheck"],
    "How it is built": ["design", "performance", "distributed", "contributing"],
}
FOR_SCRIPTS = {  # environment variables
    **dict.fromkeys(["NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1"),  # several run at a time
    "TINYNET_TRACEBACK": "1",  # an error of a script ends the build, and is shown
    "PYTHONWARNINGS": "ignore:A worker stopped:UserWarning",  # joblib starts a new one when scripts left memory in use
}
PARTS = (
    documents.documents,
    operations.operations,
    exercises.exercises,
    scripts.scripts,
    lectures.lectures,
    touch.touch,
    reference.reference,
)


def index(site: Site) -> str:
    """The first page, and the navigation."""
    intro = Path(__file__).with_name("index.md").read_text(encoding="utf-8")
    known = site.pages.keys() | set(site.page_of.values())  # Sphinx-Gallery writes some of these pages
    trees = []
    for caption, wanted in CHAPTERS.items():
        trees.append(toctree([name for name in wanted if name in known], caption))
    return intro + "\n\n" + "\n\n".join(trees)


def clear(site: Site, source: Path) -> None:
    """Empty the folders. Pages of scripts stay: Sphinx-Gallery does not run a script again that has not changed."""
    for copies in ("gallery", "start"):
        shutil.rmtree(source.parent / copies, ignore_errors=True)
    source.mkdir(parents=True, exist_ok=True)
    for path in [*source.iterdir(), *source.glob("scripts/*/*.*")]:
        if path.is_dir() and path.name != "scripts":
            shutil.rmtree(path)
        elif path.is_file() and f"{path.parent.name}/{path.name.partition('.')[0]}.py" not in site.copies:
            path.unlink()


def write(site: Site, source: Path) -> None:
    """Write all pages, images and settings into the folder."""
    clear(site, source)
    folders = {page: posixpath.dirname(file) for file, page in site.page_of.items()}
    text_of_index = index(site)
    for name in [name for name in site.pages if name in folders]:  # other pages are made here, with the right links
        site.pages[name] = relinked(site, name, site.pages[name], folders[name])
    site.pages["index"] = relinked(site, "index", text_of_index, "docs/book")
    for name, text in site.pages.items():
        path = source / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for image in site.images:
        path = source / "_static" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / image, path)
    shutil.copytree(ROOT / "docs/pages", source / "pages")
    for name, text in site.copies.items():
        path = source.parent / "gallery" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "docs/start", source.parent / "start", ignore=shutil.ignore_patterns("*.md", "__pycache__"))
    for name in ("conf.py", "docstrings.py", "gallery.py"):
        shutil.copy(Path(__file__).with_name(name), source)
    (source / "_static").mkdir(exist_ok=True)
    for name in ("tinynet.css", "tinynet.js"):
        shutil.copy(Path(__file__).with_name(name), source / "_static")
    shutil.copytree(Path(__file__).with_name("mathjax"), source / "_static/mathjax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out/site", help="folder for the pages and the site")
    out = parser.parse_args().out
    site = Site()
    for make in PARTS:
        make(site)
    write(site, out / "source")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(out / "source"), str(ROOT)]), **FOR_SCRIPTS}
    environment.pop("TINYNET_DATA", None)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "auto"]
    done = subprocess.run([*command, str(out / "source"), str(out / "html")], env=environment)
    if done.returncode:
        sys.exit(done.returncode)
    print(f"{len(site.pages)} pages: {out / 'html/index.html'}")


if __name__ == "__main__":
    main()
