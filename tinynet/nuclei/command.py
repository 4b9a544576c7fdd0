"""`tinynet nuclei predict|evaluate|train|serve`, in any folder.

The first three are the commands of examples/segmentation/unet_nuclei.py. The script is the thing to read: the net, the
loss, training, evaluation. `serve`, the same in the browser, is in `serve/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tools.bench.examples import load_example
from ..tools.cli import run_commands, tinynet_command
from ..tools.examples import program_name
from .serve.command import ServeConfig, serve

SCRIPT = "segmentation/unet_nuclei.py"
HELP = """Find the nuclei in microscope images, measure them, correct them, and train on them.

    {name} predict my_folder                         # label images, outlines, measurements
    {name} evaluate --data my_labels --split all     # how good: the net beside your own outlines
    {name} train --data my_labels --weights shipped  # let the net learn from your outlines
    {name} serve                                     # all of it in the browser

my_folder holds images. my_labels holds images/ and labels/ with the same file names; in a label image 0 is background,
and each nucleus has a number of its own. docs/nuclei.md says more.
"""


def main(argv: Sequence[str] | None = None) -> Any:
    """Run a command and return its metrics. Raises as the script does. Without a command, print the help."""
    name = f"{tinynet_command()} nuclei"
    script = load_example(SCRIPT)
    commands = {command: script.COMMANDS[command] for command in ("predict", "evaluate", "train")}
    commands["serve"] = (ServeConfig, serve)
    with program_name(name):
        return run_commands(commands, argv or ["--help"], name, HELP.format(name=name))
