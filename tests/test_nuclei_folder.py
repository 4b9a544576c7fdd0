"""`predict` over folders: going on after an interruption, other settings, broken files, full disks, what is printed."""

import csv
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tifffile import imread, imwrite

import tinynet as tn
from tinynet.errors import CheckpointError, DataError, UsageError
from tinynet.imaging.instances import connected_components
from tinynet.nuclei import Nuclei
from tinynet.nuclei import folder as folder_module
from tinynet.nuclei.folder import batches, described, predict_folder
from tinynet.nuclei.progress import Progress, files_of
from tinynet.nuclei.settings import PredictConfig
from tinynet.tools.cli import run
from tinynet.training.run_folder import RunFolder

NAMES = ["a", "b b", "c,ü", "d"]
TABLES = ("measurements.csv", "submission.csv", "summary.html")


def squares(count: int) -> np.ndarray:
    """A gray image (H, W) uint8 with so many bright squares."""
    image = np.full((30, 20 * count + 20), 9, np.uint8)
    for i in range(count):
        image[8:22, 20 * i + 3 : 20 * i + 17] = 200 + i
    return image


class Finder:
    """Stands for the net: bright pixels are nuclei. `images` counts them, `stop` says at which one it fails."""

    def __init__(self, stop: int | None = None, error: BaseException | None = None) -> None:
        self.images, self.stop, self.error = 0, stop, error

    def __call__(self, images, tiles):
        found = []
        for image in images:
            if self.images == self.stop:
                raise self.error
            self.images += 1
            found.append(Nuclei(connected_components(image[:, :, 0] > 100), 24.0, ""))
        return found


def write_images(folder):
    """The folder `cells` and the file of the weights."""
    (folder / "cells").mkdir()
    for count, name in enumerate(NAMES):
        Image.fromarray(squares(count)).save(folder / "cells" / f"{name}.png")
    (folder / "weights.npz").write_bytes(b"weights")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of the files that an undisturbed run writes."""
    folder = tmp_path_factory.mktemp("whole")
    write_images(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        predict()
    return contents(folder / "found")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with images and weights. Images do not share passes, so each is done before the next."""
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folder_module, "BATCH_IMAGES", 1)
    return tmp_path


def predict(find=None, paths=("cells",), **flags):
    config = PredictConfig(paths=paths, **{"out": "found", "submission": True, **flags})
    return predict_folder(config, Path("weights.npz"), find or Finder())


