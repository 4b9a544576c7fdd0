"""Running the scripts of examples/ in tests."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tinynet.data import data_path
from tinynet.tools.bench.examples import load_example


def run_quickly(path: str, tmp_path: Path, *arguments: str) -> dict[str, float]:
    """The figures of a quick run; its picture was written, or another one where its data file is missing."""
    script = load_example(path)
    figures = script.main(["--quick", "--out", str(tmp_path), *arguments])
    has_files = all(data_path(name) is not None for name in getattr(script, "FILES", ()))
    picture = tmp_path / script.PICTURE if has_files else next(tmp_path.glob("*.png"))
    assert min(Image.open(picture).size) > 200
    return figures
