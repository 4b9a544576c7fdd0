"""The examples of docs/coming_from.md print what the page shows."""

import doctest
import re

from processes import ROOT


def test_examples():
    text = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    examples = "\n".join(re.findall(r"```pycon\n(.*?)```", text, re.DOTALL))
    assert examples.count(">>>") > 30
    test = doctest.DocTestParser().get_doctest(examples, {}, "coming_from.md", None, 0)
    printed: list[str] = []
    result = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=printed.append)
    assert result.failed == 0, "".join(printed)
