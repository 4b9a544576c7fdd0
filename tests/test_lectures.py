"""The lectures: each row of the table in examples/README.md has its section in docs/lectures."""

import json
import re
import sys

import pytest
from processes import ROOT

sys.path.insert(0, str(ROOT / "docs/book"))

from parts.table import lectures_of_table, slug

import tinynet as tn
from tinynet.tools.examples import find_examples


@pytest.fixture(params=lectures_of_table(), ids=lambda lecture: str(lecture.number))
def lecture(request):
    return request.param


@pytest.fixture(scope="module")
def figures():
    """Script -> its measured figures."""
    measured = json.loads((ROOT / "examples/figures.json").read_text(encoding="utf-8"))
    return {f"examples/{e.path}": set(measured[e.name]["figures"]) for e in find_examples(ROOT / "examples")}


def test_headings_are_the_rows_of_the_table(lecture):
    text = (ROOT / lecture.file).read_text(encoding="utf-8")
    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == [lecture.title, *(row.idea for row in lecture.rows)]
    assert all(row.text.target == f"{lecture.file}#{slug(row.idea)}" for row in lecture.rows)


def test_a_section_has_a_formula_and_some_sentences(lecture):
    for row in lecture.rows:
        text = lecture.sections[row.idea]
        assert len(re.findall(r"^\$\$$", text, re.MULTILINE)) == 2, row.idea
        assert len(text.split()) > 80, row.idea


def test_figures_are_named_and_not_typed(lecture, figures):
    """The site shows the values beside the names that a text gives, so a text that is older than them has none."""
    for row in lecture.rows:
        text = re.sub(r"\$[^$]*\$", "", lecture.sections[row.idea].replace("$$", "$"))
        known = set().union(*(figures.get(link.file, set()) for link in row.scripts))
        for name in re.findall(r"`(\w+)`", text):
            assert name in known or hasattr(tn, name), f"{row.idea}: {name}"
        assert set(re.findall(r"(?<![\w.])0?\.\d+", text)) <= {"0.5", "0.8"}, row.idea
