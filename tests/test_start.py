"""The first hour: its pages run, in an empty folder and without data, and print what they promise; the glossary."""

from __future__ import annotations

import json
import re
import sys

import pytest
from matplotlib import pyplot
from processes import ROOT

START = ROOT / "docs/start"
SAYS = {  # page -> what its text promises about what it prints
    "first_net": [
        r"loss 16\.0\ngradient -16\.0\nnew weight 4\.6 .* new loss 0\.64",
        "gradients agree",
        "difference 0.0",
    ],
    "first_nuclei": [
        r"58 nuclei; the threshold finds 27 regions",
        r"U-Net +Dice 0\.9\d+ +mean AP 0\.5",
        r"diameter \d+ pixels: \d+ nuclei, mean AP 0\.5",
    ],
    "first_own_kernel": [r"(?s)gradients agree.*the mistake: the last row of gy is never used.*\nright\n", "tinynet's"],
}


def test_every_page_is_tested():
    assert SAYS.keys() == {path.stem for path in START.glob("*.py")}


def run(page, capsys, tmp_path, monkeypatch, change=("", "")):
    """Run a page in an empty folder; return what it printed. change: words of the page and what takes their place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    code = (START / f"{page}.py").read_text(encoding="utf-8")
    assert change[0] in code
    pyplot.switch_backend("agg")  # draws without a window; the figures before are closed
    exec(compile(code.replace(*change), page, "exec"), {"__name__": page})
    return capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_first_net(capsys, tmp_path, monkeypatch):
    printed = run("first_net", capsys, tmp_path, monkeypatch, change=("steps=300", "steps=30"))
    for promise in SAYS["first_net"]:
        assert re.search(promise, printed), promise
    before, after = re.search(r"loss: ([\d.]+) before, ([\d.]+) after", printed).groups()
    assert float(after) < 0.6 * float(before)
    titles = [axes.get_title() for axes in pyplot.gcf().axes]
    assert titles[3] == "zero weights: 50% wrong" and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("page", SAYS)
def test_a_page_prints_what_it_promises(page, capsys, tmp_path, monkeypatch):
    printed = run(page, capsys, tmp_path, monkeypatch)
    for promise in SAYS[page]:
        assert re.search(promise, printed), promise


@pytest.mark.slow
@pytest.mark.parametrize("page", SAYS)
def test_a_notebook_runs_in_an_empty_folder_and_shows_its_figures(page, tmp_path, monkeypatch):
    for module in ("sphinx_gallery", "nbclient", "ipykernel"):
        pytest.importorskip(module, reason="notebooks need the extras 'docs' and 'test'")
    import nbclient
    import nbformat
    from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
    from sphinx_gallery.notebook import jupyter_notebook
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    blocks = split_code_and_text_blocks(START / f"{page}.py")[1]
    cells = jupyter_notebook(blocks, {**DEFAULT_GALLERY_CONF}, tmp_path)
    notebook = nbformat.reads(json.dumps(cells), as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert not re.search(r":\w+:`|^\.\. ", text, re.MULTILINE), "reStructuredText that Jupyter does not show"
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = sum("image/png" in output.get("data", {}) for output in outputs)
    assert shown == sum(cell.source.count("plt.show()") for cell in notebook.cells) + (page == "first_nuclei") * 3
    assert all("compiling" in output.text for output in outputs if output.get("name") == "stderr")


# ---------------------------------------------------------------------------------------- the glossary
sys.path.insert(0, str(ROOT / "docs/book"))


def test_the_glossary():
    from parts.documents import TERM, glossary

    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    names = [name for match in TERM.finditer(text) for name in match[1].split(", ")]
    assert len(names) == len(set(names)) and len(TERM.findall(text)) == text.count("\n- ") >= 60
    for term, meaning in TERM.findall(text):
        assert re.search(r"[.)\"] \[[^\]]+\]\([^)]+\)$", meaning), f"{term}: no page"
    lines = glossary(text).splitlines()
    assert set(names) <= set(lines) and lines.count(":::{glossary}") == text.count("\n## ")
