"""The Python of README.md runs, and the examples of docs/coming_from.md print what the page shows."""

import doctest
import re
from pathlib import Path

import pytest
from op_folders import missing
from processes import ROOT

from tinynet.backends.registry import implementation_kernel
from tinynet.tools.examples import examples_folder, find_examples


def blocks(file: str, language: str) -> list[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_readme(capsys):
    names: dict = {}
    for block in blocks("README.md", "python")[:2]:  # the third one needs a C++ compiler
        exec(block, names)
    assert "multiply-adds" in capsys.readouterr().out and "x64" in names


@pytest.mark.skipif(bool(missing("cuda-sim")), reason=missing("cuda-sim") or "")
def test_readme_in_the_emulator(capsys):
    names: dict = {}
    for block in blocks("README.md", "python"):
        exec(block, names)


def test_register_block(capsys):
    exec(blocks("docs/register_block.md", "python")[0], {})
    assert re.fullmatch(
        r"(\(\d+, 2\) \d+ multiply-adds, \d+ vectors to or from the stack\n){3}", capsys.readouterr().out
    )


def test_exercises():
    """The call runs; what it answers to a solution of the package itself is tested with the exercises."""
    names = {"my_backward_input": implementation_kernel("conv2d", "backward_input", "reference")}
    exec(blocks("docs/exercises.md", "python")[0].replace("check(", "result = check(", 1), names)
    assert str(names["result"]).startswith("conv-05: ")


def test_coming_from():
    examples = "\n".join(blocks("docs/coming_from.md", "pycon"))
    assert examples.count(">>>") > 30
    test = doctest.DocTestParser().get_doctest(examples, {}, "coming_from.md", None, 0)
    printed: list[str] = []
    result = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=printed.append)
    assert result.failed == 0, "".join(printed)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "examples/README.md", "docs/*.md", "tinynet/ops/*/*.md"]
)
def test_links_between_files_lead_somewhere(page):
    for file in ROOT.glob(page):
        text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        links = {link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link}
        missing_files = [link for link in links if not (file.parent / link).exists()]
        assert not missing_files, f"{file.relative_to(ROOT)}: {missing_files}"


def test_the_lectures_lead_to_every_script_and_exercise():
    lectures = (ROOT / "examples/README.md").read_text(encoding="utf-8").partition("## Lecture by lecture")[2]
    links = {Path(link).name for link in re.findall(r"\]\(([^)]+)\)", lectures)}
    course = (ROOT / "tinynet/learn/exercises/course").glob("[a-z]*_[0-9]*.py")
    pages = [*(Path(example.path) for example in find_examples(examples_folder())), *course]
    assert {page.name for page in pages} <= links, "the table in examples/README.md lacks some"
