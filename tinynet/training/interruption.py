"""Ctrl-C during training, and the command that resumes the run."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C sets the event instead of raising KeyboardInterrupt; the second raises it."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield interrupted
        return

    def first_time(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupted.set()
        # os.write and not print: the signal may arrive in the middle of a print.
        os.write(2, b"\nfinishing this batch, then saving; Ctrl-C again stops at once\n")

    previous = signal.signal(signal.SIGINT, first_time)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def typed_words() -> list[str]:
    """The command line of this process as the user would type it again.

    For the command `tinynet`, which pip installs, the operating system starts Python with the path of a script.
    """
    python, *words = sys.orig_argv
    if words and Path(words[0]).stem == "tinynet":
        return ["tinynet" if shutil.which("tinynet") else words[0], *words[1:]]
    return [python, *words]


def resume_command() -> str:
    """The command line of this process as the user typed it, with --resume."""
    words = typed_words()
    if "--resume" not in words:
        words.append("--resume")
    return command(*words)


def command(*words: str) -> str:
    """A command line to type into a shell: words with blanks or brackets, such as paths, are quoted."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
