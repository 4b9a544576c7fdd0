"""The worked example of docs/cuda.md does what the text says: its files are taken from there, run, and changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from op_folders import missing
from processes import ROOT

pytestmark = pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
TEXT = (ROOT / "docs" / "cuda.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the files of the text."""
    folder = tmp_path_factory.mktemp("first_kernel")
    for name, content in re.findall(r"File `([\w.]+)`.*?```\w+\n(.*?)```", TEXT, re.DOTALL):
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def shown_after(words: str) -> str:
    """The first block of the text behind some words."""
    return re.search(r"```\w+\n(.*?)```", TEXT[TEXT.index(words) :], re.DOTALL)[1]


def run(folder: Path, *arguments: str) -> tuple[str, str]:
    """What a program of the text writes: (stdout, stderr)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return result.stdout, result.stderr


def test_first_kernel(folder):
    _, error = run(folder, "my_elu.py")
    assert shown_after("`python my_elu.py` ends with") in error
    lines = (folder / "my_elu.cu").read_text().splitlines(keepends=True)
    lines[2] = shown_after("The third line of `my_elu.cu` becomes")
    (folder / "my_elu.cu").write_text("".join(lines))
    assert run(folder, "my_elu.py")[0] == shown_after("and `python my_elu.py` prints") == "within 1e-6: True\n"
    zero_dimensional = "import my_elu, numpy; print(my_elu.forward(numpy.array(-1.0)).shape)"
    assert run(folder, "-c", zero_dimensional)[0] == "()\n"
    assert run(folder, "train.py", "cuda-sim")[0] == shown_after("`python train.py cuda-sim` runs")


def test_race(folder):
    printed, error = run(folder, "row_sums.py")
    assert printed == shown_after("`python row_sums.py` prints")
    assert shown_after("with no barrier between:") in error
    loop = shown_after("moves from line 11 into the loop:")
    barrier, planted = loop.splitlines(keepends=True)[1], loop.replace("    __syncthreads();\n", "")
    code = (folder / "row_sums.cu").read_text()
    assert code.splitlines()[10].strip() == barrier.strip() and planted in code
    (folder / "row_sums.cu").write_text(code.replace(barrier[2:], "", 1).replace(planted, loop))
    *sums, last = run(folder, "row_sums.py")[0].splitlines(keepends=True)
    assert len({line[len("shuffled") :] for line in sums}) == 1 and len(sums) == 4
    assert last == shown_after("Now all three orders print the sums of NumPy")


def test_counted_accesses(folder):
    printed, error = run(folder, "transpose.py")
    assert printed.startswith(shown_after("`python transpose.py` prints")), printed + error
    assert "no conflict" in printed
    (folder / "transpose.cu").write_text((folder / "transpose.cu").read_text().replace("[32][32]", "[32][33]"))
    printed, _ = run(folder, "transpose.py")
    assert printed.count(" 1.00") == 6 and "32.00" not in printed
