"""A page for each lecture."""

from __future__ import annotations

import re

from .pages import ROOT, Site


def lectures(site: Site) -> None:
    """One page for each part of the table "lecture by lecture" in examples/README.md."""
    _, _, table = (ROOT / "examples/README.md").read_text(encoding="utf-8").partition("\n## Lecture by lecture")
    for part in table.split("\n### ")[1:]:
        number = re.match(r"Lecture (\d+)", part)
        if number:
            body = part.partition("\n## ")[0]
            site.add(f"lectures/{number[1]}", f"# {body}", f"examples/lecture {number[1]}")
