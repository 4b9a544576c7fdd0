"""`python -m tinynet.nuclei.serve`."""

from ...tools.cli import run
from .command import main

run(main)
