"""`python -m tinynet run NAME ...`: run a script of examples/ by its name, in any folder, with flags of its own.

    python -m tinynet run unet_nuclei predict --images my_folder --out found
    python -m tinynet run lenet_mnist --help

An installed package has no folder examples/ that a user sees; the scripts are in it, and this command finds them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .bench.examples import load_example
from .cli import docstring
from .examples import choose, examples_folder, find_examples, program_name


def main(argv: Sequence[str] | None = None) -> Any:
    """Run the script and return what its `main` returns; without a name, say how. Raises ValueError for others."""
    name, *arguments = argv or ["--help"]
    if name in ("-h", "--help"):
        print(docstring(sys.modules[__name__]))
        print("\n`python -m tinynet examples` lists the scripts.")
        return None
    path = choose(find_examples(examples_folder()), name).path
    with program_name(f"examples/{path}"):
        return load_example(path).main(arguments)
