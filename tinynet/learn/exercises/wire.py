"""Values between a check and the process that runs a learner's code: numbers, text, arrays. Never a pickle.

A message is one line of JSON. Whoever reads it trusts nothing in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

LARGEST = 2**24  # bytes of a message; the arrays of a check have some hundred elements
NUMBERS = "biuf"  # kinds of dtypes that are sent
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError)

Tag = Callable[[Any], "tuple[str, Any] | None"]  # (a name, a value to send) for a value of a kind of its own
Makers = Mapping[str, Callable[[Any], Any]]  # how such a value is made again, by that name


class Foreign:
    """A value that cannot be sent. Its type has the name of the original type; repr() is the original's."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def packed(value: Any, tag: Tag = lambda value: None) -> bytes:
    """The message. Raises ValueError if it is too large."""

    def plain(v: Any) -> Any:
        tagged = tag(v)
        if tagged is not None:
            return {tagged[0]: plain(tagged[1])}
        if v is None or type(v) in (bool, int, float, str):
            return v
        if isinstance(v, (list, tuple)):
            return {"tuple" if isinstance(v, tuple) else "list": [plain(x) for x in v]}
        if isinstance(v, dict):
            return {"dict": [[plain(k), plain(x)] for k, x in v.items()]}
        if isinstance(v, (np.ndarray, np.generic)) and v.dtype.kind in NUMBERS:
            if v.size > LARGEST // 16:
                raise ValueError(f"an array of shape {v.shape} is too large; the arrays of this check are small")
            a = np.array(v, subok=False)
            a = a.astype(float) if a.dtype.kind == "f" and a.itemsize > 8 else a
            return {"array" if isinstance(v, np.ndarray) else "number": [a.dtype.str, a.shape, a.ravel().tolist()]}
        return {"other": [type(v).__name__, repr(v)[:200]]}

    line = json.dumps(plain(value)).encode() + b"\n"
    if len(line) > LARGEST:
        raise ValueError(f"the result is too large ({len(line):,} bytes); the arrays of this check are small")
    return line


def unpacked(line: bytes, makers: Makers | None = None) -> Any:
    """The value of a message. Raises one of MALFORMED for anything malformed."""

    def value(tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        ((kind, content),) = tree.items()
        if kind in ("array", "number"):
            dtype, shape, elements = content
            if np.dtype(str(dtype)).kind not in NUMBERS:
                raise ValueError(f"an array of {dtype}")
            array = np.array(elements, str(dtype)).reshape(shape)
            return array if kind == "array" else array[()]
        if kind == "other":
            return type(str(content[0]), (Foreign,), {})(str(content[1]))
        if kind == "dict":
            return {value(k): value(v) for k, v in content}
        if kind in ("list", "tuple"):
            return [*map(value, content)] if kind == "list" else tuple(map(value, content))
        return (makers or {})[kind](value(content))

    return value(json.loads(line))
