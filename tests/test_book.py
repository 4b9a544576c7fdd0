"""The site: its pages are complete, and their links lead to pages. Sphinx itself runs in the slow test."""

import importlib.util
import re
import subprocess
import sys

import pytest
from processes import ROOT

from tinynet.learn.exercises.course import COURSE
from tinynet.tools.examples import examples_folder, find_examples

BOOK = ROOT / "docs/book"


sys.path.insert(0, str(BOOK))


def load(name):
    spec = importlib.util.spec_from_file_location(f"book_{name}", BOOK / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of the pages."""
    build, folder = load("build"), tmp_path_factory.mktemp("site") / "source"
    site = build.Site()
    for make in build.PARTS:
        make(site)
    build.write(site, folder)
    return folder


def test_everything_has_its_page(source):
    operations = [path.parent.name for path in ROOT.glob("tinynet/ops/*/derivation.md")]
    wanted = {f"operations/{name}.md" for name in operations} | {f"course/{name}.md" for name in COURSE}
    wanted |= {f"scripts/{example.name}.md" for example in find_examples(examples_folder())}
    wanted |= {f"{path.stem}.md" for path in ROOT.glob("docs/*.md")} | {"index.md", "one_page.md", "touch.md"}
    assert wanted <= {path.relative_to(source).as_posix() for path in source.rglob("*.md")}


def test_links_lead_to_pages(source):
    for page in source.rglob("*.md"):
        text = re.sub(r"(`{3,}).*?\1", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            assert "://" in link or (page.parent / link).exists(), f"{page.relative_to(source)}: {link}"


def test_every_public_name_is_in_the_reference(source):
    import tinynet as tn

    text = "".join(page.read_text(encoding="utf-8") for page in (source / "reference").glob("*.md"))
    for name in tn.__all__:
        value = getattr(tn, name)
        if callable(value) and getattr(value, "__module__", "").startswith("tinynet"):
            assert f".{name}\n" in text or f"{name}\n" in text, name


def test_docstrings_become_rst():
    to_rst = load("docstrings").to_rst
    docstring = ["The `step`th of a*b.", "", "x: (N, C), of `x_y*`,", "    float.", "y: foo_bar", "", "    z = a * b"]
    assert to_rst(docstring) == [
        *(r"The ``step``\ th of a\*b.", ""),
        *("- x: (N, C), of ``x_y*``, float.", "", r"- y: foo\_bar", ""),
        *("::", "", "        z = a * b", ""),
    ]


@pytest.mark.slow
def test_sphinx_builds_the_site_without_a_warning(tmp_path):
    for module in ("sphinx", "myst_parser", "furo", "sphinx_design"):
        pytest.importorskip(module, reason="the site needs the extra 'docs'")
    subprocess.run([sys.executable, str(BOOK / "build.py"), "--out", str(tmp_path)], check=True, timeout=600)
    assert (tmp_path / "html/operations/conv2d.html").exists() and (tmp_path / "html/convolution.html").exists()
    assert "backward_weight" in (tmp_path / "html/searchindex.js").read_text(encoding="utf-8")
