"""The files of a project of `tinynet nuclei serve`: edits are kept at once, the label image follows after a pause."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinynet.data.microscopy import Plane
from tinynet.errors import DataError
from tinynet.nuclei.serve import project
from tinynet.nuclei.serve.edit import Patch
from tinynet.nuclei.serve.project import Project, StoredImage

PIXELS = np.zeros((6, 8), np.uint8)


@pytest.fixture
def image(tmp_path):
    return Project(tmp_path / "project").add(Plane("cells", PIXELS, {"gray": PIXELS}, None, "cells.png"))


def patch(row, value):
    """An edit that gives two pixels of a row, and of the row below, the number `value`."""
    return lambda labels: Patch(row, 2, np.full((2, 2), value, np.int32))


def after_a_kill(image):
    """The image as another server finds it."""
    return StoredImage(image.folder)


def saved(image):
    return tifffile.imread(image.folder / "labels.tif")


def test_an_edit_is_kept_without_writing_the_label_image(image):
    image.edit(patch(0, 5))
    assert not (image.folder / "labels.tif").exists() and after_a_kill(image).labels()[0, 2] == 5
    image.save()
    before = (image.folder / "labels.tif").read_bytes()
    image.edit(patch(3, 7))
    image.undo()
    image.edit(patch(1, 0))
    assert (image.folder / "labels.tif").read_bytes() == before
    np.testing.assert_array_equal(after_a_kill(image).labels(), image.labels())


def test_the_label_image_is_written_after_a_pause_and_at_the_end(image, monkeypatch):
    monkeypatch.setattr(project, "PAUSE", 0.01)
    image.edit(patch(0, 5))
    for _ in range(1000):
        if image._labels is None:
            break
        threading.Event().wait(0.01)
    assert saved(image)[0, 2] == 5 and saved(image).dtype == np.int32
    monkeypatch.setattr(project, "PAUSE", 60.0)
    opened = Project(image.folder.parents[1])
    (again,) = opened.images()
    again.edit(patch(0, 6))
    assert saved(again)[0, 2] == 5
    opened.save()
    assert saved(again)[0, 2] == 6 and again._labels is None


def test_a_full_disk_after_a_pause_loses_no_edit(image, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    image.edit(patch(0, 5))
    with monkeypatch.context() as patched:
        patched.setattr("tifffile.imwrite", full)
        image._save_after_pause()
        with pytest.raises(OSError, match="No space left"):
            image.save()
    assert after_a_kill(image).labels()[0, 2] == image.labels()[0, 2] == 5
    for writer in ("numpy.savez_compressed", "tinynet.nuclei.serve.project.write_json"):
        with monkeypatch.context() as patched:
            patched.setattr(writer, full)
            with pytest.raises(OSError, match="No space left"):
                image.edit(patch(0, 6))
        assert after_a_kill(image).labels()[0, 2] == image.labels()[0, 2] == 5


def test_a_damaged_label_image_is_made_again_from_the_edits(image):
    image.edit(patch(0, 5))
    image.save()
    path = image.folder / "labels.tif"
    for damaged in (b"II*\0", b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"labels\.tif: damaged .*delete it: the edits in history/ make it again"):
            image.labels()
    tifffile.imwrite(path, np.zeros((3, 3), np.int32))
    with pytest.raises(DataError, match=r"int32 \(3, 3\); need int32 \(6, 8\): delete it"):
        image.labels()
    path.unlink()
    assert image.labels()[0, 2] == 5
    (image.folder / "history/0001.npz").unlink()
    with pytest.raises(DataError, match=r"0001\.npz: damaged .*neither undone nor done again"):
        image.labels()


@pytest.mark.parametrize("description", [None, "of another program", "12 edits, or so"])
def test_a_label_image_of_another_program_counts(image, description):
    image.edit(patch(0, 5))
    tifffile.imwrite(image.folder / "labels.tif", np.full((6, 8), 9, np.int32), description=description)
    assert (after_a_kill(image).labels() == 9).all()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 4), st.integers(0, 3)), st.sampled_from(["undo", "undo", "redo", "save", "kill"])
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
@example([(0, 1), "save", "undo", (2, 2), "kill"])  # labels.tif shows an edit that another one has replaced
@example([(row, 1) for row in range(5)] + ["kill"])  # the first of these edits is forgotten
@example([(0, 1), (2, 2), "save", "undo", "undo", "kill", "redo"])
def test_any_order_of_edits_undo_save_and_kill_keeps_the_label_image(tmp_path_factory, steps):
    """Beside the image, a list of all states in memory. Only three edits can be undone, so that some are forgotten."""
    folder = tmp_path_factory.mktemp("project")
    image = Project(folder).add(Plane("cells", PIXELS, {"gray": PIXELS}, None, "cells.png"))
    states, place, oldest = [np.zeros((6, 8), np.int32)], 0, 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(project, "MOST_EDITS", 3)
        patched.setattr(project, "PAUSE", 60.0)
        for step in steps:
            if step == "undo":
                image.undo()
                place = max(place - 1, oldest)
            elif step == "redo":
                image.redo()
                place = min(place + 1, len(states) - 1)
            elif step == "save":
                image.save()
            elif step == "kill":
                image = after_a_kill(image)
            else:
                image.edit(patch(*step))
                states = [*states[: place + 1], states[place].copy()]
                place += 1
                states[place][step[0] : step[0] + 2, 2:4] = step[1]
                oldest = max(oldest, place - 3)
            np.testing.assert_array_equal(image.labels(), states[place])
        np.testing.assert_array_equal(after_a_kill(image).labels(), states[place])
