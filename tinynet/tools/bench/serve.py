"""The child's end of the pipe to `processes.Child`. It needs only the standard library.

The parent passes the text of this file to a new Python, so that the child may run with the tinynet of another checkout,
which has no such file.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import sys
import time
from types import ModuleType
from typing import Any


def peak_memory() -> float:
    """The most memory that this process has held, in MB; NaN on a system that does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if platform.system() == "Darwin" else 1e3)  # macOS counts bytes, Linux kB


def load(module: str) -> ModuleType:
    """The module of a name, or of a path that ends with `.py`."""
    if not module.endswith(".py"):
        return importlib.import_module(module)
    spec = importlib.util.spec_from_file_location("measured", module)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def serve(module: str, *arguments: str) -> None:
    """Answer the parent's requests, a line of JSON each, until it closes the pipe.

    module: has a function `start`, which gets the arguments as strings. It returns what to say when ready, and the
    function that answers a request. If one of the two raises an exception, its message is the last answer.
    """
    # Frameworks print what they like; only answers may go to the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(facts: dict[str, Any]) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    try:
        ready, respond = load(module).start(*arguments)
        answer(ready)
        for line in sys.stdin:
            cpu = time.process_time()
            facts = respond(json.loads(line))
            cpu = time.process_time() - cpu
            answer({"cpu_seconds": cpu, "peak_mb": peak_memory(), **facts})
    except ModuleNotFoundError as error:
        answer({"error": f'{error.name} is not installed (pip install -e ".[bench]")'})
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    serve(*sys.argv[1:])
