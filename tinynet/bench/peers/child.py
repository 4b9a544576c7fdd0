"""What the process of one contestant does for `bench unet`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from . import PEERS


def start(
    name: str, mode: str, batch: str, size: str, threads: str, backend: str = "cpu"
) -> tuple[dict[str, Any], Callable]:
    """Build a peer's contestant; asked for a number of steps, it does them and says how long each took."""
    begin = time.perf_counter()
    module = importlib.import_module(f"{__package__}.{PEERS[name].module}")
    options = {**PEERS[name].options, **({"backend": backend} if backend != "cpu" else {})}
    contestant = module.contestant(mode, int(batch), int(size), int(threads), **options)
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
