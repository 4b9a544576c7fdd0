"""The commands in documents and docstrings: each must exist, with its flags. None of them runs here."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import re
import shlex
from pathlib import Path
from typing import Any
from unittest import mock

from processes import ROOT

import tinynet.__main__
from tinynet.backends.registry import ops
from tinynet.learn.exercises.course import COURSE
from tinynet.tools import cli
from tinynet.tools.bench.examples import load_example
from tinynet.tools.examples import choose, examples_folder, find_examples

PYTHON = re.compile(r"^(\.venv[/\\](bin|Scripts)[/\\])?python3?$")


def words_of(text: str) -> list[list[str]]:
    """The words of each command of a block; lines that end with a backslash go on, comments are left out."""
    commands = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = shlex.split(line.replace("\\", "/"), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # a variable of the environment
            words.pop(0)
        if words:
            commands.append(["python" if PYTHON.match(word) else word for word in words])
    return commands


def check_command(words: list[str], folder: Path) -> None:
    """Raise AssertionError or UsageError if the command does not exist. folder: where a reader's own files lie."""
    match words:
        case ["python", "-m", "tinynet", *arguments] | ["tinynet", *arguments]:
            check_arguments(tinynet.__main__.main, arguments)
        case ["python", "-m", "venv" | "pytest" | "pip" | "notebook" as module, *arguments]:
            check_tool(module, arguments)
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module), f"there is no module {module}"
        case ["pip" | "make" | "pytest" as module, *arguments]:
            check_tool(module, arguments)
        case ["python", script, *arguments]:
            check_script(script, arguments, folder)
        case ["compute-sanitizer" | "mpiexec", *rest] if "python" in rest:
            check_command(rest[rest.index("python") :], folder)
        case ["cd", _] | ["git", "clone" | "checkout", *_]:
            pass
        case _:
            raise AssertionError(f"{shlex.join(words)}: an unknown kind of command")


def check_tool(tool: str, arguments: list[str]) -> None:
    """`make`: the target exists. `pip`: so do the extras. `pytest`: so do the files."""
    if tool == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(arguments) <= set(targets), f"make {arguments}: the targets are {targets}"
    if tool == "pip":
        extras = re.findall(r'^    "([a-z0-9]+)": \[', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
        for named in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
            assert set(named.split(",")) <= set(extras), f"[{named}]: the extras are {extras}"
    if tool == "pytest":
        for file in [argument.partition("::")[0] for argument in arguments if argument.startswith("tests/")]:
            assert (ROOT / file).exists(), f"{file} is missing"


def check_script(script: str, arguments: list[str], folder: Path) -> None:
    """A script of examples/ reads its arguments; of others, and of a reader's own, the flags stand in the text."""
    if script.startswith("examples/"):
        path = script.removeprefix("examples/")
        assert (ROOT / script).exists(), f"{script} is missing"
        check_arguments(load_example(path).main, arguments)
        return
    file = next((place / script for place in (folder, ROOT) if (place / script).exists()), None)
    assert file is not None, f"{script} is missing"
    text = file.read_text(encoding="utf-8")
    for flag in [argument for argument in arguments if argument.startswith("--")]:
        assert f'"{flag}"' in text, f"{script} has no flag {flag}"


class Read(BaseException):
    """The arguments were read: they are right. No `except Exception` stops it."""


def check_arguments(main: Any, arguments: list[str]) -> None:
    """Let `main` read its arguments, and nothing more. Raises UsageError for wrong ones."""
    build = cli._build

    def build_and_stop(config: type, values: dict, parser: Any) -> None:
        settings = build(config, values, parser)
        check_names(settings)
        raise Read

    with mock.patch.object(cli, "_build", build_and_stop), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(arguments)
        except Read:
            pass
        except SystemExit as end:  # --help
            assert not end.code, f"{arguments}: {end.code}"


def check_names(settings: Any) -> None:
    """Operations, exercises and examples that are named must exist."""
    values = {key: value for key, value in dataclasses.asdict(settings).items() if value}
    for key, known in (("id", (*COURSE, "all")), ("only", COURSE), ("op", ops()), ("ops", ops())):
        given = values.get(key, ())
        assert ({given} if isinstance(given, str) else set(given)) <= set(known), f"{given}: it must be one of {known}"
    for name in values.get("names", ()):
        choose(find_examples(examples_folder()), name)
