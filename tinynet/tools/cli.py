"""Command lines made from dataclasses: every field is a flag.

    @dataclass
    class Config(TrainingOptions):
        epochs: int = option(40, "passes over the training images", quick=2)
        lr: float = option(1e-3, "learning rate")
        loss: str = option("dice", "what is minimized", choices=("dice", "bce"))
        augment: bool = option(True, "distort images while training")

    @command_line(Config)
    def main(config):
        ...
        return metrics

    if __name__ == "__main__":
        run(main)

gives `--epochs 40 --lr 0.001 --loss dice --augment/--no-augment` beside the flags shared by all examples. From
Python, `main(["--epochs", "3"])` raises an exception for each error; `run(main)` prints it as one sentence and exits.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import functools
import inspect
import io
import os
import re
import sys
import textwrap
import time
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..backends.registry import TIERS, backend, use_backend
from ..backends.threads import use_threads
from ..errors import BackendError, TrainingError, UsageError
from ..training.distributed import World, world
from ..training.interruption import command, typed_words
from .bands import Band, print_metrics
from .bands import mean_over_seeds as mean_over_seeds  # scripts import it from here

if TYPE_CHECKING:
    from ..nn.module import Module

Config = TypeVar("Config")
BACKENDS = tuple(TIERS)


def option(
    default: Any = MISSING, help: str = "", *, quick: Any = MISSING, positional: bool = False, **argparse_options: Any
) -> Any:
    """A dataclass field that is a flag of the command line.

    default: the value without the flag. Without a default, or with required=True, the flag is required.
    help: one line. quick: replaces the default under `--quick`.
    positional: an argument without `--name`; with nargs="*" it may be left out.
    argparse_options: passed on to `ArgumentParser.add_argument`, e.g. choices=("dice", "bce") or nargs="+".
    """
    metadata = {"help": help, "quick": quick, "positional": positional, "argparse": argparse_options}
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


@dataclass
class ExampleOptions:
    """The flags that all examples share. To change a default, a script declares the field again."""

    quick: bool = option(False, "a run of a few seconds, which shows that everything works")
    seed: int = option(0, "seed of everything random: splits, initial weights, the order of the data, dropout")
    out: str = option("out", "folder for checkpoints, metrics and images")
    threads: int | None = option(None, "threads of the kernels on the CPU (default: one for each core)")

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed is {self.seed}; it must lie in 0 .. 2**32 - 1")

    def at_least(self, minimum: int, *names: str) -> None:
        """Raise ValueError, which names the flag, if one of these settings is below the minimum. None passes."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; at least {minimum} is needed")


@dataclass
class SeedOptions(ExampleOptions):
    """The flags of scripts that report the mean over several seeds (see `mean_over_seeds`)."""

    seeds: int = option(3, "runs, with seeds from --seed on; their mean is compared with the expected metrics", quick=1)


@dataclass
class NetOptions(SeedOptions):
    """The flags of scripts whose net trains long enough that another backend than the CPU's is useful."""

    backend: str = option("cpu", "which implementation of the kernels runs", choices=BACKENDS)


@dataclass
class TrainingOptions(ExampleOptions):
    """The flags of scripts that train a net with a `Trainer`."""

    backend: str = option("cpu", "which implementation of the kernels runs", choices=BACKENDS)
    data: str | None = option(None, "where the data lie (default: TINYNET_DATA, then the cache)")
    epochs: int = option(10, "passes over the training data, those before a --resume included", quick=1)
    resume: bool = option(False, "go on with the run in --out")
    accumulate: int = option(1, "passes that compute a batch, each a part of it: more need less memory")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "epochs", "accumulate")


def parse(
    config: type[Config], argv: Sequence[str] | None = None, prog: str | None = None, description: str | None = None
) -> Config:
    """Read a command line into an instance of the dataclass `config`.

    argv: the arguments without the program's name; by default the arguments of this process. prog, description: for
    --help. Raises UsageError for an unknown flag, a missing flag and an invalid value, and if `__post_init__` of the
    dataclass raises ValueError.
    """
    parser = _Parser(prog=prog, description=description)
    _add_flags(parser, config)
    arguments, unknown = parser.parse_known_args(argv)
    parser.refuse(unknown)
    return _build(config, vars(arguments), parser)


