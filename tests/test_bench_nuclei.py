"""`python -m tinynet bench nuclei`: its images, its table, and its flags."""

import json

import numpy as np
import pytest

import tinynet as tn
from tinynet.errors import UsageError
from tinynet.tools.bench import main, nuclei


def test_all_crops_are_different_images():
    for count in (1, 8, 16, 20):
        crops = nuclei.crops(count)
        assert len(crops) == len({crop.tobytes() for crop in crops}) == count
        assert {(crop.shape, crop.dtype) for crop in crops} == {((256, 256, 3), np.dtype(np.uint8))}


def test_the_large_image_is_the_example_repeated():
    example = tn.data.example_nuclei().image
    image = nuclei.large_image(600, "rgb")
    assert image.shape == (600, 600, 3) and (image[256:512, 320:600] == example[:, :280]).all()
    gray = nuclei.large_image(600, "gray16")
    assert (gray.shape, gray.dtype) == ((600, 600), np.uint16) and (gray == image[:, :, 0].astype(int) * 200).all()


@pytest.fixture
def found(monkeypatch):
    """How many images each call gets; instead of the net, nothing is found."""
    calls = []

    def segment_many(net, images, flips, progress=None):
        calls.append((len(images), flips))
        if progress:
            progress(1, 1)
        return [tn.nuclei.Nuclei(np.zeros(image.shape[:2], np.int32), 24.0, "") for image in images]

    monkeypatch.setattr(tn.nuclei, "segment_many", segment_many)
    return calls


def test_one_image_and_several_with_and_without_flips(found, capsys, tmp_path):
    rows = main.main(["nuclei", "--turns", "1", "--images", "3", "--json", str(tmp_path / "n.json")])
    assert found == [(1, False), (1, True), (3, False), (3, True)]
    assert [row["images"] for row in rows] == [1, 1, 3, 3] and all(row["peak_mb"] > 20 for row in rows)
    assert json.loads((tmp_path / "n.json").read_text())["rows"][2]["size"] == "256 x 256"
    assert len(capsys.readouterr().out.splitlines()) == 7, "machine, head, four rows, the file"


def test_a_large_image_is_measured_once(found):
    (row,) = main.main(["nuclei", "--large", "500", "--kind", "gray8"])
    assert row["size"] == "500 x 500" and found == [(1, False)]


@pytest.mark.parametrize("flag", ["--turns", "--images", "--large"])
def test_counts_below_one_are_refused(flag):
    with pytest.raises(UsageError, match=f"{flag} is 0; at least 1 is needed"):
        main.main(["nuclei", flag, "0"])
