"""The process of one contestant: `python -m tinynet.bench.peers NAME MODE BATCH SIZE THREADS`, run by `bench unet`."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from ..machine import peak_memory
from ..processes import serve
from . import PEERS


def main(name: str, mode: str, batch: str, size: str, threads: str) -> None:
    def start() -> tuple[dict[str, Any], Callable[[Any], dict[str, Any]]]:
        begin = time.perf_counter()
        module = importlib.import_module(f"{__package__}.{PEERS[name].module}")
        contestant = module.contestant(mode, int(batch), int(size), int(threads), **PEERS[name].options)

        def respond(count: int) -> dict[str, Any]:
            """So many steps: milliseconds of each, the value of the last, and the most memory used so far."""
            times = []
            for _ in range(count):
                begin = time.perf_counter()
                value = contestant.step()
                times.append(1000 * (time.perf_counter() - begin))
            return {"ms": times, "value": value, "peak_mb": peak_memory()}

        ready = {
            "parameters": contestant.parameters,
            "versions": contestant.versions,
            "seconds": time.perf_counter() - begin,
        }
        return ready, respond

    serve(start)


if __name__ == "__main__":
    main(*sys.argv[1:])
