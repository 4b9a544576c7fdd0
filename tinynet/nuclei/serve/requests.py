"""What the page sends, checked: everything else is refused with a sentence."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

import bottle
import numpy as np

from .edit import Patch, delete, draw, merge, split

MAX_UPLOAD = 256 * 2**20  # bytes of one image file
MAX_JSON = 2**20
MAX_POINTS = 20_000  # of a line that is drawn
MAX_NAME = 120  # characters


class BadRequest(ValueError):
    """A request that the page does not send; the message says what was needed."""


def read_bytes(request: bottle.BaseRequest) -> bytes:
    """The bytes of an uploaded file. Raises HTTPError 411 or 413 before anything is read if it is too large."""
    return _read_body(request, MAX_UPLOAD)


def read_json(request: bottle.BaseRequest) -> dict[str, Any]:
    """The JSON object in the body of a request."""
    if request.content_type.partition(";")[0].strip() != "application/json":
        raise BadRequest("the body must be application/json")
    try:
        value = json.loads(_read_body(request, MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise BadRequest(f"the body is a JSON {type(value).__name__}; an object is needed")
    return value


def _read_body(request: bottle.BaseRequest, limit: int) -> bytes:
    length = request.content_length
    if length < 0:
        raise bottle.HTTPError(411, "the length of the body must be given")
    if length > limit:
        raise bottle.HTTPError(413, f"{length:,} bytes are too many; at most {limit:,} are accepted")
    return request.environ["wsgi.input"].read(length)


def display_name(name: str) -> str:
    """The name of an uploaded file as the page shows it: without folders and control characters, not too long."""
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C").strip()
    if len(shown) > MAX_NAME:
        shown = shown[: MAX_NAME - 20] + "..." + shown[-15:]
    return shown or "image"


def channel_of(text: str) -> int | str | None:
    """A channel as a person writes it: a number from 1, or a name; None for an empty text."""
    text = text.strip()[:MAX_NAME]
    return (int(text) if text.isdecimal() else text) or None


def number(fields: dict, name: str, low: float, high: float) -> float:
    """A finite number in [low, high]."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadRequest(f"{name} is {str(value)[:40]!r}; need a number from {low:g} to {high:g}")
    return value


def optional_number(fields: dict, name: str, low: float, high: float) -> float | None:
    return None if fields.get(name) is None else float(number(fields, name, low, high))


def whole_number(fields: dict, name: str, high: int = 2**31 - 1) -> int:
    """A whole number from 1 to `high`."""
    value = number(fields, name, 1, high)
    if value != int(value):
        raise BadRequest(f"{name} is {value}; need a whole number")
    return int(value)


def flag(fields: dict, name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} is {str(value)[:40]!r}; need true or false")
    return value


def texts(fields: dict, name: str) -> list[str]:
    """A list of texts, without repetitions."""
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BadRequest(f"{name} is {str(value)[:40]!r}; need a list of texts")
    return list(dict.fromkeys(value))


def points(fields: dict, at_least: int) -> np.ndarray:
    """`points` as float64 (N, 2): x and y of each point, near the image at most."""
    value = fields.get("points")
    if not isinstance(value, list) or not at_least <= len(value) <= MAX_POINTS:
        raise BadRequest(f"points: need a list of {at_least} to {MAX_POINTS} pairs of numbers")
    for point in value:
        if not (isinstance(point, list) and len(point) == 2 and all(map(_is_coordinate, point))):
            raise BadRequest(f"points: {str(point)[:40]!r} is not a pair of numbers")
    return np.array(value, dtype=np.float64)


def _is_coordinate(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and abs(value) <= 1e6


def patch_of(fields: dict, labels: np.ndarray) -> Patch:
    """The patch for an edit that the page asks for.

    Raises EditError if it makes no sense in this label image, BadRequest if the page cannot have sent it.
    """
    operation = fields.get("operation")
    if operation == "delete":
        return delete(labels, whole_number(fields, "nucleus"))
    if operation == "merge":
        return merge(labels, whole_number(fields, "nucleus"), whole_number(fields, "other"))
    if operation == "split":
        return split(labels, _clipped(points(fields, 2), labels.shape))
    if operation == "draw":
        return draw(labels, _clipped(points(fields, 3), labels.shape))
    raise BadRequest(f"there is no operation {str(operation)[:40]!r}; need delete, merge, split or draw")


def _clipped(line: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Points outside of the image moved to its edge, so that a line has no more pixels than it needs."""
    return np.clip(line, -1, [shape[1] + 1, shape[0] + 1])
