"""What the process of one contestant does for `bench unet` and `bench nets`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from . import PEERS


def start(name: str, case: str, threads: str, backend: str) -> tuple[dict[str, Any], Callable]:
    """Build a peer's contestant; asked for a number of steps, it does them and says how long each took."""
    begin = time.perf_counter()
    module = importlib.import_module(f"{__package__}.{PEERS[name].module}")
    options = {**PEERS[name].options, **({"backend": backend} if backend != "cpu" else {})}
    contestant = module.contestant(case, int(threads), **options)
    ready = {
        "parameters": contestant.parameters,
        "versions": contestant.versions,
        "seconds": time.perf_counter() - begin,
    }

    def respond(count: int) -> dict[str, Any]:
        results = [contestant.timed(contestant.step) for _ in range(count)]
        memory = {"peak_mb": contestant.peak_mb()} if contestant.peak_mb else {}
        return {"ms": [ms for _, ms in results], "value": results[-1][0], **memory}

    return ready, respond
