"""Reading nuclei images: both layouts, every pixel format, and everything that can be wrong with a file."""

import io
import warnings
import zipfile
from collections import Counter, defaultdict

import numpy as np
import pytest
from nuclei_files import REAL_ZIP, kaggle_files, png, real_data, squares, tiff, write_folder, write_zip
from PIL import Image

from tinynet.data import files as files_module
from tinynet.data import limits, make_split, nuclei
from tinynet.data.eight_bits import to_rgb8
from tinynet.data.files import ImageFiles
from tinynet.errors import DataError

RNG = np.random.default_rng(0)


def one_read(path):
    (sample,) = nuclei.read_nuclei(path, progress=False)
    return sample


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("write", [write_zip, write_folder])
@pytest.mark.parametrize("top", ["", "stage1_train/", "a/b/"])
def test_kaggle_layout_from_zip_and_folder(tmp_path, write, top):
    files = {**kaggle_files("bb", squares()), **kaggle_files("aa", squares().T)}
    files = {top + name: data for name, data in files.items()}
    files["__MACOSX/._x.png"] = files[".DS_Store"] = b"junk"
    files["stage1_train.csv"] = b"ImageId,EncodedPixels"
    samples = nuclei.read_nuclei(write(tmp_path / "data", files))
    assert [s.id for s in samples] == ["aa", "bb"]
    np.testing.assert_array_equal(samples[1].labels, squares())
    assert samples[1].labels.dtype == np.int32 and samples[1].image.dtype == np.uint8
    assert samples[1].image[30, 35].tolist() == [200, 200, 200]
    assert samples[1].kind == "fluorescence" and samples[1].group == "bb"


def test_ids_select_and_unknown_ids_are_named(tmp_path):
    path = write_zip(tmp_path / "x.zip", {**kaggle_files("a", squares()), **kaggle_files("b", squares())})
    assert [s.id for s in nuclei.read_nuclei(path, ids=["b"])] == ["b"]
    assert [s.id for s in nuclei.read_nuclei(path, limit=1)] == ["a"]
    with pytest.raises(DataError, match="no image with id 'c'"):
        nuclei.read_nuclei(path, ids=["a", "c"])


LABEL_FORMATS = {
    "x.png": lambda labels: png(labels.astype(np.uint8)),
    "x.tif": lambda labels: tiff(labels.astype(np.uint16)),
    "x.tiff": lambda labels: tiff(labels.astype(np.float32)),
}


@pytest.mark.parametrize("name", LABEL_FORMATS)
def test_own_folders_with_label_images(tmp_path, name):
    labels = squares() * 7  # numbers need not be 1..n
    image = RNG.integers(0, 60, (*labels.shape, 3), dtype=np.uint8)
    path = write_folder(tmp_path, {"images/x.png": png(image), f"labels/{name}": LABEL_FORMATS[name](labels)})
    sample = one_read(path)
    np.testing.assert_array_equal(sample.labels, squares())
    np.testing.assert_array_equal(sample.image, image)
    assert sample.id == "x"


def test_palette_label_image_gives_indices_and_full_coverage_has_no_background(tmp_path):
    labels = np.where(squares() > 0, squares(), 4).astype(np.uint8)
    image = Image.fromarray(labels).convert("P")
    image.putpalette(RNG.integers(0, 255, 768).astype(np.uint8).tobytes())
    image.putdata(labels.ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    gray = np.zeros(labels.shape, np.uint8)
    sample = one_read(write_folder(tmp_path, {"images/x.png": png(gray), "labels/x.png": buffer.getvalue()}))
    np.testing.assert_array_equal(sample.labels, labels)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16"])
def test_masks_of_every_mode(tmp_path, mode):
    files = kaggle_files("a", squares())
    for name in [n for n in files if "/masks/" in n]:
        mask = Image.open(io.BytesIO(files[name]))
        if mode == "RGBA":  # opaque everywhere: alpha must not count as foreground
            mask = mask.convert("RGB")
        if mode == "I;16":
            mask = Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)
        buffer = io.BytesIO()
        mask.convert(mode).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    np.testing.assert_array_equal(one_read(write_zip(tmp_path / "x.zip", files)).labels, squares())


