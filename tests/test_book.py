"""The site: its pages are complete, and their links lead to pages. Sphinx itself runs in the slow test."""

import importlib.util
import json
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from processes import ROOT

import tinynet.ops  # noqa: F401 (registers the operations)
from tinynet.backends import registry
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
    scripts = [f"scripts/{copy}" for copy in site.copies]
    hour = [f"start/{path.name}" for path in ROOT.glob("docs/start/*.*") if path.suffix != ".md"]
    for name in scripts + hour:  # Sphinx-Gallery is going to write a page for each
        page = (folder / name.replace("GALLERY_HEADER", "index")).with_suffix(".rst")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.touch()
    return folder


def test_everything_has_its_page(source):
    operations = [path.parent.name for path in ROOT.glob("tinynet/ops/*/derivation.md")]
    wanted = {f"operations/{name}.md" for name in operations} | {f"course/{name}.md" for name in COURSE}
    wanted |= {"lectures.md"} | {f"lectures/{path.stem}.md" for path in ROOT.glob("docs/lectures/*.md")}
    wanted |= {f"{path.stem}.md" for path in ROOT.glob("docs/*.md")} | {"index.md", "one_page.md", "touch.md"}
    assert wanted <= {path.relative_to(source).as_posix() for path in source.rglob("*.md")}


