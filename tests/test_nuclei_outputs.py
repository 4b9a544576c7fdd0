"""The files that the nuclei tool writes, read back by other programs' libraries: tifffile, roifile, shapely, csv."""

import csv
import errno
import json
import os

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from roifile import ROI_TYPE, roiread
from shapely.geometry import Polygon, shape
from skimage.measure import regionprops

from tinynet import instances
from tinynet.data.microscopy import Plane, read_planes
from tinynet.errors import DataError
from tinynet.nuclei.outputs import (
    FORMATS,
    Result,
    Tables,
    images,
    nucleus_outlines,
    outlines,
    overlay_for_screen,
    write_geojson,
    write_labels,
    write_rois,
)
from tinynet.nuclei.outputs.flags import flags
from tinynet.nuclei.outputs.results import read_record, write_results

RNG = np.random.default_rng(0)
NAMES = ("Kärnä, field 2", 'a\'b "c" <i>', "x\udce4", "日本 語")
SMALL_LABELS = arrays(
    np.int32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from([0, 1, 1, 1, 2, 5])
)


def pixels_of(geometry, size) -> np.ndarray:
    """bool (H, W): the pixels whose centers lie inside a geometry of shapely."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return shapely.contains_xy(geometry, x, y)


def discs(size=(60, 80), pixel_size=None, name="discs", **channels) -> Result:
    """Two discs, one of which the border cuts; with channels of 16 bits, "DAPI" by default."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    labels = np.zeros(size, np.int32)
    labels[(rows - 20) ** 2 + (columns - 25) ** 2 <= 100] = 1
    labels[(rows - 45) ** 2 + (columns - 79) ** 2 <= 64] = 2
    gray = np.where(labels > 0, 1000 + 10 * labels, 100).astype(np.uint16)
    image = np.repeat((gray // 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return Result(Plane(name, gray, channels or {"DAPI": gray}, pixel_size, f"{name}.tif"), image, labels)


def with_labels(result: Result, labels: np.ndarray) -> Result:
    return Result(result.plane, result.image, labels, result.doubt)


def table(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


# --- outlines -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_outlines_hold_exactly_the_pixels_and_are_valid(mask):
    polygons = [Polygon(outer, holes) for outer, *holes in outlines(mask)]
    together = shapely.MultiPolygon(polygons)
    assert together.is_valid, shapely.is_valid_reason(together)
    assert together.area == mask.sum()
    np.testing.assert_array_equal(pixels_of(together, mask.shape), mask)
    assert all(polygon.exterior.is_ccw and not any(r.is_ccw for r in polygon.interiors) for polygon in polygons)


def test_an_outline_has_only_the_corners_at_which_it_turns():
    labels = np.zeros((5, 6), int)
    labels[1:3, 2:5], labels[4, 5] = 3, 7
    (three, [[ring]]), (seven, [[pixel]]) = nucleus_outlines(labels)
    assert (three, seven) == (3, 7)
    assert set(ring) == {(2, 1), (5, 1), (5, 3), (2, 3)} and len(ring) == 4
    assert set(pixel) == {(5, 4), (6, 4), (6, 5), (5, 5)}


def test_outlines_of_huge_numbers_need_no_memory():
    assert [number for number, _ in nucleus_outlines(np.array([[0, 2_000_000_000], [7, 0]]))] == [7, 2_000_000_000]


# --- label images and overlays ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nuclei", "dtype"), [(0, np.uint16), (3, np.uint16), (65_535, np.uint16), (65_536, np.uint32)]
)
@pytest.mark.parametrize("pixel_size", [None, 0.325])
def test_label_images_keep_numbers_and_pixel_size(nuclei, dtype, pixel_size, tmp_path):
    labels = np.arange(280 * 250, dtype=np.int32).reshape(250, 280)
    labels[labels > nuclei] = 0
    labels[0, 0] = nuclei
    write_labels(tmp_path / "a.tif", labels, pixel_size)
    (plane,) = read_planes(tmp_path / "a.tif")
    assert plane.pixels.dtype == dtype
    np.testing.assert_array_equal(plane.pixels, labels)
    assert plane.pixel_size == (None if pixel_size is None else pytest.approx(pixel_size, rel=1e-6))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej == (dtype is np.uint16)
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_large_overlays_are_shrunk(monkeypatch):
    monkeypatch.setattr(images, "OVERLAY_SIDE", 50)
    result = discs((70, 130))
    drawing = overlay_for_screen(result.image, result.labels)
    assert drawing.shape == (24, 44, 3)
    assert len(np.unique(drawing.reshape(-1, 3), axis=0)) > 3  # the outlines have colors
    smaller, labels = images.shrink(result.image, result.labels, 50)
    assert smaller.shape[:2] == labels.shape == (24, 44)
    np.testing.assert_array_equal(np.asarray(Image.fromarray(result.image).reduce(3)), smaller)
    unchanged, _ = images.shrink(result.image, result.labels, 130)
    assert unchanged is result.image


# --- ImageJ and QuPath --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(SMALL_LABELS)
def test_rois_and_geojson_give_the_labels_back(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("outlines")
    write_rois(folder / "a.zip", labels)
    write_geojson(folder / "a.geojson", labels)
    rois, geometries = roiread(folder / "a.zip"), json.loads((folder / "a.geojson").read_text())["features"]
    numbers = np.unique(labels[labels > 0]).tolist()
    assert [int(roi.name) for roi in rois] == [int(f["properties"]["name"]) for f in geometries] == numbers
    for number, roi, feature in zip(numbers, rois, geometries, strict=True):
        rings = [Polygon(ring) for ring in roi.coordinates(multi=True)]
        inside = sum(pixels_of(ring, labels.shape).astype(int) for ring in rings) % 2 == 1  # as ImageJ fills
        np.testing.assert_array_equal(inside, labels == number)
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        np.testing.assert_array_equal(pixels_of(geometry, labels.shape), labels == number)


def test_rois_of_one_pixel_of_two_pieces_and_far_right(tmp_path):
    labels = np.zeros((4, 40_000), np.int32)
    labels[1, 2], labels[0, 5], labels[3, 39_999], labels[2:4, 35_000:35_003] = 1, 2, 2, 12_345
    write_rois(tmp_path / "a.zip", labels)
    pixel, pieces, far = roiread(tmp_path / "a.zip")
    assert (pixel.name, pieces.name, far.name) == ("00001", "00002", "12345")
    assert (pixel.roitype, pieces.roitype, far.roitype) == (ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.TRACED)
    assert set(map(tuple, pixel.coordinates())) == {(2, 1), (3, 1), (3, 2), (2, 2)}  # corners of pixels
    assert (pixel.left, pixel.top, pixel.right, pixel.bottom) == (2, 1, 3, 2)
    assert len(pieces.coordinates(multi=True)) == 2
    assert set(map(tuple, far.coordinates())) == {(35_000, 2), (35_003, 2), (35_003, 4), (35_000, 4)}


def test_geojson_is_what_qupath_reads(tmp_path):
    result = discs(pixel_size=0.5)
    rows = instances.measure(result.labels, result.plane.channels, 0.5)
    rows[1]["mean_DAPI"] = float("nan")  # of an image of floats: JSON has no NaN, and QuPath refuses the file
    write_geojson(tmp_path / "a.geojson", result.labels, rows)
    collection = json.loads((tmp_path / "a.geojson").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert collection["type"] == "FeatureCollection"
    first, second = collection["features"]
    assert (first["type"], first["geometry"]["type"]) == ("Feature", "Polygon")
    assert first["geometry"]["coordinates"][0][0] == first["geometry"]["coordinates"][0][-1]
    properties = first["properties"]
    assert (properties["objectType"], properties["classification"]["name"]) == ("detection", "Nucleus")
    assert properties["measurements"] == {key: value for key, value in rows[0].items() if key != "id"}
    assert "mean_DAPI" not in second["properties"]["measurements"]
    write_geojson(tmp_path / "none.geojson", 0 * result.labels)
    assert json.loads((tmp_path / "none.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


# --- measurements -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(SMALL_LABELS)
def test_measurements_are_those_of_scikit_image(labels):
    channel = np.arange(labels.size, dtype=np.uint16).reshape(labels.shape)
    rows = instances.measure(labels, {"A": channel, "B": channel / 7})
    for row, region in zip(rows, regionprops(labels, channel), strict=True):
        assert row["id"] == region.label
        expected = {
            "area": region.area,
            "equivalent_diameter": region.equivalent_diameter_area,
            "perimeter": region.perimeter_crofton,
            "eccentricity": region.eccentricity,
            "solidity": region.solidity,
            "mean_A": region.intensity_mean,
            "min_A": region.intensity_min,
            "max_A": region.intensity_max,
            "integrated_A": region.intensity_mean * region.area,
            "mean_B": region.intensity_mean / 7,
        }
        assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-6)
        assert (row["top"], row["left"], row["bottom"], row["right"]) == region.bbox
        assert (row["centroid_y"], row["centroid_x"]) == pytest.approx(region.centroid)


def test_an_ellipse_in_pixels_and_micrometers():
    rows, columns = np.ogrid[:90, :120]
    labels = (((rows - 45) / 20) ** 2 + ((columns - 60) / 40) ** 2 <= 1).astype(int)
    (row,) = instances.measure(labels, labels, 0.5)
    assert row["area"] == pytest.approx(np.pi * 20 * 40, rel=0.01)
    assert row["eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), rel=0.01)
    assert row["solidity"] > 0.97 and row["touches_border"] == 0
    assert row["area_um2"] == row["area"] / 4
    assert row["equivalent_diameter_um"] == row["equivalent_diameter"] / 2
    assert row["perimeter_um"] == row["perimeter"] / 2


@pytest.mark.parametrize("pixel_size", [0, -1.0, float("nan"), float("inf")])
def test_a_pixel_size_is_positive(pixel_size):
    with pytest.raises(ValueError, match=r"pixel_size is .*micrometers per pixel"):
        instances.measure(np.ones((2, 2), int), np.ones((2, 2)), pixel_size)


def test_sums_of_intensities_do_not_overflow():
    labels = np.ones((600, 600), int)
    (row,) = instances.measure(labels, np.full((600, 600), 65_535, np.uint16))
    assert row["integrated_intensity"] == 600 * 600 * 65_535
    (row,) = instances.measure(labels, np.full((600, 600), 1e38, np.float32))
    assert row["mean_intensity"] == pytest.approx(1e38, rel=1e-6)


def test_intensities_of_one_bit_are_numbers():
    labels = np.ones((2, 2), int)
    (row,) = instances.measure(labels, np.array([[True, False], [True, True]]))
    found = [row[f"{name}_intensity"] for name in ("mean", "min", "max", "integrated")]
    assert found == [0.75, 0, 1, 3] and not any(isinstance(value, bool) for value in found)


# --- warnings -----------------------------------------------------------------------------------------------


def row(diameter=20.0, border=0, highest=100):
    return {"equivalent_diameter": diameter, "touches_border": border, "max_DAPI": highest}


@pytest.mark.parametrize(
    ("rows", "doubt", "kinds"),
    [
        ([row()] * 4, "", []),
        ([], "", ["nothing found"]),
        ([], "no nucleus was found; is ...", ["nothing found"]),
        ([row()], "the nuclei found are 90 pixels wide", ["doubtful"]),
        ([row(border=1), row()], "", ["border"]),
        ([row(border=1), row(), row()], "", []),
        ([row(7)], "", ["small"]),
        ([row(highest=4095)] + 8 * [row()], "", ["saturated"]),
        ([row(highest=4095)] + 20 * [row()], "", []),
        ([row(highest=4094)] * 4, "", []),
        ([row(highest=255.0)] * 4, "", []),  # floats have no largest value
    ],
)
def test_warnings(rows, doubt, kinds):
    found = flags(rows, doubt)
    assert [flag["kind"] for flag in found] == kinds
    assert all(flag["text"] for flag in found)


# --- a whole run --------------------------------------------------------------------------------------------


def test_a_run_writes_a_file_of_each_kind_and_the_tables(tmp_path):
    plain, colored = discs(name=NAMES[0]), discs(name=NAMES[1], pixel_size=0.5, GFP=np.ones((60, 80)))
    nothing = with_labels(discs(name=NAMES[2]), np.zeros((60, 80), int))
    pixel = with_labels(discs(name=NAMES[3]), np.eye(60, 80, dtype=int) * (np.arange(60) == 30)[:, None])
    with Tables(tmp_path, submission=True) as tables:
        for result in (plain, colored, nothing, pixel):
            assert not tables.has(result.plane.name)
            tables.add(result)
            assert tables.has(result.plane.name)
    for folder, suffix in FORMATS.items():
        assert {path.name for path in (tmp_path / folder).iterdir()} == {name + suffix for name in NAMES}
    rows = table(tmp_path / "measurements.csv")
    assert [(row["image"], row["id"]) for row in rows] == [
        (NAMES[0], "1"), (NAMES[0], "2"), (NAMES[1], "1"), (NAMES[1], "2"), (NAMES[3], "1")
    ]  # fmt: skip
    assert list(rows[0])[:3] == ["image", "id", "area"]
    assert {"mean_DAPI", "mean_GFP", "area_um2"} <= set(rows[0])
    assert (rows[0]["mean_DAPI"], rows[0]["mean_GFP"], rows[0]["area_um2"]) == ("1010", "", "")
    assert (rows[2]["mean_DAPI"], rows[2]["mean_GFP"]) == ("", "1")
    assert float(rows[2]["area_um2"]) == float(rows[2]["area"]) / 4
    submitted = [row["ImageId"] for row in table(tmp_path / "submission.csv")]
    assert submitted == [NAMES[0], NAMES[0], NAMES[1], NAMES[1], NAMES[2], NAMES[3]]
    first = (tmp_path / "measurements.csv").read_bytes()
    with Tables(tmp_path):
        pass  # the tables are made from the records
    assert (tmp_path / "measurements.csv").read_bytes() == first


def test_a_run_without_nuclei_has_a_table_with_its_columns(tmp_path):
    with Tables(tmp_path) as tables:
        tables.add(with_labels(discs(), np.zeros((60, 80), int)))
    assert (tmp_path / "measurements.csv").read_text().startswith("image,id,area,")
    assert len((tmp_path / "measurements.csv").read_text().splitlines()) == 1


@pytest.fixture
def fill_disk(monkeypatch):
    """A function after which files with a suffix do not fit on the disk any more."""
    replace = os.replace

    def fill_disk(suffix):
        def full(source, target):
            if str(target).endswith(suffix):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(source, target)

        monkeypatch.setattr(os, "replace", full)

    return fill_disk


@pytest.mark.parametrize(("folder", "suffix"), [*FORMATS.items(), ("results", ".json")])
def test_a_full_disk_names_the_file_and_leaves_no_half_file(folder, suffix, tmp_path, fill_disk, monkeypatch):
    with Tables(tmp_path) as tables:
        tables.add(discs(name="first"))
    fill_disk(suffix)
    with pytest.raises(OSError, match="No space left") as error, Tables(tmp_path) as tables:
        tables.add(discs(name="second"))
    assert error.value.filename == str(tmp_path / folder / f"second{suffix}")
    monkeypatch.undo()
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]
    assert not tables.has("second") and not list(tmp_path.rglob(f"second{suffix}"))
    assert {row["image"] for row in table(tmp_path / "measurements.csv")} == {"first"}
    with Tables(tmp_path) as tables:
        tables.add(discs(name="second"))
    assert {row["image"] for row in table(tmp_path / "measurements.csv")} == {"first", "second"}


def test_an_image_whose_files_are_of_two_runs_is_not_done(tmp_path, fill_disk):
    with Tables(tmp_path) as tables:
        tables.add(discs())
    fill_disk(".zip")
    with pytest.raises(OSError, match="No space left"), Tables(tmp_path) as tables:
        tables.add(with_labels(discs(), np.zeros((60, 80), int)))
    assert not tables.has("discs")


def test_a_full_disk_at_the_tables_keeps_the_older_ones(tmp_path, fill_disk):
    with Tables(tmp_path) as tables:
        tables.add(discs(name="first"))
    before = (tmp_path / "measurements.csv").read_bytes()
    fill_disk(".csv")
    with pytest.raises(OSError, match="No space left") as error, Tables(tmp_path) as tables:
        tables.add(discs(name="second"))
    assert error.value.filename == str(tmp_path / "measurements.csv")
    assert (tmp_path / "measurements.csv").read_bytes() == before
    with pytest.raises(KeyboardInterrupt), Tables(tmp_path):  # the first error is the one that is shown
        raise KeyboardInterrupt


def test_after_an_interruption_the_tables_hold_what_is_done(tmp_path):
    with pytest.raises(KeyboardInterrupt), Tables(tmp_path) as tables:
        tables.add(discs(name="first"))
        raise KeyboardInterrupt
    assert {row["image"] for row in table(tmp_path / "measurements.csv")} == {"first"}
    assert (tmp_path / "summary.html").exists()


def test_a_new_result_replaces_the_older_one_and_a_missing_file_is_written_again(tmp_path):
    with Tables(tmp_path, formats=("labels",)) as tables:
        tables.add(discs())
        tables.add(with_labels(discs(), np.zeros((60, 80), int)))
    assert table(tmp_path / "measurements.csv") == []
    assert tables.has("discs") and not Tables(tmp_path).has("discs")  # the other formats are missing
    (tmp_path / "labels/discs.tif").unlink()
    assert not tables.has("discs")


DAMAGED = (  # a field of a record, what it became, and what the error says
    ("version", 2, "version is 2, 1 is needed"),
    ("fingerprint", None, "fingerprint is None, str is needed"),
    ("nuclei", True, "nuclei is True, int is needed"),
    ("nuclei", 9, "rows for 9 nuclei"),
    ("thumbnail", 7, "thumbnail is 7"),
    ("pixel_size", -1, "pixel_size is -1"),
    ("pixel_size", "1", "pixel_size is '1'"),
    ("flags", [{"kind": "border"}], "a kind and a text"),
    ("flags", ["border"], "a kind and a text"),
    ("columns", ["id"], "columns are"),
    ("columns", [1] * 20, "columns are"),
    ("rows", {}, "rows is {}, list is needed"),
    ("rows", [], "0 rows"),
    ("rows", [[1]] * 2, "numbers are needed"),
    ("rows", [["x"] * 18] * 2, "numbers are needed"),
    ("rows", "x" * 1000, r"x\.\.\., list is needed"),
)


@pytest.mark.parametrize(("field", "value", "message"), DAMAGED)
def test_a_record_that_was_changed_is_refused(field, value, message, tmp_path):
    record = write_results(tmp_path, discs())
    path = tmp_path / "results/discs.json"
    assert read_record(path) == record and record["nuclei"] == 2
    path.write_text(json.dumps({**record, field: value}))
    with pytest.raises(DataError, match=rf"discs\.json: no record of this version of tinynet \(.*{message}"):
        read_record(path)
    del record[field]
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=f"its {field} is (None|'missing')"):
        read_record(path)


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"version": 0}', '"\xff"', "[" * 100_000])
def test_a_damaged_record_is_named(damage, tmp_path):
    with Tables(tmp_path) as tables:
        tables.add(discs())
    (tmp_path / "results/discs.json").write_text(damage, encoding="latin-1")
    with pytest.raises(DataError, match=r"discs\.json: .*delete it and run again"), Tables(tmp_path):
        pass


def test_formats_are_known():
    with pytest.raises(ValueError, match="formats holds 'roi'; known are labels, overlays, rois, geojson"):
        Tables("x", formats=("labels", "roi"))
    with pytest.raises(ValueError, match="need 'labels' in formats"):
        Tables("x", formats=("rois",), submission=True)