def test_overlapping_masks_never_mix_numbers(tmp_path):
    files = kaggle_files("a", squares())
    wide = np.zeros(squares().shape, np.uint8)
    wide[12:20, 6:16] = wide[10:12, 6:14] = 255  # nucleus 2 now covers two rows of nucleus 1
    files["a/masks/a-002.png"] = png(wide)
    np.testing.assert_array_equal(one_read(write_zip(tmp_path / "x.zip", files)).labels, squares())


def test_empty_masks_are_skipped_with_one_warning(tmp_path):
    files = kaggle_files("a", squares())
    files["a/masks/a-000.png"] = files["a/masks/a-0005.png"] = png(np.zeros(squares().shape, np.uint8))
    path = write_zip(tmp_path / "x.zip", files)
    with pytest.warns(UserWarning, match=r"2 empty masks skipped, the first is .*a-000") as caught:
        sample = one_read(path)
    assert len(caught) == 1
    np.testing.assert_array_equal(sample.labels, squares())


# ---------------------------------------------------------------- images alone


def test_read_images_names_and_sources(tmp_path):
    image = png(RNG.integers(0, 255, (20, 30), dtype=np.uint8))
    zipped = write_zip(tmp_path / "t.zip", {"test/k1/images/k1.png": image, "test/k1/masks/m.png": image})
    folder = write_folder(tmp_path / "f", {"a.png": image, "deep/b.jpg": image, "x/c.png": image, "y/c.png": image})
    names = dict(nuclei.read_images([zipped, folder, folder / "a.png"][:2]))
    assert sorted(names) == ["a", "b", "k1", "x_c.png", "y_c.png"]
    assert all(image.shape == (20, 30, 3) and image.dtype == np.uint8 for image in names.values())
    with pytest.raises(DataError, match=r"a\.png: given twice"):
        list(nuclei.read_images([folder, folder / "a.png"]))


def test_results_of_an_earlier_prediction_are_no_images(tmp_path):
    image = png(RNG.integers(0, 255, (20, 30), dtype=np.uint8))
    folder = write_folder(tmp_path, {"a.png": image, "out/overlays/a.png": image, "out/labels/a.tif": tiff(GRAY16)})
    assert [name for name, _ in nuclei.read_images(folder)] == ["a"]
    assert len(list(nuclei.read_images(folder / "out" / "overlays"))) == 1, "asked for by name they are"


@pytest.mark.parametrize("contents", [{}, {"notes.txt": b"x"}, {"masks/m.png": b"x"}])
def test_folder_without_images(tmp_path, contents):
    with pytest.raises(DataError, match="no image in it"):
        list(nuclei.read_images(write_folder(tmp_path, contents)))
    with pytest.raises(DataError, match="no images"):
        nuclei.read_nuclei(tmp_path)


def test_no_paths_at_all():
    with pytest.raises(DataError, match="no paths"):
        list(nuclei.read_images([]))


