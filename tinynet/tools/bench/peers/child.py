"""What the process of one contestant does for `bench unet` and `bench nets`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from . import PEERS, Contestant


def start(
    name: str, mode: str, batch: str, size: str, threads: str, backend: str = "cpu"
) -> tuple[dict[str, Any], Callable]:
    """Build a peer's contestant; asked for a number of steps, it does them and says how long each took."""
    module = importlib.import_module(f"{__package__}.{PEERS[name].module}")
    options = {**PEERS[name].options, **({"backend": backend} if backend != "cpu" else {})}
    return serving(lambda: module.contestant(mode, int(batch), int(size), int(threads), **options))


def serving(make: Callable[[], Contestant]) -> tuple[dict[str, Any], Callable]:
    """What to say of the contestant that make() builds, and the function that does its steps."""
    begin = time.perf_counter()
    contestant = make()
    ready = {
        "parameters": contestant.parameters,
        "versions": contestant.versions,
        "seconds": time.perf_counter() - begin,
    }

    def respond(count: int) -> dict[str, Any]:
        times = []
        for _ in range(count):
            value, milliseconds = contestant.timed(contestant.step)
            times.append(milliseconds)
        return {"ms": times, "value": value, "peak_mb": contestant.peak_mb()}

    return ready, respond
