"""`python -m tinynet bench`: the commands of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cli import run_commands
from .against import AgainstConfig, against
from .distributed import DistributedConfig, distributed
from .nets import NetsConfig, nets
from .nuclei import NucleiConfig, nuclei
from .ops import OpsConfig, ops
from .profile import ProfileConfig, profile
from .unet import UnetConfig, unet

COMMANDS = {
    "unet": (UnetConfig, unet),
    "nets": (NetsConfig, nets),
    "nuclei": (NucleiConfig, nuclei),
    "distributed": (DistributedConfig, distributed),
    "ops": (OpsConfig, ops),
    "against": (AgainstConfig, against),
    "profile": (ProfileConfig, profile),
}


def main(argv: Sequence[str] | None = None) -> Any:
    """Run one of the commands and return what it found."""
    return run_commands(COMMANDS, argv, prog="python -m tinynet bench", description="How fast tinynet is.")
