"""Damaged files of every kind that a reader takes: each is read right, or refused by a sentence that names it."""

import json
import os
import subprocess
import sys

import pytest
from processes import ROOT

pytest.importorskip("resource", reason="needs limits on memory")
for package in ("wfdb", "nibabel"):
    pytest.importorskip(package, reason=f"{package} is in the extra 'examples'")


@pytest.mark.parametrize("count", [6, pytest.param(340, marks=pytest.mark.slow)])
def test_damaged_files_are_read_right_or_refused_by_name(tmp_path, count):
    """In a process of its own, with at most 1 GB for what a file asks for, and 20 s for each file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    program = [sys.executable, ROOT / "tests" / "fuzzing.py", tmp_path, str(count)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    *wrong, summary = done.stdout.splitlines()
    assert not wrong, "\n".join(wrong)
    outcomes = json.loads(summary)
    assert len(outcomes) == 24 and all(sum(found.values()) == count for found in outcomes.values())
    assert all(found["sentence"] > count // 8 for found in outcomes.values()), "hardly any damage was noticed"
