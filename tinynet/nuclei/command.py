"""`tinynet nuclei train|predict|evaluate`: the commands of examples/segmentation/unet_nuclei.py, in any folder.

The script is the thing to read: the net, the loss, training, evaluation. This module runs its `main`. `tinynet nuclei
serve`, the same in the browser, is not in the script: see `serve/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tools.bench.examples import load_example
from ..tools.cli import tinynet_command
from ..tools.examples import program_name

SCRIPT = "segmentation/unet_nuclei.py"


def main(argv: Sequence[str] | None = None) -> Any:
    """Run a command of the script and return its metrics. Raises as the script does; without a command, shows them."""
    if argv and argv[0] == "serve":
        from .serve import command

        return command.main(argv[1:])
    if not argv or argv[0] in ("-h", "--help"):
        print("serve: find, correct and export nuclei in the browser (serve --help says more). The others:\n")
    with program_name(f"{tinynet_command()} nuclei"):
        return load_example(SCRIPT).main(argv or ["--help"])