def test_links_lead_to_pages(source):
    for page in source.rglob("*.md"):
        text = re.sub(r"(`{3,}).*?\1", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            place = source / link[1:] if link.startswith("/") else page.parent / link
            assert "://" in link or place.exists(), f"{page.relative_to(source)}: {link}"


def test_copies_for_the_gallery_have_the_lines_of_the_scripts(source):
    """Sections become text blocks and the docstring gets a title; every other line stays, in its order."""
    examples, copies = find_examples(examples_folder()), source.parent / "gallery"
    assert {path.relative_to(copies).as_posix() for path in copies.glob("*/*.py")} == {e.path for e in examples}
    for example in examples:
        script = (examples_folder() / example.path).read_text(encoding="utf-8")
        copy = (copies / example.path).read_text(encoding="utf-8")
        (docstring, lines), (titled, copied) = parts(script), parts(copy)
        title, rule, *rest = titled.lstrip().splitlines()
        assert title == docstring.splitlines()[0].rstrip(".") and rule == "=" * len(title)
        assert rest[-1] == docstring.splitlines()[-1]
        assert copied == lines, example.path
        sections = len(re.findall(r"^# -{20,} ", script, re.MULTILINE))
        assert copy.count("\n# %%\n") == sections + 2, example.path  # and "The script", "The quick run"


def parts(script):
    """(the docstring, the lines after it without blank lines and without comments at their beginning)."""
    _, docstring, code = script.split('"""', 2)
    return docstring, [line for line in code.splitlines() if line and not line.startswith("#")]


NOTEBOOKS = {  # a script without training, one with a command and shipped weights, one that needs another script
    "basics/perceptron": "xor_errors",
    "segmentation/unet_nuclei": "U-Net",
    "unsupervised/dbn": "pretrained",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run_and_show_their_figures(name, source, tmp_path, monkeypatch):
    for module in ("sphinx_gallery", "nbclient", "ipykernel"):
        pytest.importorskip(module, reason="notebooks need the extras 'docs' and 'test'")
    import nbclient
    import nbformat
    from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
    from sphinx_gallery.notebook import jupyter_notebook
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    gallery, copy = load("gallery"), source.parent / f"gallery/{name}.py"
    settings = {**DEFAULT_GALLERY_CONF, "last_notebook_cell": gallery.LAST_CELL}
    gallery.command_line(settings, {"src_file": copy})
    blocks = split_code_and_text_blocks(copy)[1]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    notebook = nbformat.reads(json.dumps(jupyter_notebook(blocks, settings, tmp_path)), as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    *_, run, last = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert NOTEBOOKS[name] in "".join(output.text for output in run.outputs if output.name == "stdout")
    assert all(output.get("name") != "stderr" for cell in (run, last) for output in cell.outputs)
    assert any("image/png" in output.get("data", {}) for output in last.outputs)


KERNELS = json.loads((ROOT / "docs/kernels.json").read_text(encoding="utf-8"))


def folder_of(op):
    return registry.package_of(op).rpartition(".")[2]


def test_every_version_of_every_op_is_explained(source):
    for op in registry.ops():
        text = (source / f"operations/{folder_of(op)}.md").read_text(encoding="utf-8")
        explained = text.partition("## The versions")[2].partition("## The cases")[0]
        assert "**reference**" in explained and "`cpu.py`" in explained, op
        for tier in ("cpu", "cuda"):
            code = (ROOT / f"tinynet/ops/{folder_of(op)}/{tier}.py").read_text(encoding="utf-8")
            names = registry.implementations(op, tier) if "IMPLEMENTATIONS =" in code else ["default"]
            for name in set(names) - {"default"}:
                lines = [line for line in explained.splitlines() if line.startswith(f"- **{name}**: ")]
                assert lines and all(len(line) > len(name) + 20 for line in lines), f"{op}: {name}"


def test_pages_of_operations_have_the_figures_of_the_benchmark(source):
    assert {row["op"] for row in KERNELS["rows"]} == set(registry.ops())
    definitions = {}
    for row in KERNELS["rows"]:
        if row["implementation"] == "reference":
            definitions[row["op"], row["kernel"], row["shapes"]] = row["ms"]
    for row in KERNELS["rows"]:
        text = (source / f"operations/{folder_of(row['op'])}.md").read_text(encoding="utf-8")
        title = f":::{{rubric}} {row['op']}: {row['kernel'].replace('_', ' ')}\n"
        section = text.partition(title)[2].partition("\n:::{rubric}")[0]
        after = section.partition(f"\n{row['shapes']}:")[2] or section.partition(f" {row['shapes']}:")[2]
        table = after.partition("| --- | --: |")[2].partition("\n\n")[0]
        (line,) = [line for line in table.splitlines() if line.startswith(f"| {row['implementation']} ")]
        _, name, ms, gain, gflops, share, _ = line.split("|")
        definition = definitions[row["op"], row["kernel"], row["shapes"]]
        assert float(ms) == pytest.approx(row["ms"], rel=0.006), line
        assert float(gain) == pytest.approx(definition / row["ms"], rel=0.006), line
        assert float(gflops) == pytest.approx(row["flops"] / row["ms"] / 1e6, rel=0.006), line
        assert float(share.strip(" %")) / 100 == pytest.approx(row["share"], abs=0.006), line
        assert ("other processes were busy" in name) == (not row["quiet"])


def test_a_drawing_has_a_bar_for_each_version_as_long_as_its_speed():
    from parts.ladder import drawing

    names = {"fast": 1.0, "<naive>": 40.0, "reference": 10.0}  # 200, 5 and 20 GFLOP/s
    call = [{"implementation": n, "ms": ms, "flops": 2 * 10**8, "gflops": 200 / ms} for n, ms in names.items()]
    svg = ElementTree.fromstring(drawing(call))
    widths = [float(bar.get("width")) for bar in svg.iter("rect")]
    assert widths == pytest.approx([widths[2] / 40, widths[2] / 10, widths[2]], abs=0.1), "the slowest first"
    texts = [text.text for text in svg.iter("text")]
    assert texts == ["<naive>", "5 GFLOP/s, 0.25 x", "reference", "20 GFLOP/s, 1 x", "fast", "200 GFLOP/s, 10 x"]


def test_an_op_that_is_not_measured_says_how_to_measure_it():
    from parts.ladder import ladder

    assert ladder(["new_op", "other"]).endswith("\n\n    python -m tinynet bench ops new_op other")


def test_pages_of_operations_have_their_cases_and_users(source):
    text = (source / "operations/conv2d.md").read_text(encoding="utf-8")
    cases = registry.op_part("conv2d", "cases").cases(np.random.default_rng(0))
    section = text.partition("## The cases")[2].partition("\n## ")[0]
    assert section.strip().startswith(f"{len(cases)} cases: ")
    rows = [line for line in section.splitlines() if line.startswith("| conv2d |")]
    assert [row.split(" | ")[1] for row in rows] == [case.label for case in cases]
    assert "2x9x21x16, 3x3x16x16, 16" in section
    users = text.partition("## Where it is used")[2].partition("\n## ")[0]
    assert "../course/conv-04.md" in users and "../scripts/convnets/convolution_by_hand.rst" in users


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
def test_sphinx_builds_the_site_without_a_warning(built_site):
    assert (built_site / "operations/conv2d.html").exists() and (built_site / "convolution.html").exists()
    scripts, examples = built_site.parent / "source/scripts", find_examples(examples_folder())
    gallery = (built_site / "scripts/index.html").read_text(encoding="utf-8")
    places = [gallery.index(f'href="{example.name}.html"') for example in examples]
    assert places == sorted(places)
    for example in examples:
        assert (built_site / f"scripts/{example.name}.html").exists()
        assert (scripts / f"{example.name}.ipynb").exists()
        assert list(scripts.glob(f"*/images/sphx_glr_{example.name.split('/')[1]}_001.*")), f"{example.name}: no figure"


@pytest.mark.slow
def test_the_glossary_and_the_first_hour_are_on_the_site(built_site):
    page = (built_site / "glossary.html").read_text(encoding="utf-8")
    terms = re.findall(r"^- \*\*(.+?)\*\*: ", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for term in terms for name in term.split(", ")]
    assert len(names) == page.count('id="term-'), "each name of a term has an anchor"
    assert len(list((built_site / "_downloads").glob("*/first_*.ipynb"))) == 3