def command_line(config: type[Config]) -> Callable[[Callable[[Config], Any]], Callable[..., Any]]:
    """Decorate `main(config)`: `main(argv)` then reads the flags of the dataclass `config` and calls it with them.

    `main()` without arguments reads the command line of this process, --help shows the docstring of the script, and
    the function runs in the backend that --backend names. Raises UsageError as `parse` does.
    """

    def decorate(function: Callable[[Config], Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def main(argv: Sequence[str] | None = None) -> Any:
            settings = parse(config, argv, description=docstring(sys.modules[function.__module__]))
            with use_backend(getattr(settings, "backend", backend())):
                return _call(function, settings)

        return main

    return decorate


def docstring(thing: Any) -> str:
    """The docstring of a module or function. `python -OO` keeps none in memory, then it is read from the source."""
    if thing.__doc__:
        return inspect.cleandoc(thing.__doc__)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):  # typed into a shell, for example
        return ""
    return ast.get_docstring(tree if inspect.ismodule(thing) else tree.body[0]) or ""


def run_commands(
    commands: Mapping[str, tuple[type, Callable[[Any], Any]]],
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    description: str | None = None,
) -> Any:
    """Read a command line that starts with the name of a command, and return what its function returns.

    commands: {"train": (TrainConfig, train), ...}: `train(config)` is called with an instance of TrainConfig; the
    first line of its docstring is the help of the command. Raises UsageError as `parse` does.
    """
    parser = _Parser(prog=prog, description=description)
    choices = parser.add_subparsers(dest="command", required=True, metavar="{" + ",".join(commands) + "}")
    parsers = {}
    for name, (config, function) in commands.items():
        summary = docstring(function).partition("\n")[0].replace("%", "%%")
        parsers[name] = choices.add_parser(name, help=summary, description=summary)
        _add_flags(parsers[name], config)
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] not in commands and not words[0].startswith("-"):
        similar = difflib.get_close_matches(words[0], commands, n=1)
        question = f"; did you mean {similar[0]}?" if similar else ""
        parser.error(f"there is no command {words[0]!r}; the commands are: {', '.join(commands)}{question}")
    known, unknown = parser.parse_known_args(words)
    arguments = vars(known)
    name = arguments.pop("command")
    parsers[name].refuse(unknown)  # by the parser of the command: its --help lists the flags
    config, function = commands[name]
    return _call(function, _build(config, arguments, parsers[name]))


