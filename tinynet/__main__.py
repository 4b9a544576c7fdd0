"""`tinynet`, or `python -m tinynet`: the commands of the package. The scripts of examples/ run by name: `run NAME`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from . import __version__
from .errors import UsageError
from .tools.cli import run, tinynet_command

# Name -> the module whose `main(argv)` runs it, and what it does.
COMMANDS = {
    "nuclei": ("tinynet.nuclei.command", "find the nuclei in your images, measure them, train on your own"),
    "gradcheck": ("tinynet.learn.gradcheck.command", "whether every kernel is right: derivatives, tiers, adjoints"),
    "op": (
        "tinynet.learn.watch.command",
        "what is in the folder of an operation, and whether your change of it is right",
    ),
    "bench": ("tinynet.tools.bench.main", "how fast tinynet is, beside other frameworks and what the machine can do"),
    "exercises": (
        "tinynet.learn.exercises.commands",
        "write pieces of a framework yourself, and be told what is wrong with them",
    ),
    "examples": ("tinynet.tools.examples", "run the lecture models, and compare their figures with what is expected"),
    "run": ("tinynet.tools.scripts", "run a script of examples/ by its name, with flags of its own"),
    "cusim": ("tinynet.tools.cusim_report", "how well the accesses of a CUDA kernel fit together, line by line"),
    "page": ("tinynet.tools.page.command", "write a web page that shows a U-Net from inside: your weights, your image"),
    "cuda": ("tinynet.tools.cuda_command", "whether kernels can run on a GPU here, and what each takes of one"),
}


def main(argv: Sequence[str] | None = None) -> Any:
    """Run the command that `argv` starts with; without one, list them. Raises UsageError for an unknown one."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: {tinynet_command()} COMMAND ...   (COMMAND --help says more)\n")
        print("\n".join(f"  {command:12} {summary}" for command, (_, summary) in COMMANDS.items()))
        return None
    if name == "--version":
        print(f"tinynet {__version__}")
        return None
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}; the commands are: {', '.join(COMMANDS)}")
    return importlib.import_module(COMMANDS[name][0]).main(arguments)


def program() -> None:
    """The command `tinynet`, which pip installs."""
    run(main)


if __name__ == "__main__":
    program()
