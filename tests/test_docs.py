"""The Python of README.md runs, and the examples of docs/coming_from.md print what the page shows."""

import doctest
import re

from processes import ROOT


def blocks(file: str, language: str) -> list[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_readme(capsys):
    names: dict = {}
    for block in blocks("README.md", "python")[:2]:  # the third one needs a C++ compiler
        exec(block, names)
    assert "multiply-adds" in capsys.readouterr().out and "x64" in names


def test_coming_from():
    examples = "\n".join(blocks("docs/coming_from.md", "pycon"))
    assert examples.count(">>>") > 30
    test = doctest.DocTestParser().get_doctest(examples, {}, "coming_from.md", None, 0)
    printed: list[str] = []
    result = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=printed.append)
    assert result.failed == 0, "".join(printed)