def run(main: Callable[[], Any]) -> None:
    """Call `main()` as a program. An error that the user can correct is printed as one sentence; the exit code is 2.

    After a run without an error it returns, so that a script can be a cell of a notebook.

    These errors are ValueError (settings, data), OSError (files, checkpoints), TrainingError, MemoryError and
    BackendError (no GPU, no compiler, a kernel that does not compile). Any other exception is a mistake in the program
    and keeps its traceback. With TINYNET_TRACEBACK=1 in the environment all errors do. Ctrl-C exits with 130. If
    `main` returns metrics with a number of files that were "skipped", the exit code is 1.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name in another encoding must not end a run
    try:
        result = main()
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except (ValueError, OSError, TrainingError, BackendError, MemoryError) as error:
        if os.environ.get("TINYNET_TRACEBACK"):
            raise
        message = f"error: {_sentence(error)}"
        if type(error) is ValueError:  # it may come from a kernel that a student is changing
            message += "\n(TINYNET_TRACEBACK=1 in the environment shows where it was raised)"
        _end(message, 2)
    if isinstance(result, dict) and result.get("skipped"):
        sys.exit(1)


def _end(message: str, code: int) -> NoReturn:
    """Print the message and end this process, and with it all ranks that mpiexec started."""
    try:
        ranks = world()
    except UsageError:  # the message says so already
        ranks = World()
    if ranks.size > 1:
        time.sleep(ranks.rank > 0)  # most errors happen on all ranks: then only rank 0 prints
        message = f"{ranks.name}: {message}"
    print(message, file=sys.stderr)
    ranks.abort(code)
    sys.exit(code)


def _call(function: Callable[[Any], Any], settings: Any) -> Any:
    """function(settings), with the number of threads that --threads gives."""
    if world().size > 1 and not isinstance(settings, TrainingOptions):
        raise UsageError("several processes were started, but only training divides its work: run this without mpiexec")
    with use_threads(getattr(settings, "threads", None)):
        return function(settings)


def print_settings(config: Any, model: Module | None = None, **facts: Any) -> None:
    """Print each setting of the dataclass `config`, the backend in use, `facts` (sizes of the data), the parameters."""
    lines = {**dataclasses.asdict(config), "backend": backend(), **facts}
    if model is not None:
        lines["parameters"] = f"{sum(p.size for p in model.parameters()):,}"
    width = max(len(name) for name in lines)
    for name, value in lines.items():
        print(f"{name.replace('_', ' '):{width}}  {value}")
    print(flush=True)


def report(
    config: ExampleOptions,
    metrics: dict[str, float],
    expected: Mapping[str, Band],
    figures: Mapping[str, Any],
    next_command: str,
) -> dict[str, float]:
    """End a script: write its figures to --out, print its metrics and the command to try next. Returns the metrics.

    expected: the band of each metric. figures: {"roc.png": a Matplotlib figure, ...}.
    """
    from ..training.figures import save_figure

    for name, figure in figures.items():
        save_figure(os.path.join(config.out, name), figure)
    print_metrics(metrics, expected, quick=config.quick)
    print("figures: " + ", ".join(f"{config.out}/{name}" for name in figures))
    print_next(next_command)
    return metrics


def print_next(command: str) -> None:
    """Print the command to try next. Where its script is not below the working directory, it is named, not found."""
    script = re.match(r"python (examples/\w+/(\w+)\.py)", command)
    if script and not os.path.exists(script[1]):
        command = command.replace(script[0], f"{tinynet_command()} run {script[2]}")
    print(f"next: {command}")


def tinynet_command() -> str:
    """How the user starts tinynet: "tinynet", the command that pip installs, or "python -m tinynet"."""
    word = typed_words()[0]
    return word if Path(word).stem == "tinynet" else "python -m tinynet"


def program() -> str:
    """The words that start this program, such as "python examples/basics/mlp.py" or "tinynet nuclei"."""
    return command("python", sys.argv[0]) if sys.argv[0].endswith(".py") else sys.argv[0]


# ---------------------------------------------------------------------------------------- how it is done
class _Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would end the process: `main(argv)` can be called from Python."""

    def __init__(self, **settings: Any) -> None:
        # An abbreviated flag may become ambiguous later; a description keeps its line breaks.
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def refuse(self, unknown: list[str]) -> None:
        """Raise UsageError for words that are no flags of this parser, with the flag that the first may stand for."""
        if unknown:
            word = unknown[0].partition("=")[0]
            similar = difflib.get_close_matches(word, self._option_string_actions, n=1, cutoff=0.8)
            question = f"; did you mean {similar[0]}?" if similar else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{question}")


def _add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    kinds = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        settings = dict(field.metadata.get("argparse", {}))
        kind = _plain(kinds[field.name])
        if kind is bool:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["type"] = kind
            settings.setdefault("metavar", None if "choices" in settings else kind.__name__.upper())
        if field.metadata.get("positional"):
            name = field.name
        else:
            name = f"--{field.name.replace('_', '-')}"
            settings.setdefault("required", field.default is MISSING)
        # A flag that is not on the command line leaves no attribute: --quick replaces defaults only.
        action = parser.add_argument(name, default=argparse.SUPPRESS, **settings)
        action.help = _help(field).replace("%", "%%")  # here: some versions of Python append to it


def _plain(kind: Any) -> type:
    """The type of one value: int for `int | None`, str for `tuple[str, ...]`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType, tuple, list):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _help(field: dataclasses.Field) -> str:
    text, quick = field.metadata.get("help", ""), field.metadata.get("quick", MISSING)
    defaults = []
    if field.default is not MISSING and field.default not in (None, "", ()) and field.default is not False:
        defaults.append(f"default: {_shown(field.default)}")
    if quick is not MISSING:
        defaults.append(f"with --quick: {_shown(quick)}")
    return f"{text} ({', '.join(defaults)})" if defaults else text


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _build(config: type[Config], arguments: dict[str, Any], parser: argparse.ArgumentParser) -> Config:
    """The dataclass from the flags on the command line, and with `--quick` the quick values of all others."""
    values = {}
    if arguments.get("quick"):
        for field in dataclasses.fields(config):
            if field.metadata.get("quick", MISSING) is not MISSING:
                values[field.name] = field.metadata["quick"]
    for name, value in arguments.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    try:
        return config(**values)
    except ValueError as error:
        parser.error(str(error))


def _sentence(error: BaseException) -> str:
    """The message of an error; for an error of the operating system the file and the reason."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory"
    return str(error)