GRAY16 = (np.arange(600).reshape(20, 30) * 6).astype(np.uint16)
FORMATS = {
    "gray16.png": png(GRAY16),
    "gray16.tif": tiff(GRAY16),
    "rgb16.tif": tiff(np.repeat(GRAY16[:, :, None], 3, 2), photometric="rgb"),
    "planes.tif": tiff(np.repeat(GRAY16[None], 3, 0), photometric="rgb", planarconfig="separate"),
    "float.tif": tiff((GRAY16 / 4000 - 0.2).astype(np.float32)),
    "deflate.tif": tiff(GRAY16, compression="zlib"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_deep_images_use_the_whole_range(tmp_path, name):
    ((_, image),) = nuclei.read_images(write_folder(tmp_path, {name: FORMATS[name]}))
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    expected = np.repeat((np.linspace(0, 255, 600).reshape(20, 30))[:, :, None], 3, 2)
    assert np.abs(image - expected).max() <= 2


def test_lzw_tiff_is_read_by_pillow(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(GRAY16.astype(np.uint8)).save(buffer, "TIFF", compression="tiff_lzw")
    ((_, image),) = nuclei.read_images(write_folder(tmp_path, {"a.tif": buffer.getvalue()}))
    np.testing.assert_array_equal(image[:, :, 0], GRAY16.astype(np.uint8))


def test_to_rgb8_rules():
    eight = RNG.integers(0, 255, (5, 6, 4), dtype=np.uint8)
    np.testing.assert_array_equal(to_rgb8(eight), eight[:, :, :3])  # 8-bit values stay, alpha is dropped
    np.testing.assert_array_equal(to_rgb8(eight[:, :, 0])[:, :, 2], eight[:, :, 0])
    gray_alpha = np.asarray(Image.open(io.BytesIO(png(eight[:, :, [0, 3]]))))
    np.testing.assert_array_equal(to_rgb8(gray_alpha)[:, :, 1], eight[:, :, 0])
    assert to_rgb8(np.eye(4, dtype=bool))[0, 0].tolist() == [255, 255, 255]
    camera = RNG.integers(100, 1100, (100, 100)).astype(np.uint16)
    camera[0, 0] = 65535  # one hot pixel must not compress the others
    assert np.ptp(to_rgb8(camera)[1:, :, 0].astype(int)) > 250
    assert to_rgb8(np.full((3, 3), 7, np.uint16)).max() == 0
    two_colors = np.zeros((50, 50, 3), np.uint16)
    two_colors[:, :25, 0], two_colors[:, :25, 1] = 4000, 1000
    assert to_rgb8(two_colors)[0, 0].tolist() == [255, 64, 0]  # one scale for all channels


@pytest.mark.parametrize("shape", [(3,), (4, 4, 5), (2, 4, 4, 3), (0, 4)])
def test_to_rgb8_bad_shapes(shape):
    with pytest.raises(DataError, match="need"):
        to_rgb8(np.zeros(shape, np.uint8))


def test_palette_image_gives_colors(tmp_path):
    rgb = np.zeros((10, 12, 3), np.uint8)
    rgb[:, :6] = (200, 30, 120)
    buffer = io.BytesIO()
    Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE).save(buffer, "PNG")
    ((_, image),) = nuclei.read_images(write_folder(tmp_path, {"a.png": buffer.getvalue()}))
    assert np.abs(image.astype(int) - rgb).max() <= 1


# ---------------------------------------------------------------- broken files


def test_truncated_zip_and_not_a_zip(tmp_path):
    whole = write_zip(tmp_path / "x.zip", kaggle_files("a", squares())).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_bytes(b"hello")
    for name in ("cut.zip", "text.zip"):
        with pytest.raises(DataError, match=rf"{name}: not a zip archive, or a truncated one"):
            nuclei.read_nuclei(tmp_path / name)
    (tmp_path / "notes.txt").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"notes\.txt: neither an image by its name \(.*\.png.*\) nor a zip archive"):
        nuclei.read_nuclei(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="no such file or folder"):
        nuclei.read_nuclei(tmp_path / "absent.zip")


@pytest.mark.parametrize("place", [6, 8, 10], ids=["version of zip", "encrypted", "compression"])
def test_an_archive_with_a_damaged_table_of_contents(tmp_path, place):
    path = write_zip(tmp_path / "x.zip", kaggle_files("a", squares()))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + place] ^= 0x41  # bit 0 of the flags means encrypted
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.zip.*: (not a zip archive|damaged inside the archive)"):
        nuclei.read_nuclei(path)


def test_damaged_member_is_named(tmp_path):
    path = write_zip(tmp_path / "x.zip", kaggle_files("a", squares()))
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("a/masks/a-002.png").header_offset
    data = bytearray(path.read_bytes())
    data[start + 60 : start + 70] = bytes(10)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a-002\.png: damaged inside the archive"):
        nuclei.read_nuclei(path)


