"""The summary of a run: one HTML page that needs nothing but itself."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterator
from typing import Any

from ...files import atomic_path


def write_summary(path: str | os.PathLike, records: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Write the page. records: a function that gives the records of all images, one after the other."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", errors="replace") as file:
        file.write("<!doctype html><title>Nuclei</title><ul>")
        for record in records():
            file.write(f"<li>{html.escape(record['name'])}: {record['nuclei']}</li>")
        file.write("</ul>")