def contents(folder):
    """The bytes of all results, without the lock."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------------------------- a whole run
def test_all_results_of_a_folder(here, capsys):
    assert predict() == {"images": 4, "nuclei": 6, "skipped": 0}
    expected = {"labels": ".tif", "overlays": ".png", "rois": ".zip", "geojson": ".geojson", "results": ".json"}
    for kind, suffix in expected.items():
        assert {path.name for path in Path("found", kind).iterdir()} == {f"{name}{suffix}" for name in NAMES}
    assert imread("found/labels/d.tif").max() == 3
    assert [row["image"] for row in rows_of("found/measurements.csv")] == ["b b", *["c,ü"] * 2, *["d"] * 3]
    assert json.loads(Path("found/settings.json").read_text())["flips"] is True
    printed = capsys.readouterr().out
    assert "[4 of 4] d: 3 nuclei, diameter 16 pixels\n" in printed and "[1 of 4, " in printed
    assert "4 images, 6 nuclei, 0 skipped" in printed
    for name in ("summary.html", "measurements.csv", "labels", "rois", "geojson", "overlays", "submission.csv"):
        assert f"  {name} " in printed, "it says how to open each result"
    predict(out="other", submission=False)
    assert not Path("other/submission.csv").exists() and "submission" not in capsys.readouterr().out


def test_paths_are_arguments_or_a_flag_and_name_the_folder_of_the_results(here):
    parsed = tn.cli.parse(PredictConfig, ["cells/a.png", "cells/d.png", "--no-flips"])
    assert parsed.paths == ("cells/a.png", "cells/d.png") and parsed.out == "a_nuclei" and not parsed.flips
    assert tn.cli.parse(PredictConfig, ["--images", "cells"]).paths == ("cells",)
    assert PredictConfig(paths=(".",)).out == f"{here.name}_nuclei"
    Path("2026.11").mkdir()
    assert PredictConfig(paths=("2026.11",)).out == "2026.11_nuclei", "a point in a folder's name is no suffix"
    with pytest.raises(UsageError, match="no images are given"):
        tn.cli.parse(PredictConfig, [])
    for flag, needed in (
        ("--pixel-size", "a positive number"),
        ("--diameter", r"a number of pixels from 4\.8 to 200"),
        ("--min-area", "a number of pixels, 0 or more,"),
    ):
        for value in ("-1", "nan", "inf", *(["0"] if flag != "--min-area" else [])):
            with pytest.raises(UsageError, match=f"{flag} is .*; {needed} is needed"):
                tn.cli.parse(PredictConfig, ["cells", flag, value])
    assert tn.cli.parse(PredictConfig, ["cells", "--min-area", "0"]).min_area == 0


def test_the_pixel_size_of_the_file_and_of_the_flag(here, capsys):
    imwrite("own.tif", squares(1), resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    predict(paths=("own.tif",))
    assert "diameter 16 pixels (7.9 µm)" in capsys.readouterr().out
    predict(paths=("own.tif",), out="flag", pixel_size=0.25)
    assert "diameter 16 pixels (3.9 µm)" in capsys.readouterr().out
    areas = [float(rows_of(f"{out}/measurements.csv")[0]["area_um2"]) for out in ("found", "flag")]
    assert areas == [196 / 4, 196 / 16]


def test_several_images_share_a_pass(here, monkeypatch):
    sizes = []
    monkeypatch.setattr(folder_module, "BATCH_IMAGES", 3)
    find = Finder()
    predict(lambda images, tiles: sizes.append(len(images)) or find(images, tiles))
    assert sizes == [3, 1]
    large = type("Large", (), {"pixels": np.empty((750, 1000, 3), np.uint8)})
    assert [len(batch) for batch in batches(iter([large] * 5))] == [2, 2, 1]


# ---------------------------------------------------------------------------------------- going on
def fails_in(module, monkeypatch, error):
    """The third image fails where `module`, such as "rois.write_rois", writes its files."""
    path = f"tinynet.nuclei.outputs.results.{module}"
    write, calls = getattr(__import__("tinynet.nuclei.outputs.results", fromlist=["x"]), module), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise error
        return write(*arguments)

    monkeypatch.setattr(path, failing)


@pytest.mark.parametrize("where", ["find", "write_labels", "save_png", "write_rois", "write_geojson"])
def test_a_stopped_run_goes_on_to_the_results_of_an_undisturbed_one(where, whole, here, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        find = Finder(2, KeyboardInterrupt()) if where == "find" else Finder()
        if where != "find":
            fails_in(where, patched, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            predict(find)
    assert "stopped; 2 images are done. To go on:\n  " in capsys.readouterr().out
    assert not list(Path("found").rglob("*.part*"))
    find = Finder()
    assert predict(find) == {"images": 4, "nuclei": 6, "skipped": 0} and find.images == 2
    assert "4 images (2 of them were done before)" in capsys.readouterr().out
    assert contents("found") == whole
    assert predict(find)["images"] == 4 and find.images == 2, "a run that is complete does nothing"
    assert contents("found") == whole


def test_ctrl_c_ends_the_program_with_130_and_the_command_to_go_on(here, monkeypatch, capsys):
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "tinynet", "nuclei", "predict", "cells", "--force"])
    with pytest.raises(SystemExit) as end:
        run(lambda: predict(Finder(1, KeyboardInterrupt())))
    assert end.value.code == 130
    assert capsys.readouterr().out.endswith("To go on:\n  python -m tinynet nuclei predict cells\n")
    assert [row["ImageId"] for row in rows_of("found/submission.csv")] == ["a"], "tables of what is done"


def test_a_full_disk_stops_the_run_with_a_sentence_and_leaves_no_half_file(whole, here, monkeypatch, capsys):
    for error, reason in (
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "found/labels/x.tif"), "found/labels/x.tif: No space left"),
        (OSError("1080000 requested and 306928 written"), "306928 written; is the disk full"),
    ):
        with monkeypatch.context() as patched:
            fails_in("write_labels", patched, error)
            with pytest.raises(SystemExit) as end:
                run(lambda: predict(force=True))
        assert end.value.code == 2
        printed = capsys.readouterr().err
        assert reason in printed and "2 images are done. To go on, once this is put right: " in printed
        predict()
        assert contents("found") == whole


def test_more_images_in_the_folder_are_done_in_the_next_run(whole, here):
    predict(paths=("cells/a.png", "cells/d.png"))
    find = Finder()
    assert predict(find)["images"] == 4 and find.images == 2
    assert contents("found") == whole


def test_a_damaged_record_and_a_missing_file_are_made_again(whole, here, capsys):
    predict()
    Path("found/results/d.json").write_text('{"version"')
    Path("found/rois/c,ü.zip").unlink()
    Path("found/labels/.d.0123abcd.part.tif").write_text("of a run that was killed")
    capsys.readouterr()
    find = Finder()
    predict(find)
    assert find.images == 2 and contents("found") == whole
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: found/results/d.json: ") and warning.endswith("; its image is done again")


def test_a_damaged_record_of_an_image_that_is_not_there_any_more_is_named(here):
    predict()
    Path("cells/d.png").unlink()
    Path("found/results/d.json").write_text("{}")
    with pytest.raises(DataError, match=r"found/results/d\.json: .*; delete it and run again"):
        predict()


# ---------------------------------------------------------------------------------------- what is not overwritten
def test_other_settings_are_refused(whole, here):
    predict()
    for flags, message in (
        ({"diameter": 30.0}, "diameter was not given and is now 30"),
        ({"flips": False}, "flips was yes and is now no"),
        ({"exclude_border": True, "channel": "DAPI"}, "channel was not given and is now DAPI; exclude-border was no"),
        ({"pixel_size": 0.5}, "pixel-size was not given and is now 0.5"),
    ):
        with pytest.raises(UsageError, match=f"found holds results of other settings: .*{message}.*--force"):
            predict(**flags)
    assert contents("found") == whole


def test_another_name_of_the_same_channel_goes_on_and_another_channel_does_not(here):
    def write(name, channels):
        planes = np.stack([squares(1) + 10 * i for i in range(len(channels))])
        imwrite(f"stacks/{name}.ome.tif", planes, ome=True, metadata={"axes": "CYX", "Channel": {"Name": channels}})

    Path("stacks").mkdir()
    write("a", ["GFP", "DAPI"])
    flags = {"paths": ("stacks",), "submission": False}
    predict(channel="2", **flags)
    write("b", ["GFP", "DAPI"])
    find = Finder()
    for channel in ("DAPI", "dapi", "02", "DAPI"):
        assert predict(find, channel=channel, **flags)["images"] == 2 and find.images == 1
    for channel in ("1", "GFP", None, "no such"):
        with pytest.raises(UsageError, match=f"channel was 2|DAPI and is now {channel or 'not given'}"):
            predict(channel=channel, **flags)
    write("c", ["DAPI", "GFP"])
    with pytest.raises(UsageError, match="channel was DAPI and is now 2"):
        predict(channel="2", **flags)
    predict(channel="DAPI", **flags)
    Path("stacks").rename("moved")
    with pytest.raises(UsageError, match="channel was DAPI and is now dapi"):  # the earlier images cannot be asked
        predict(channel="dapi", paths=("moved",), submission=False)


def test_a_folder_of_results_is_no_folder_of_images(here):
    predict()
    for settings, source in ((None, r" It was made from cells\."), ("{}", ""), ("[", ""), ('{"paths": [1]}', "")):
        if settings:
            Path("found/settings.json").write_text(settings)
        message = f"^found is a folder of results of an earlier run, without images\\.{source} Name the images instead"
        with pytest.raises(UsageError, match=message):
            predict(paths=("cells", "found"), out="other")
    assert not Path("other").exists()
    Path("found/new.png").write_bytes(Path("cells/d.png").read_bytes())
    assert predict(paths=("found",), out="other")["images"] == 1, "someone's images beside results"


@pytest.mark.parametrize("path", ["found/overlays", "found/labels/", "found/overlays/a.png", "cells/../found/rois"])
def test_what_an_earlier_run_wrote_is_no_image(here, path):
    predict()
    with pytest.raises(
        UsageError, match=rf"^{Path(path)} belongs to .* earlier run\. It was made from cells\. Name the"
    ):
        predict(paths=(path,), out="other")
    assert not Path("other").exists()


def test_other_weights_and_another_version_are_refused(here, monkeypatch):
    predict()
    Path("weights.npz").write_bytes(b"others")
    with pytest.raises(UsageError, match=r"weights was weights.npz \(\w+\) and is now weights.npz \("):
        predict()
    Path("weights.npz").write_bytes(b"weights")
    monkeypatch.setattr("tinynet.nuclei.settings.__version__", "9.9")
    with pytest.raises(UsageError, match=r"tinynet was .* and is now 9\.9"):
        predict()


def test_results_without_readable_settings_are_refused(here):
    predict()
    for text in (b"", b"[1]", b"{", b"\xff"):
        Path("found/settings.json").write_bytes(text)
        with pytest.raises(UsageError, match=r"settings\.json is damaged .*--force"):
            predict()
    Path("found/settings.json").write_text('{"channel": [1, {}]}')
    with pytest.raises(UsageError, match=r"channel was \[1, \{\}\] and is now not given"):
        predict()
    Path("found/settings.json").unlink()
    with pytest.raises(UsageError, match=r"found holds measurements\.csv, but no settings\.json .*--force"):
        predict()
    assert predict(force=True)["images"] == 4


def test_force_deletes_results_of_the_earlier_run_and_nothing_else(here):
    predict()
    Path("found/labels/mine.tif").write_text("mine")
    Path("found/notes.txt").write_text("notes")
    predict(out="only_a", paths=("cells/a.png",), diameter=30.0)
    predict(paths=("cells/a.png",), diameter=30.0, force=True)
    after = contents("found")
    assert after.pop("labels/mine.tif") == b"mine" and after.pop("notes.txt") == b"notes"
    assert after == contents("only_a")


def test_force_deletes_nothing_before_there_is_a_new_result(here):
    predict()
    before = contents("found")
    with pytest.raises(DataError, match="cels: no such file"):
        predict(paths=("cels",), force=True)
    with pytest.raises(KeyboardInterrupt):
        predict(Finder(0, KeyboardInterrupt()), force=True)
    assert contents("found") == before


def test_a_file_that_has_changed_is_named_and_its_results_stay(here, capsys):
    predict()
    before = contents("found")
    Image.fromarray(squares(3) + 1).save("cells/d.png")
    assert predict()["skipped"] == 1
    assert "skipped: cells/d.png: found holds the results of another image of this name" in capsys.readouterr().err
    after = contents("found")
    assert b"found holds the results of another image" in after.pop("summary.html") and before.pop("summary.html")
    assert after == before


def test_a_second_run_into_the_folder_is_refused(here):
    with RunFolder(Path("found")).claimed(), pytest.raises(CheckpointError, match="in use by another run"):
        predict()
    assert predict()["images"] == 4


# ---------------------------------------------------------------------------------------- broken files
def test_broken_files_are_named_and_the_others_are_done(here, capsys):
    Path("cells/broken.png").write_bytes(Path("cells/d.png").read_bytes()[:60])
    imwrite("cells/nan.tif", np.full((20, 20), np.nan, np.float32))
    Path("cells/no image.jpg").write_text("text")
    for name in ("._a.png", "Thumbs.db", "notes.txt"):
        Path("cells", name).write_bytes(b"x")
    Path("cells/__MACOSX").mkdir()
    Path("cells/__MACOSX/._d.png").write_bytes(b"x")
    with pytest.raises(SystemExit) as end:
        run(lambda: predict(paths=("cells", "none.zip")))
    assert end.value.code == 1
    printed = capsys.readouterr()
    for name in ("broken.png", "nan.tif", "no image.jpg", "none.zip"):
        assert sum(name in line for line in printed.err.splitlines() if line.startswith("skipped: ")) == 1
    assert "4 images, 6 nuclei, 4 skipped" in printed.out
    (line,) = [line for line in printed.out.splitlines() if line.startswith("ignored")]
    for kind in ("1 *.txt", "1 Thumbs.db", "._*"):
        assert kind in line
    assert {path.stem for path in Path("found/labels").iterdir()} == set(NAMES)
    page = Path("found/summary.html").read_text()
    for name in ("broken.png", "nan.tif", "no image.jpg", "none.zip"):
        assert page.count(f"{name}: ") == 1, "the page lists the skipped files"
    for name in ("broken.png", "nan.tif", "no image.jpg"):
        Path("cells", name).unlink()
    predict()
    assert "Skipped files" not in Path("found/summary.html").read_text()


def test_if_nothing_can_be_read_nothing_is_written(here, capsys):
    with pytest.raises(DataError, match=r"^nowhere: no such file"):
        predict(paths=("nowhere", "weights.npz"))
    assert not Path("found").exists(), "a mistyped folder leaves none behind"
    for name in ("broken.png", "empty.png"):
        Path(name).write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 2 images could be read; the first: .*broken"):
        predict(paths=("broken.png", "empty.png"))
    assert contents("found") == {}
    capsys.readouterr()
    with pytest.raises(DataError, match=r"^broken\.png: "):
        predict(paths=("broken.png",))
    printed = capsys.readouterr()
    assert "1 image file;" in printed.out and "skipped" not in printed.err, "the error says it, once"
    assert predict(diameter=30.0)["images"] == 4, "a typing mistake leaves no settings behind"


def test_warnings_about_files_are_sentences(here, monkeypatch, capsys):
    imwrite("pages.tif", np.stack([squares(2)] * 2), metadata=None)
    predict(paths=("pages.tif",), channel="1")
    printed = capsys.readouterr().err
    assert printed.startswith("warning: pages.tif: ") and ".py:" not in printed


# ---------------------------------------------------------------------------------------- what is printed
def test_progress_counts_files_and_estimates_the_time_left(here, monkeypatch, capsys):
    clock = iter([0.0, 10.0, 20.0, 60.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    files = files_of(["cells", "nowhere"])
    assert files == [f"cells/{name}.png" for name in NAMES]
    progress = Progress(files)
    for sources in (["cells/a.png"], ["cells/a.png (z02)"], ["cells/c,ü.png (z01)", "cells/c,ü.png (z02)"]):
        positions = [progress.position(source) for source in sources]
        progress.found(positions)
        for position, source in zip(positions, sources):
            progress.finish(position, source[6:])
    assert capsys.readouterr().out.splitlines() == [
        "[1 of 4, 00:30 left] a.png",
        "[1 of 4, 01:00 left] a.png (z02)",
        "[3 of 4, 00:30 left] c,ü.png (z01)",
        "[3 of 4, 00:30 left] c,ü.png (z02)",
    ]


def test_progress_of_a_large_image(monkeypatch, capsys):
    clock = iter([0.0, 100.0, 110.0, 140.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = Progress(["a.tif"])
    for done in (1, 2, 4):
        progress.tiles(done, 10)
    assert capsys.readouterr().out == "tile 4 of 10, 01:20 left\n"


def test_an_image_without_nuclei_has_no_diameter():
    assert described(Nuclei(np.zeros((3, 3), np.int32), 24.0, ""), 0.5) == "0 nuclei"


def test_one_nucleus_is_described_in_the_singular():
    assert described(Nuclei(np.ones((3, 3), np.int32), 24.0, ""), None) == "1 nucleus, diameter 3 pixels"
