"""What the commands leave behind besides their tables."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from ...files import atomic_path


def write_json(path: str | os.PathLike, report: dict[str, Any]) -> None:
    """Write a report; what could not be measured (NaN, which JSON does not know) becomes null."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_known(report), indent=1) + "\n", encoding="utf-8")


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
