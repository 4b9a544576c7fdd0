"""Settings that hold inside a `with` block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TypeVar

Value = TypeVar("Value")


@contextlib.contextmanager
def set_inside(variable: ContextVar[Value], value: Value) -> Iterator[None]:
    """Inside `with`, the variable has this value; after it, the variable has its old value, also after an error."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
