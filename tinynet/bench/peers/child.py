"""What the process of one contestant does for `bench unet`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from ..machine import peak_memory
from . import PEERS


def start(name: str, mode: str, batch: str, size: str, threads: str) -> tuple[dict[str, Any], Callable]:
    """Build a peer's contestant; asked for a number of steps, it does them and says how long each took."""
    begin = time.perf_counter()
    module = importlib.import_module(f"{__package__}.{PEERS[name].module}")
    contestant = module.contestant(mode, int(batch), int(size), int(threads), **PEERS[name].options)
    ready = {
        "parameters": contestant.parameters,
        "versions": contestant.versions,
        "seconds": time.perf_counter() - begin,
    }

    def respond(count: int) -> dict[str, Any]:
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            value = contestant.step()
            times.append(1000 * (time.perf_counter() - begin))
        return {"ms": times, "value": value, "peak_mb": peak_memory()}

    return ready, respond
