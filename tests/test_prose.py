"""Every block of code in every document is executed, or compared with what it quotes; every command in them exists."""

from __future__ import annotations

import ast
import re

import pytest
from op_folders import missing
from processes import ROOT
from prose import Reader, blocks, documents, stands_in
from prose_commands import check_command, words_of

from tinynet.backends.cuda.nvrtc import NvrtcMissing, load
from tinynet.learn.exercises.course import COURSE
from tinynet.tools.examples import examples_folder, find_examples


def lacking(need: str) -> str | None:
    """What this machine lacks for a block, as a sentence; None where it lacks nothing."""
    if need == "nvrtc":
        try:
            load()
        except NvrtcMissing as error:
            return str(error)
        return None
    return None if need == "slow" else missing(need)


def readings():
    """A test for each document, and for each further thing that blocks of it need."""
    for document in documents():
        name = document.relative_to(ROOT).as_posix()
        for needs in sorted({()} | {block.needs for block in blocks(document)}):
            reasons = [reason for reason in map(lacking, needs) if reason]
            marks = [pytest.mark.slow] * ("slow" in needs) + [pytest.mark.skip(reason=reason) for reason in reasons]
            yield pytest.param(document, needs, marks=marks, id="-".join([name, *needs]))


@pytest.mark.parametrize(("document", "needs"), list(readings()))
def test_what_a_document_says_is_true(document, needs, tmp_path, monkeypatch):
    other, here = tmp_path / "other_checkout/tinynet/__init__.py", tmp_path / "here"
    for folder in (other.parent, here):
        folder.mkdir(parents=True)
    other.touch()
    monkeypatch.chdir(here)
    Reader(document, here, needs).read()


@pytest.mark.slow
def test_commands_in_docstrings_exist(tmp_path):
    """Lines of a docstring that are indented and begin as a command does."""
    files = [*ROOT.glob("examples/**/*.py"), *ROOT.glob("tinynet/**/*.py"), ROOT / "docs/book/build.py"]
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        for text in filter(None, (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))):
            for command in re.findall(r"^ {4,}((?:python|make|pip) .*)$", text, re.MULTILINE):
                try:
                    check_command(words_of(command)[0], tmp_path)
                except Exception as error:
                    raise AssertionError(f"{file.relative_to(ROOT)}: {command}: {error}") from error


def test_counts_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    measured = (ROOT / "docs/exercises_measured.md").read_text(encoding="utf-8")
    planted, _, named = re.search(r"\*\*all\*\* \| (\d+) \| (\d+) \| (\d+)", measured).groups()
    assert f"{len(COURSE)} of them" in text and f"Of {planted} planted mistakes" in text and planted == named
    assert f"{len(find_examples(examples_folder()))} scripts in [examples/]" in text


# ---------------------------------------------------------------------------------------- the reader notices mistakes
WRONG = {
    "an error": ("```python\n1 / 0\n```", "ZeroDivisionError"),
    "a wrong doctest": ("```pycon\n>>> 1 + 1\n3\n```", "Expected"),
    "another output": ("```python\nprint(1)\n```\n\n```text\n2\n```", "printed was"),
    "an output of nothing": ("```text\n2\n```", "printed was"),
    "an unknown flag": ("```sh\npython -m tinynet bench unet --sizes 3\n```", "unrecognized"),
    "an unknown script": ("```sh\npython examples/basics/no_such.py\n```", "missing"),
    "an unknown flag of a script": ("```sh\npython examples/basics/mlp.py --no-such\n```", "unrecognized"),
    "an unknown op": ("```sh\npython -m tinynet op conv5d\n```", "no op"),
    "an unknown exercise": ("```sh\npython -m tinynet exercises start conv-99\n```", "one of"),
    "an unknown target": ("```sh\nmake tea\n```", "targets"),
    "an unknown extra": ('```sh\npip install -e ".[tea]"\n```', "extras"),
    "an unknown command": ("```sh\nrm -r .\n```", "unknown kind"),
    "an unknown language": ("```fortran\nend\n```", "fortran"),
    "no language": ("```\nmake test\n```", "no language"),
    "hidden commands": ("Text\n\n    python examples/basics/mlp.py\n", "sh"),
    "no quotation": ("<!-- quoted: README.md -->\n```c\nint x;\n```", "README.md"),
    "in a directive": ("```{note}\nText\n\n~~~python\n1 / 0\n~~~\n```", "ZeroDivisionError"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_noticed(mistake, tmp_path, monkeypatch):
    text, message = WRONG[mistake]
    document = tmp_path / "wrong.md"
    document.write_text(f"# Title\n\n{text}\n", encoding="utf-8")
    monkeypatch.setattr("prose.ROOT", tmp_path)
    (tmp_path / "README.md").write_text("")
    with pytest.raises(AssertionError, match=rf"(?s)wrong\.md:[3-9].*{message}"):
        Reader(document, tmp_path).read()


def test_what_a_reader_follows(tmp_path, monkeypatch):
    document = tmp_path / "right.md"
    document.write_text(
        "<!-- file: two.py -->\n```python\nprint(1)\nprint(1e-12)\nprint(3)\n```\n\n"
        "<!-- lines: 1-1 of two.py -->\n```python\nprint(2)\n```\n\n"
        "<!-- output: python two.py -->\n```text\n2\n9e-15\n```\n\n"
        "```sh\npython two.py   # a comment\n```\n\n```text\n2\n...\n3\n```\n\n"
        "<!-- needs: cuda -->\n```python\n1 / 0\n```\n\n```text\nnot printed\n```\n\n    y = f(x)\n"
    )
    monkeypatch.setattr("prose.ROOT", tmp_path)
    Reader(document, tmp_path).read()
    assert stands_in("1\n...\n2", "1\n2") and stands_in("1\n...\n2", "1\n3\n2") and not stands_in("1\n...\n2", "2\n1")
    assert not stands_in("2\n3", "2\n9\n3") and stands_in("1.5 x", "2.7 x", numbers_vary=True)
