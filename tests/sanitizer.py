"""The small cases of the CUDA kernels on a GPU, to be watched by compute-sanitizer, which comes with the CUDA toolkit:

    compute-sanitizer --tool memcheck --error-exitcode 1 python tests/sanitizer.py
    compute-sanitizer --tool racecheck --error-exitcode 1 python tests/sanitizer.py conv2d

With the name of an op, or a part of it, only those.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tinynet.backends.cuda.detect import require_gpu
from tinynet.tools.cli import run

CASES = f"{Path(__file__).with_name('test_ops.py')}::test_kernel_agrees_with_the_reference"


def main() -> None:
    """Run the cases; the exit code is pytest's. Raises GpuMissing."""
    require_gpu()
    import cupy

    # In the pool, what lies behind an array is the program's own memory too, and a kernel that goes beyond the end is
    # not noticed. So each array gets memory of its own.
    cupy.cuda.set_allocator(None)
    names = " and ".join(["cuda and not sim", *sys.argv[1:]])
    sys.exit(pytest.main([CASES, "-k", names, "-x", "-q"]))


if __name__ == "__main__":
    run(main)
