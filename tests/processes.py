"""Python in a process of its own, for what is decided when a program starts."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import tinynet as tn

ROOT = Path(tn.__file__).parents[1]

# Numba can be told of another x86 processor by its name; elsewhere LLVM does not know these names.
needs_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64", "amd64"),
    reason=f"names of x86 processors; this one is {platform.machine()}",
)


def python(code: str, **environment: str) -> str:
    """What a new process prints. It runs in the repository's root, with the settings of threads given here only."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout.strip()