@pytest.mark.parametrize("name", ["cut.png", "cut.tif", "text.png", "text.tif"])
def test_corrupt_images_are_named(tmp_path, name):
    whole = png(RNG.integers(0, 255, (50, 50), dtype=np.uint8)) if name.endswith("png") else tiff(GRAY16)
    data = whole[: len(whole) * 2 // 3] if name.startswith("cut") else b"this is no image"
    with pytest.raises(DataError, match=rf"{name}: not a readable") as error:
        list(nuclei.read_images(write_folder(tmp_path, {name: data})))
    assert " at 0x" not in str(error.value), "an address in memory tells a user nothing"


def test_nan_in_tiff(tmp_path):
    values = np.ones((20, 30), np.float32)
    values[3, 4] = np.nan
    with pytest.raises(DataError, match=r"n\.tif: 1 values are NaN"):
        list(nuclei.read_images(write_folder(tmp_path, {"n.tif": tiff(values)})))


def label_with(value) -> bytes:
    labels = np.zeros(GRAY16.shape, np.float32)
    labels[3, 3] = value
    return tiff(labels)


KAGGLE, IMAGE = kaggle_files("a", squares()), png(GRAY16)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({**KAGGLE, "b/images/b.png": KAGGLE["a/images/a.png"]}, r"b/images/b\.png: need its masks"),
        (
            {"images/x.png": IMAGE, "images/y.png": IMAGE},
            r"x\.png: need exactly one label image .* in labels/, found 0",
        ),
        (
            {"images/x.png": IMAGE, "images/y.png": IMAGE, "labels/x.png": IMAGE},
            r"y\.png: need exactly one label image",
        ),
        (
            {**KAGGLE, "a/masks/a-002.png": png(np.full((20, 20), 255, np.uint8))},
            r"a-002\.png: mask of 20 x 20; its image has 48 x 40",
        ),
        ({"images/x.png": IMAGE, "labels/x.png": png(GRAY16.T.copy())}, r"label image of shape \(30, 20\)"),
        ({"images/x.png": IMAGE, "labels/x.tif": label_with(0.5)}, "whole numbers"),
        ({"images/x.png": IMAGE, "labels/x.tif": label_with(np.nan)}, "whole numbers"),
        ({"images/x.png": IMAGE, "labels/x.tif": label_with(-1)}, "label -1"),
    ],
    ids=["no masks", "no labels", "one label image", "mask size", "label size", "fraction", "NaN", "negative"],
)
def test_images_and_labels_that_do_not_fit(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        nuclei.read_nuclei(write_folder(tmp_path, files))


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "..\\evil.png", "C:\\evil.png"])
def test_names_that_lead_out_of_the_archive(tmp_path, name):
    path = write_zip(tmp_path / "x.zip", {**kaggle_files("a", squares()), name: b"x"})
    with pytest.raises(DataError, match="leads out of the archive"):
        nuclei.read_nuclei(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_decompression_bombs(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "x.zip", {"a.png": bytes(4_000_000)})
    monkeypatch.setattr(files_module, "MAX_MEMBER_BYTES", 1_000_000)
    with pytest.raises(DataError, match="4,000,000 bytes unpacked"):
        list(nuclei.read_images(path))

    header = png(np.zeros((4, 4), np.uint8))  # a PNG that claims 60,000 x 60,000 pixels in its header
    import struct
    import zlib

    claim = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = header[:16] + claim + struct.pack(">I", zlib.crc32(b"IHDR" + claim)) + header[33:]
    with pytest.raises(DataError, match=r"bomb\.png.*decompression bomb"):
        list(nuclei.read_images(write_folder(tmp_path / "png", {"bomb.png": bomb})))

    monkeypatch.setattr(limits, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match=r"bomb\.tif: 30 x 20 pixels of 16 bits, could be a decompression bomb"):
        list(nuclei.read_images(write_folder(tmp_path / "tif", {"bomb.tif": tiff(GRAY16)})))


def test_archive_is_closed_after_use(tmp_path):
    path = write_zip(tmp_path / "x.zip", kaggle_files("a", squares()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with ImageFiles(path) as files:
            assert len(files.names) == 4
        nuclei.read_nuclei(path)


# ---------------------------------------------------------------- kinds and normalization


def test_image_kind():
    def flat(*color):
        return np.broadcast_to(np.array(color, np.uint8), (8, 8, 3))

    assert nuclei.image_kind(flat(10, 10, 10)) == "fluorescence"
    assert nuclei.image_kind(flat(0, 0, 60)) == "fluorescence"  # blue dye on black
    assert nuclei.image_kind(flat(180, 150, 205)) == "histology"
    assert nuclei.image_kind(flat(220, 221, 220)) == "brightfield"


def test_normalize_sends_percentiles_to_0_and_1_and_inverts_bright_images():
    image = (RNG.random((64, 64, 1)) ** 3 * 255).astype(np.uint8).repeat(3, axis=2)
    result = nuclei.normalize(image)
    assert result.dtype == np.float32 and result.shape == image.shape
    np.testing.assert_allclose(np.percentile(result[:, :, 0], [1, 99.7]), [0, 1], atol=1e-5)
    np.testing.assert_allclose(nuclei.normalize(255 - image), result, atol=1e-5)
    np.testing.assert_allclose(nuclei.normalize(image.astype(np.float64)), result, atol=1e-5)
    assert nuclei.normalize(image.astype(np.float64)).dtype == np.float32


def test_normalize_clips_and_keeps_flat_images_flat():
    image = np.full((100, 100, 3), 20, np.uint8)
    assert np.abs(nuclei.normalize(image)).max() == 0
    image[:50] += 1
    image[0, 0] = 255
    assert nuclei.normalize(image).max() == 2


def test_normalize_keeps_colors_apart():
    image = np.zeros((50, 50, 3), np.uint8)
    image[:, 25:] = (200, 100, 0)
    assert np.allclose(nuclei.normalize(image)[0, 30], [2, 1, 0])


# ---------------------------------------------------------------- the committed split


def test_split_table_holds_out_a_fifth_in_whole_groups():
    rows = nuclei.split_table()
    assert len(rows) == len({row["id"] for row in rows}) == 664
    assert Counter(row["kind"] for row in rows) == {"fluorescence": 541, "histology": 107, "brightfield": 16}
    sides = defaultdict(set)
    for row in rows:
        sides[row["group"]].add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    for kind in nuclei.KINDS:
        held_out = [row["split"] == "validation" for row in rows if row["kind"] == kind]
        assert 0.17 <= np.mean(held_out) <= 0.26
    assert len(nuclei.validation_ids()) == 130


def test_unknown_images_train():
    known = sorted(nuclei.validation_ids())[0]
    samples = [nuclei.Sample(i, np.zeros((2, 2, 3), np.uint8), None, "fluorescence", i) for i in ("new", known)]
    train, validation = nuclei.split(samples)
    assert [s.id for s in train] == ["new"] and [s.id for s in validation] == [known]


def test_the_image_that_comes_with_tinynet_is_a_validation_image():
    sample = nuclei.example_nuclei()
    assert sample.id in nuclei.validation_ids() and sample.kind == "fluorescence"
    assert sample.image.shape == (256, 320, 3) and len(np.unique(sample.labels)) == 59  # 58 nuclei and the background


def test_edge_links_solve_a_jigsaw():
    field = np.cumsum(np.cumsum(RNG.normal(size=(128, 128)), 0), 1).astype(np.float32)
    field = 100 * (field - field.min()) / np.ptp(field)
    other = 100 - field[::-1, ::-1]
    pieces = [field[:64, :64], other[:64, :64], field[:64, 64:], field[64:, :64], field[64:, 64:]]
    assert {frozenset(link) for link in make_split.edge_links(pieces)} == {
        frozenset(pair) for pair in [(0, 2), (3, 4), (0, 3), (2, 4)]
    }
    assert make_split.edge_links([np.full((8, 8), 5.0)] * 3) == []  # flat edges prove nothing


def test_validation_is_drawn_in_whole_groups_by_seed():
    groups = [f"g{i // 5:02d}" for i in range(200)]
    chosen = make_split.choose_validation(["fluorescence"] * 200, groups)
    assert chosen == make_split.choose_validation(["fluorescence"] * 200, groups)
    assert 0.95 * 40 <= 5 * len(chosen) <= 1.25 * 40
    assert chosen != make_split.choose_validation(["fluorescence"] * 200, groups, seed=1)


@real_data
def test_some_real_images():
    rows = {row["id"]: row for row in nuclei.split_table()}
    ids = sorted(rows)[:8] + [i for i in sorted(rows) if rows[i]["kind"] == "histology"][:3]
    samples = nuclei.read_nuclei(REAL_ZIP, ids=ids)
    assert [s.id for s in samples] == sorted(set(ids))
    for sample in samples:
        assert sample.kind == rows[sample.id]["kind"] and sample.group == rows[sample.id]["group"]
        assert sample.labels.shape == sample.image.shape[:2]
        assert (np.unique(sample.labels) == np.arange(sample.labels.max() + 1)).all()


@real_data
@pytest.mark.slow
def test_all_real_images_and_their_split(tmp_path):
    samples = nuclei.read_nuclei(REAL_ZIP)
    assert len(samples) == 664
    assert sum(int(s.labels.max()) for s in samples) == 28_986
    rows = {row["id"]: row for row in nuclei.split_table()}
    assert all(s.kind == rows[s.id]["kind"] for s in samples)
    # No field is divided: images whose edges continue in one another are on the same side of the split.
    by_look = defaultdict(list)
    for sample in samples:
        by_look[sample.kind, sample.image.shape].append(sample)
    for alike in by_look.values():
        for i, j in make_split.edge_links([nuclei.gray(s.image) for s in alike]):
            assert rows[alike[i].id]["split"] == rows[alike[j].id]["split"]
