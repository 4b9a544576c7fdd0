"""The pages to touch."""

from __future__ import annotations

import re

from .pages import ROOT, Site


def touch(site: Site) -> None:
    """A list of the pages to touch."""
    items = []
    for path in sorted((ROOT / "docs/pages").glob("*.html")):
        title = re.search(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"))
        items.append(f'- <a href="{path.name}">{title[1] if title else path.stem}</a>')
        site.page_of[f"docs/pages/{path.name}"] = "touch"
    about = "Each page is one file, which works without a network. Its values are compared with tinynet's by a test."
    site.add("touch", f"# Pages to touch\n\n{about}\n\n" + "\n".join(items))
