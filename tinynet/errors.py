"""The exceptions that tell a user what went wrong. A message says what was given, what was needed and what to do."""


class BackendError(RuntimeError):
    """A backend cannot run: something is not installed, or a kernel is wrong."""


class CheckpointError(OSError):
    """A checkpoint could not be saved, read or used; the message says which file and why."""


class DataError(ValueError):
    """A data file is not what it must be; the message names the file and what was needed."""


class TrainingError(RuntimeError):
    """Training cannot go on: a loss, gradient or weight is not finite, the loss has diverged, or memory is full."""


class UsageError(ValueError):
    """The command line makes no sense; the message says which flag, and what it needs."""


def how_to_install(extra: str) -> str:
    """The command that installs an extra. It names a folder: on PyPI another project has the name tinynet."""
    return f'`pip install -e ".[{extra}]"` in the folder of tinynet\'s setup.py'
