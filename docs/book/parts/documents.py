"""The documents, as they are."""

from __future__ import annotations

from .pages import ROOT, Site


def documents(site: Site) -> None:
    """The documents, as they are."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        site.add(path.stem, path.read_text(encoding="utf-8"), f"docs/{path.name}")
    site.add("start", (ROOT / "README.md").read_text(encoding="utf-8"), "README.md")
    site.add("contributing", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "CONTRIBUTING.md")
