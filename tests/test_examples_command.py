"""`python -m tinynet examples`: the headers of scripts, running them, the table."""

import json
import sys
from textwrap import dedent

import numpy as np
import pytest
from PIL import Image
from processes import ROOT

from tinynet.tools import examples as command
from tinynet.tools import scripts
from tinynet.tools.bands import format_band, format_figure, in_band, mean_over_seeds, print_metrics
from tinynet.tools.bench import examples
from tinynet.tools.cli import print_next
from tinynet.tools.examples import END, START, choose, find_examples, main, read_header

LEARNS = '''
    """A script."""
    import sys
    from pathlib import Path
    import numpy as np
    from tinynet.viz import save_png

    TOPIC = "Learning"
    DATA = "none"
    EXPECTED = {"accuracy": (0.9, None), "count": (60965224, 60965224)}
    PICTURE = "a.png"
    ARGUMENTS = ("train", "--seeds", "3")

    def main(argv):
        assert argv[:3] == ["train", "--seeds", "3"] and argv[-2] == "--out"
        assert sys.argv[0] == "examples/basics/learns.py"
        save_png(Path(argv[-1]) / "a.png", np.zeros((1500, 2000, 3), np.uint8))
        return {"accuracy": 0.1 if "--quick" in argv else 0.95, "count": 60965224, "other": 1.0}
'''
FALLS_SHORT = '''
    """A script."""
    TOPIC, IGNORED = "not read: not a plain assignment", 1
    TOPIC = "Falling short"
    DATA = "none"
    EXPECTED = {"loss": (None, 0.5), "missing": (0, 1)}
    PICTURE = "never.png"

    def main(argv):
        return {"loss": 0.75}
'''
BREAKS = '''
    """A script."""
    TOPIC = "Breaking"
    DATA = "none"
    EXPECTED = {}

    def main(argv):
        raise ValueError("no such thing\\nand more")
'''
NEEDS_DATA = '''
    """A script."""
    TOPIC = "Data"
    DATA = "a file"
    FILES = ("mnist/none.gz",)
    EXPECTED = {"n": (1, None)}

    def main(argv):
        return {"n": 0}
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of examples for these tests."""
    folder = tmp_path / "checkout" / "examples"
    for path, text in {
        "basics/learns.py": LEARNS,
        "convnets/short.py": FALLS_SHORT,
        "sequences/breaks.py": BREAKS,
        "unsupervised/data.py": NEEDS_DATA,
        "sequences/helper.py": "X = 1\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(dedent(text))
    (folder / "README.md").write_text(f"# Above\n\n{START}\n\nold\n\n{END}\n\nbelow\n")
    for module in (command, examples):
        monkeypatch.setattr(module, "FOLDERS", (folder,))
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("example_"):
            del sys.modules[name]


def test_list_names_scripts_in_the_order_of_the_lectures(folder, capsys):
    assert main([]) == {}
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["basics/learns", "convnets/short", "unsupervised/data", "sequences/breaks"]


def test_run_hands_a_script_its_own_flags(folder, tmp_path, capsys):
    arguments = ["train", "--seeds", "3", "--quick", "--out", str(tmp_path / "o")]
    assert scripts.main(["learns", *arguments])["accuracy"] == 0.1
    with pytest.raises(ValueError, match="no example 'unknown'"):
        scripts.main(["unknown"])
    assert scripts.main([]) is None and "run unet_nuclei" in capsys.readouterr().out


def test_an_installed_package_is_not_written_to(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "PACKAGE", folder.parent)
    before = (folder / "README.md").read_text()
    command.write_table(folder, {"basics/learns": command.Outcome({"accuracy": 0.95})}, tmp_path)
    assert (folder / "README.md").read_text() == before and "no table" in capsys.readouterr().out


def test_the_next_command_fits_where_it_is_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    print_next("python examples/basics/mlp.py --quick")
    monkeypatch.chdir(tmp_path)
    print_next("python examples/basics/mlp.py --quick")
    print_next("python -m tinynet bench unet")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "next: python examples/basics/mlp.py --quick"
    assert second == "next: python -m tinynet run mlp --quick" and third == "next: python -m tinynet bench unet"


def test_a_script_runs_as_from_the_command_line(folder, tmp_path, capsys):
    before = list(sys.argv)
    assert main(["learns", "--out", str(tmp_path / "o")])["basics/learns"]["accuracy"] == 0.95
    assert "as expected" in capsys.readouterr().out and sys.argv == before
    assert "old" in (folder / "README.md").read_text(), "the table is written when asked for"
    assert main(["basics/learns", "--quick", "--out", str(tmp_path / "q")])["basics/learns"]["accuracy"] == 0.1


def test_all_scripts_get_their_turn_whatever_happens(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--all", "--out", str(tmp_path / "o")])
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    for sentence in (
        "convnets/short: loss is 0.75, expected <= 0.5",
        "convnets/short: main() returned no missing",
        "convnets/short: no picture never.png was written",
        "sequences/breaks: failed: ValueError: no such thing\n",
        "unsupervised/data: not run: mnist/none.gz not found",
    ):
        assert sentence in printed
    text = (folder / "README.md").read_text()
    assert text.startswith("# Above\n") and text.endswith(f"{END}\n\nbelow\n") and "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 4
    assert rows[2].startswith(
        "| Learning | [basics/learns.py](basics/learns.py) | none | accuracy >= 0.9<br>count 60,965,224 "
        "| accuracy 0.95<br>count 60,965,224 | 0.0 | "
        '<img src="../docs/examples/learns.png" alt="Learning" width="240"> |'
    )
    picture = Image.open(folder.parent / "docs" / "examples" / "learns.png")
    assert picture.size == (1600, 1200)


def test_rows_of_what_did_not_run_stay(folder, tmp_path):
    for names in (["learns"], ["short"]):
        try:
            main([*names, "--table", "--out", str(tmp_path / "o")])
        except SystemExit:
            assert names == ["short"]
    text = (folder / "README.md").read_text()
    assert "accuracy 0.95" in text and "loss 0.75" in text
    assert set(json.loads((folder / "figures.json").read_text())) == {"basics/learns", "convnets/short"}


def test_ctrl_c_ends_them_all_and_what_is_done_is_kept(folder, tmp_path, monkeypatch):
    (folder / "convnets" / "short.py").write_text(
        dedent(BREAKS).replace('ValueError("no such thing\\nand more")', "SystemExit(130)")
    )
    with pytest.raises(SystemExit) as stopped:
        main(["--all", "--out", str(tmp_path / "o")])
    assert stopped.value.code == 130
    assert "accuracy 0.95" in (folder / "README.md").read_text()


def test_wrong_names_and_flags(folder):
    with pytest.raises(ValueError, match="there is no example 'lerns': basics/learns, convnets/short"):
        main(["lerns"])
    with pytest.raises(ValueError, match="either --all or names"):
        main(["learns", "--all"])
    with pytest.raises(ValueError, match="--table writes figures of full runs"):
        main(["learns", "--quick", "--table"])
    (folder / "convnets" / "learns.py").write_text(dedent(LEARNS))
    with pytest.raises(ValueError, match="more than one example 'learns': basics/learns, convnets/learns"):
        choose(find_examples(folder), "learns")


def test_the_scripts_are_a_tour_that_passes_each_once():
    scripts = {example.path: example for example in find_examples(command.examples_folder())}
    tour = ["basics/linear_regression.py"]
    while len(tour) <= len(scripts):
        program = scripts[tour[-1]].next.split()[1]
        if program == "-m":
            break
        tour.append(program.removeprefix("examples/"))
    assert sorted(tour) == sorted(scripts)
    assert scripts[tour[-1]].next == "python -m tinynet bench unet"


def test_headers_are_read_without_running_the_script(folder):
    (folder / "basics" / "a.py").write_text("TOPIC = 'a'\nDATA = 'b'\n1 / 0\n")
    with pytest.raises(ValueError, match=r"examples/basics/a.py: EXPECTED must be defined at its top level"):
        read_header(folder, "basics/a.py")
    (folder / "basics" / "a.py").write_text("TOPIC = 'a'\nDATA = 'b'\nEXPECTED = dict(x=(0, 1))\n")
    with pytest.raises(ValueError, match=r"examples/basics/a.py: EXPECTED must be a plain value"):
        read_header(folder, "basics/a.py")


def test_a_readme_without_its_marks_is_named(folder, tmp_path):
    (folder / "README.md").write_text("nothing\n")
    with pytest.raises(ValueError, match=r"README.md: the lines '<!-- table"):
        main(["learns", "--table", "--out", str(tmp_path / "o")])


def test_every_script_of_this_project_describes_itself():
    folder = command.examples_folder()
    described = find_examples(folder)
    assert len(described) >= 10
    names = [example.path.split("/")[1] for example in described]
    assert len(names) == len(set(names)), "pictures are named after scripts"
    for example in described:
        for figure, band in example.expected.items():
            assert len(band) == 2 and in_band(next(b for b in band if b is not None), band), (example.path, figure)
        assert not example.picture or example.picture.endswith(".png")
        assert isinstance(example.files, tuple) and isinstance(example.arguments, tuple)
        text = (folder / example.path).read_text()
        assert f"python examples/{example.path}" in text, f"{example.path}: its docstring says how to run it"


# ---------------------------------------------------------------------------------------- figures and bands
def test_bands():
    assert in_band(0.96, (0.96, None)) and not in_band(0.9599, (0.96, None))
    assert in_band(-5, (None, 0)) and not in_band(np.nan, (None, None)) and in_band(3, (3, 3))
    assert [format_band(b) for b in ((0.96, None), (None, 1e-6), (0.5, 0.7), (60965224, 60965224), (None, None))] == [
        ">= 0.96",
        "<= 1e-06",
        "0.5 to 0.7",
        "60,965,224",
        "",
    ]
    assert format_figure(0.123456) == "0.1235" and format_figure(3.0) == "3" and format_figure(np.nan) == "nan"


def test_metrics_beside_their_bands(capsys):
    expected = {"auc": (0.99, None), "loss": (None, 0.1)}
    print_metrics({"auc": 0.5, "loss": 0.01, "other": 2.0}, expected)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["auc", "0.5", ">=", "0.99", "<--", "outside"]
    assert lines[3].split() == ["loss", "0.01", "<=", "0.1"] and lines[4].split() == ["other", "2"]
    print_metrics({"auc": 0.5}, expected, quick=True)
    assert "outside" not in capsys.readouterr().out


def test_mean_over_seeds(capsys):
    assert mean_over_seeds(lambda seed: {"a": seed, "b": 2.0 * seed}, seed=4, seeds=3) == {"a": 5, "b": 10}
    assert capsys.readouterr().out.count("seed ") == 3
    with pytest.raises(ValueError, match="--seeds is 0; at least 1 is needed"):
        mean_over_seeds(lambda seed: {}, 0, 0)
