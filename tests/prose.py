"""The blocks of code in the documents: what is in them, and what must be true of each.

The language behind the three backticks decides:

    python   is executed; the blocks of a document share their names, in order
    pycon    is executed by doctest, with the same names
    sh       each command exists: its script, its flags, its `make` target, its extra (prose_commands.py)
    text     stands in the output of the block before it
    c        stands in a file
    math     is typeset, not executed; so is an indented block, which is a formula or a drawing

Where this is not enough, an HTML comment directly before the block, which a reader does not see, says more:

    <!-- file: NAME -->           the block is this file of the reader, in the folder where the commands run
    <!-- lines: 3-4 of NAME -->   the block replaces these lines of a file of the reader
    <!-- quoted: FILE -->         the block stands in this file of the repository
    <!-- output: COMMAND -->      the block stands in what this command prints
    <!-- numbers: vary -->        its numbers are those of one machine
    <!-- needs: cuda-sim slow --> it needs a tier of kernels, or more than a second
    <!-- python CODE -->          CODE is executed

In a block that is compared, `...` stands for any text, and a line `...` for any lines, or none. Numbers such as 5e-12
are rounding errors, which vary.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from processes import ROOT
from prose_commands import check_command, words_of

DOCUMENTS = ("*.md", "examples/*.md", "docs/**/*.md", "tinynet/**/*.md")
COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
NOTE = re.compile(r"(file|lines|quoted|output|numbers|needs): *(.+)")


def documents() -> list[Path]:
    """All Markdown files that people read."""
    return sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))


def tokens(text: str) -> list[Token]:
    """The document as markdown-it reads it: CommonMark with tables, and formulas between dollars."""
    return MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, double_inline=True).parse(text)


@dataclass
class Block:
    """One block of code. language: "" for an indented one; notes: the comments before it, e.g. {"file": "x.py"}."""

    document: Path
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(sorted(self.notes.get("needs", "").split()))


def blocks(document: Path, text: str | None = None, first: int = 1) -> Iterator[Block]:
    """The blocks of a document, in order; those inside of Sphinx's directives, too."""
    notes: dict[str, str] = {}
    for token in tokens(document.read_text(encoding="utf-8") if text is None else text):
        line = first + token.map[0] if token.map else first
        if token.type == "html_block" and (comment := COMMENT.fullmatch(token.content.strip())):
            if comment[1].startswith("python\n"):
                yield Block(document, line, "python", comment[1].removeprefix("python\n"))
            else:
                notes.update(NOTE.findall(comment[1]))
        elif token.type == "fence" and token.info.startswith("{"):
            yield from blocks(document, token.content, line + 1)
        elif token.type in ("fence", "code_block"):
            language = token.info.strip() or "no language" if token.type == "fence" else ""
            yield Block(document, line, language, token.content, notes)
            notes = {}
        elif token.type.endswith("_open"):  # a comment belongs to the block that follows it directly
            notes = {}


def stands_in(shown: str, whole: str, numbers_vary: bool = False) -> bool:
    """True if the lines `shown` stand in `whole`, in this order and without others between; ends of lines aside."""

    def plain(text: str) -> str:
        lines = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
        return re.sub(r"-?\d[\d.]*" if numbers_vary else r"-?\d+(\.\d+)?e-\d+", "#", lines)

    line = re.escape("\n...\n")
    pattern = re.escape(plain(shown)).replace(line, r"\n(?:[\s\S]*\n)?")
    return re.search(pattern.replace(r"\.\.\.", r"[\s\S]*?"), plain(whole)) is not None


class Reader:
    """Someone who goes through a document in a folder, and does what its blocks say.

    able: what the reader has of "slow", "cuda" and "cuda-sim". A block that needs something else is passed over.
    """

    def __init__(self, document: Path, folder: Path, able: tuple[str, ...] = ()) -> None:
        self.document, self.folder, self.able = document, folder, able
        self.names: dict = {"__name__": "document"}
        self.printed: str | None = ""  # by the last block that was executed; None: it was passed over
        self.command: list[str] = []  # the last one of a block of commands, which runs if a block shows its output

    def read(self) -> None:
        """Go through the document. Raises AssertionError, which names the line, if something in it is not true."""
        for block in blocks(self.document):
            try:
                self.follow(block)
            except Exception as error:
                raise AssertionError(f"{block}: {type(error).__name__}: {error}") from error

    def follow(self, block: Block) -> None:
        if "file" in block.notes:
            (self.folder / block.notes["file"]).write_text(block.text, encoding="utf-8")
        elif "lines" in block.notes:
            self.replace_lines(block)
        elif "quoted" in block.notes:
            whole = (ROOT / block.notes["quoted"]).read_text(encoding="utf-8")
            assert stands_in(block.text, whole), f"this does not stand in {block.notes['quoted']}"
        elif block.language in ("python", "pycon"):
            able = set(block.needs) <= set(self.able)
            run = self.execute if block.language == "python" else self.doctest
            self.command, self.printed = [], run(block) if able else None
        elif block.language == "sh":
            for words in words_of(block.text):
                check_command(words, self.folder)
                self.command = words
        elif block.language == "text":
            self.compare(block)
        elif block.language == "":
            first = block.text.split()[0]
            assert first not in ("python", "pip", "make"), "commands stand between ```sh and ```"
        else:
            assert block.language == "math", f"{block.language}: such a block must be `quoted:` or a `file:`"

    def replace_lines(self, block: Block) -> None:
        first, last, name = re.fullmatch(r"(\d+)-(\d+) of (\S+)", block.notes["lines"]).groups()
        lines = (self.folder / name).read_text(encoding="utf-8").splitlines(keepends=True)
        lines[int(first) - 1 : int(last)] = block.text.splitlines(keepends=True)
        (self.folder / name).write_text("".join(lines), encoding="utf-8")

    def execute(self, block: Block) -> str:
        code = "\n" * block.line + block.text  # a traceback shows the line of the document
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, str(block.document), "exec", dont_inherit=True), self.names)
        return printed.getvalue()

    def doctest(self, block: Block) -> str:
        test = doctest.DocTestParser().get_doctest(block.text, self.names, "the example", None, 0)
        printed: list[str] = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
        assert runner.run(test, out=printed.append, clear_globs=False).failed == 0, "".join(printed)
        self.names.update(test.globs)
        return ""

    def compare(self, block: Block) -> None:
        """The block stands in what was printed, or is printed now by a command."""
        command = words_of(block.notes["output"])[0] if "output" in block.notes else self.command
        if not set(block.needs) <= set(self.able):
            return
        if command:
            check_command(command, self.folder)
            self.printed = self.run(command)
        if self.printed is not None:
            assert stands_in(block.text, self.printed, "numbers" in block.notes), f"printed was:\n{self.printed}"

    def run(self, words: list[str]) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
        if words[0] == "tinynet":
            words = ["python", "-m", *words]
        command = [sys.executable if word == "python" else word for word in words]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, encoding="utf-8")
        return done.stdout + done.stderr
