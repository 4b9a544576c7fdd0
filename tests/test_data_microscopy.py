"""Files as microscopes' programs write them: every plane, the channel that is asked for, the size of a pixel."""

import io
import tracemalloc
import unicodedata
import warnings
from collections import Counter

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nuclei_files import png, squares, tiff, write_folder, write_zip
from PIL import Image

from tinynet.data import nuclei, read_nuclei, read_planes
from tinynet.errors import DataError, UsageError

RNG = np.random.default_rng(3)
STACK = RNG.integers(0, 4096, (2, 3, 2, 20, 24)).astype(np.uint16)  # T, Z, C, Y, X
GRAY = STACK[0, 0, 0]
RGB = RNG.integers(0, 256, (20, 24, 3)).astype(np.uint8)


def ome(array=STACK, axes="TZCYX", names=("DAPI", "GFP"), um=0.25, **options) -> bytes:
    sizes = {f"PhysicalSize{axis}": um for axis in "XY"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    channels = {"Channel": {"Name": list(names)}} if names else {}
    return tiff(array, ome=True, metadata={"axes": axes, **channels, **sizes}, **options)


def imagej(array=STACK, axes="TZCYX", **options) -> bytes:
    metadata = {"axes": axes, "unit": "um"} | options.pop("metadata", {})
    return tiff(array, imagej=True, resolution=(4, 4), metadata=metadata, **options)


def pages(*arrays, **options) -> bytes:
    """A TIFF that says nothing about its pages."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for array in arrays:
            writer.write(array, photometric="minisblack", metadata=None, contiguous=False, **options)
    return file.getvalue()


def planes(folder, data, name="a.tif", **arguments):
    return list(read_planes(write_folder(folder, {name: data}) / name, **arguments))


def refused(folder, data, message, name="a.tif", **arguments):
    with pytest.raises(DataError, match=message) as error:
        planes(folder, data, name, **arguments)
    assert name in str(error.value)
    assert len(str(error.value)) < 400


# ---------------------------------------------------------------- stacks and channels

KINDS = {
    "OME": ome(),
    "OME, BigTIFF, tiles, deflate": ome(bigtiff=True, tile=(16, 16), compression="zlib"),
    "OME, big endian": ome(byteorder=">"),
    "ImageJ": imagej(),
    "ImageJ, one page": imagej(truncate=True),
    "tifffile": tiff(STACK, metadata={"axes": "TZCYX"}),
    "tifffile, one page": tiff(STACK, metadata={"axes": "TZCYX"}, truncate=True),
    "channels in a pixel": tiff(
        np.moveaxis(STACK, 2, -1), photometric="minisblack", planarconfig="contig", metadata={"axes": "TZYXC"}
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_plane_of_a_stack_and_all_its_channels(kind, tmp_path):
    found = planes(tmp_path, KINDS[kind], channel=2)
    assert [plane.name for plane in found] == [f"a_t{t:02d}_z{z:02d}" for t in (1, 2) for z in (1, 2, 3)]
    for plane, expected in zip(found, STACK.reshape(6, 2, 20, 24)):  # also when the file is no longer open
        np.testing.assert_array_equal(plane.pixels, expected[1])
        np.testing.assert_array_equal(list(plane.channels.values()), expected)
        assert plane.source.endswith(f"a.tif ({plane.name[2:].replace('_', ' ')})")


@pytest.mark.parametrize("kind", KINDS)
def test_the_maximum_over_slices(kind, tmp_path):
    found = planes(tmp_path, KINDS[kind], channel=1, project="max")
    assert [plane.name for plane in found] == ["a_t01", "a_t02"]
    np.testing.assert_array_equal([plane.pixels for plane in found], STACK[:, :, 0].max(1))
    np.testing.assert_array_equal([list(p.channels.values())[1] for p in found], STACK[:, :, 1].max(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_is_never_guessed(kind, tmp_path):
    names = "1 DAPI, 2 GFP" if "OME" in kind else "1, 2"
    refused(tmp_path, KINDS[kind], f"2 channels: {names}; which one shows the nuclei.*--channel")
    refused(tmp_path, KINDS[kind], f"no channel 3; it has {names}", channel=3)
    refused(tmp_path, KINDS[kind], f"no channel 'Cy5'; it has {names}", channel="Cy5")


def test_channels_by_number_and_by_name(tmp_path):
    for channel, expected in (("GFP", 1), ("gfp", 1), (1, 0), ("2", 1)):
        found = planes(tmp_path, ome(), channel=channel)
        np.testing.assert_array_equal(found[0].pixels, STACK[0, 0, expected])
        assert list(found[0].channels) == ["DAPI", "GFP"]
    numbers = ome(names=("2", "1"))
    np.testing.assert_array_equal(planes(tmp_path, numbers, channel="2")[0].pixels, STACK[0, 0, 0])
    twice = ome(names=("DAPI", "DAPI"))
    refused(tmp_path, twice, "no channel 'DAPI'; it has 1 1 DAPI, 2 2 DAPI|it has 1 DAPI, 2 DAPI", channel="DAPI")
    assert list(planes(tmp_path, twice, channel=2)[0].channels) == ["1 DAPI", "2 DAPI"]
    with pytest.raises(UsageError, match="counted from 1"):
        planes(tmp_path, ome(), channel=0)
    with pytest.raises(UsageError, match="need 'max'"):
        planes(tmp_path, ome(), project="mean")


def test_labels_of_imagej_name_channels(tmp_path):
    labels = {"Labels": ["DAPI", "GFP"] * 6}
    assert list(planes(tmp_path, imagej(metadata=labels), channel="gfp")[5].channels) == ["DAPI", "GFP"]
    labels = {"Labels": [f"c:{c}/2 z:{z}/3 - x.lif" for _ in "tt" for z in (1, 2, 3) for c in (1, 2)]}
    assert list(planes(tmp_path, imagej(metadata=labels), channel=1)[0].channels) == ["1", "2"]


def test_a_single_channel_and_color_need_no_choice(tmp_path):
    (plane,) = planes(tmp_path, tiff(GRAY), channel=1)
    assert (plane.name, list(plane.channels), plane.source) == ("a", ["gray"], str(tmp_path / "a.tif"))
    refused(tmp_path, tiff(GRAY), "no channel 2; it has 1 gray", channel=2)
    for data in (tiff(RGB, photometric="rgb"), imagej(RGB[None], "ZYXS"), ome(RGB, "YXS", None), png(RGB)):
        (plane,) = planes(tmp_path, data)
        np.testing.assert_array_equal(plane.pixels, RGB)
        np.testing.assert_array_equal(np.dstack(list(plane.channels.values())), RGB)
        assert list(plane.channels) == ["red", "green", "blue"]
        np.testing.assert_array_equal(planes(tmp_path, data, channel="Blue")[0].pixels, RGB[:, :, 2])
        refused(tmp_path, data, "a color image, without a channel 1; give none, or red, green, blue", channel=1)


def test_a_gray_image_that_was_saved_in_color_has_one_channel(tmp_path):
    for data in (png(np.dstack([GRAY] * 3).astype(np.uint8)), tiff(np.dstack([GRAY] * 3), photometric="rgb")):
        for channel in (None, "blue"):
            (plane,) = planes(tmp_path, data, channel=channel)
            assert plane.pixels.shape == (*GRAY.shape, 3)
            assert list(plane.channels) == ["gray"]
            np.testing.assert_array_equal(plane.channels["gray"], plane.pixels[:, :, 2])
    for changed in (0, 1, 2):  # one pixel of one color
        pixels = np.dstack([GRAY] * 3)
        pixels[-1, -1, changed] ^= 1
        (plane,) = planes(tmp_path, tiff(pixels, photometric="rgb"))
        assert list(plane.channels) == ["red", "green", "blue"]


def test_color_stacks(tmp_path):
    stack = np.stack([RGB, 255 - RGB])
    for data in (
        tiff(stack, photometric="rgb", metadata={"axes": "ZYXS"}),
        imagej(stack, "ZYXS"),
        ome(stack, "ZYXS", None),
    ):
        assert [plane.name for plane in planes(tmp_path, data)] == ["a_z01", "a_z02"]
        np.testing.assert_array_equal([plane.pixels for plane in planes(tmp_path, data)], stack)
        np.testing.assert_array_equal(planes(tmp_path, data, project="max")[0].pixels, stack.max(0))
    two = ome(np.stack([stack, 255 - stack], 1), "ZCYXS", ("H&E", "IHC"))
    refused(tmp_path, two, "2 channels: 1 H&E, 2 IHC")
    np.testing.assert_array_equal(planes(tmp_path, two, channel="IHC")[1].pixels, RGB)


def test_pages_that_the_file_does_not_explain(tmp_path):
    data = pages(*STACK[0, :, 0])
    assert [plane.name for plane in planes(tmp_path, data)] == ["a_p01", "a_p02", "a_p03"]
    np.testing.assert_array_equal(planes(tmp_path, data, project="max")[0].pixels, STACK[0, :, 0].max(0))
    with pytest.warns(UserWarning, match=r"a\.tif: it does not say what its 3 pages are.*taken for channels"):
        (plane,) = planes(tmp_path, data, channel=3)
    np.testing.assert_array_equal(list(plane.channels.values()), STACK[0, :, 0])
    np.testing.assert_array_equal(plane.pixels, STACK[0, 2, 0])
    sizes = planes(tmp_path, pages(GRAY, GRAY[:10]))
    assert [(plane.name, plane.pixels.shape) for plane in sizes] == [("a_s01", (20, 24)), ("a_s02", (10, 24))]
    (alone,) = planes(tmp_path, with_thumbnail(GRAY))
    np.testing.assert_array_equal(alone.pixels, GRAY)


def with_thumbnail(array) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(array, metadata=None)
        writer.write(array[:7, :5], metadata=None, subfiletype=1)
    return file.getvalue()


def test_an_ome_file_with_several_images(tmp_path):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        for array in (STACK[0, :, 0], STACK[0, :, 1]):
            writer.write(array, metadata={"axes": "ZYX"}, photometric="minisblack")
    found = planes(tmp_path, file.getvalue())
    assert [plane.name for plane in found] == [f"a_s{s:02d}_z{z:02d}" for s in (1, 2) for z in (1, 2, 3)]
    np.testing.assert_array_equal(found[4].pixels, STACK[0, 1, 1])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_stacks_of_any_shape(tmp_path, data):
    axes = "".join(data.draw(st.permutations("TZC"))[: data.draw(st.integers(0, 3))])
    shape = tuple(data.draw(st.integers(1, 3)) for _ in axes)
    size = (data.draw(st.integers(10, 30)), data.draw(st.integers(10, 30)))
    dtype = data.draw(st.sampled_from(["u1", "u2", ">u2", "f4", "i2"]))
    array = RNG.integers(0, 100, (*shape, *size)).astype(dtype)
    kind = data.draw(st.sampled_from(["ome", "shaped"]))
    options = {"tile": (16, 16)} if data.draw(st.booleans()) else {}
    compression = data.draw(st.sampled_from([None, "zlib", "lzma"]))
    written = tiff(
        array,
        ome=kind == "ome",
        metadata={"axes": axes + "YX"},
        photometric="minisblack",
        compression=compression,
        **options,
    )
    channels = dict(zip(axes, shape)).get("C", 1)
    found = planes(tmp_path, written, channel=channels)
    order = [axes.index(axis) for axis in "TZC" if axis in axes]
    expected = array.transpose([*order, array.ndim - 2, array.ndim - 1]).reshape(-1, channels, *size)
    assert len(found) == len(expected)
    for plane, values in zip(found, expected):
        np.testing.assert_array_equal(plane.pixels, values[-1])
        assert len(plane.channels) == channels


# ---------------------------------------------------------------- values


def test_packed_12_bits(tmp_path):
    """Each row of packed numbers starts at a whole byte. tifffile writes bytes; then the header says what they are."""
    array = RNG.integers(0, 4096, (9, 7)).astype(np.uint16)
    binary = np.unpackbits(array.astype(">u2").view(np.uint8).reshape(9, 7, 2), axis=-1).reshape(9, 7, 16)[..., 4:]
    data = bytearray(tiff(np.packbits(binary.reshape(9, -1), axis=1), metadata=None))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for code, value in ((256, 7), (258, 12)):  # width, bits
            data[file.pages.first.tags[code].valueoffset] = value
    (plane,) = planes(tmp_path, bytes(data))
    np.testing.assert_array_equal(plane.pixels, array)
    assert plane.pixels.dtype == np.uint16
    refused(tmp_path, bytes(data[:-20]), "corrupt or truncated")


def lzw_pages(mode, arrays, **options) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.fromarray(array) for array in arrays]
    first.save(file, "TIFF", save_all=True, append_images=others, compression=mode, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4", "zstd"])
def test_every_page_of_a_compressed_file(mode, tmp_path):
    lossy = mode == "jpeg"
    smooth = np.add.outer(np.arange(20), np.arange(24)).astype(np.uint8)
    arrays = [smooth * 3, 255 - smooth * 2, smooth] if mode != "group4" else [smooth > n for n in (5, 20, 35)]
    found = planes(tmp_path, lzw_pages(mode, arrays))
    assert len(found) == 3
    for plane, array in zip(found, arrays):
        assert np.abs(plane.pixels.astype(int) - array).max() <= (6 if lossy else 0)
    if mode == "tiff_lzw":
        large = RNG.integers(0, 9, (300, 401)).astype(np.uint8)  # two strips, the second one is shorter
        np.testing.assert_array_equal(planes(tmp_path, lzw_pages(mode, [large]))[0].pixels, large)
        deep = [values.astype(np.uint16) * 250 for values in arrays]
        np.testing.assert_array_equal([p.pixels for p in planes(tmp_path, lzw_pages(mode, deep))], deep)


def test_pictures_of_cameras_and_scanners(tmp_path):
    """CMYK and rotated JPEG, palettes, alpha and one bit: what a viewer shows, without alpha."""
    smooth = np.add.outer(np.arange(20), np.arange(24)).astype(np.uint8) * 5
    color = Image.fromarray(np.dstack([smooth, smooth // 2, 255 - smooth]))
    rotated = Image.Exif()
    rotated[274] = 6  # the camera was turned: a viewer turns the picture by 90 degrees
    cases = {
        "cmyk.jpg": (color.convert("CMYK"), {"quality": 95}, color),
        "rotated.jpg": (color, {"quality": 95, "exif": rotated.tobytes()}, color.transpose(Image.Transpose.ROTATE_270)),
        "alpha.png": (color.convert("RGBA"), {}, color),
        "gray_alpha.png": (Image.fromarray(smooth).convert("LA"), {}, Image.fromarray(smooth)),
        "palette.png": (color.quantize(), {}, color.quantize().convert("RGB")),
        "palette.bmp": (color.quantize(), {}, color.quantize().convert("RGB")),
        "one_bit.png": (Image.fromarray(smooth > 80), {}, Image.fromarray(smooth > 80)),
        "one_bit.tif": (Image.fromarray(smooth > 80), {}, Image.fromarray(smooth > 80)),
    }
    for name, (image, options, seen) in cases.items():
        image.save(tmp_path / name, **options)
        (plane,) = read_planes(tmp_path / name)
        expected = np.asarray(seen)
        assert plane.pixels.shape == expected.shape, name
        assert np.abs(plane.pixels.astype(int) - expected).max() <= (30 if name.endswith("jpg") else 0), name
        data = (tmp_path / name).read_bytes()
        refused(tmp_path, data[: len(data) * 2 // 3], "corrupt|truncated", name)


def test_a_palette_of_a_microscope_is_only_its_display(tmp_path):
    colormap = np.zeros((3, 256), np.uint16)
    colormap[2] = np.arange(256) * 257  # shown in blue
    eight = (GRAY // 16).astype(np.uint8)
    (plane,) = planes(tmp_path, tiff(eight, photometric="palette", colormap=colormap, ome=True))
    np.testing.assert_array_equal(plane.pixels, eight)
    (plane,) = planes(tmp_path, tiff(eight, photometric="palette", colormap=colormap, metadata=None))
    np.testing.assert_array_equal(plane.pixels[:, :, 2], eight)


def test_large_planes_and_one_in_memory_at_a_time(tmp_path):
    """12,000 x 12,000 pixels of 16 bits are within the limit; of a stack, one plane is in memory."""
    from tinynet.data.limits import check_size

    for shape, bits in (((12_000, 12_000, 1), 16), ((12_000, 12_000, 3), 8), ((12_000, 12_000, 1), 32)):
        check_size("a.tif", shape, bits)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, shape=(20, 1000, 1000), dtype=np.uint16, imagej=True, metadata={"axes": "ZYX"})
    tracemalloc.start()
    count = sum(1 for _ in read_planes(path))
    list(read_planes(path, project="max"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20 and peak < 5 * 2_000_000


# ---------------------------------------------------------------- the size of a pixel


@pytest.mark.parametrize("unit", [b"um", b"microns", b"\\u00B5m", b"\xb5m", "\u00b5m".encode(), "\u03bcm".encode()])
def test_pixel_size_of_imagej(unit, tmp_path):
    place = b"?" * len(unit)
    data = imagej(GRAY, "YX", metadata={"unit": place.decode()}).replace(place, unit)
    assert planes(tmp_path, data)[0].pixel_size == 0.25


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imagej": True, "resolution": (1 / 250, 1 / 250), "metadata": {"unit": "nm"}}, 0.25),
        ({"imagej": True, "resolution": (4000, 4000), "metadata": {"unit": "mm"}}, 0.25),
        ({"imagej": True, "resolution": (72, 72), "metadata": {"unit": "inch"}}, None),
        ({"imagej": True, "resolution": (1, 1), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True, "resolution": (4, 4)}, None),
        ({"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (101_600, 101_600), "resolutionunit": "INCH"}, 0.25),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (96, 96), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (4800, 4800), "resolutionunit": "INCH"}, None),
        ({"resolution": (28.3, 28.3), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (40_000, 40_000), "resolutionunit": "NONE"}, None),
        ({}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}}, 0.25),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0, "PhysicalSizeY": 0}}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 2, "PhysicalSizeXUnit": "pixel"}}, None),
        ({"ome": True, "metadata": {}}, None),
    ],
)
def test_pixel_size(options, expected, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (plane,) = planes(tmp_path, tiff(GRAY, **options))
    assert plane.pixel_size == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "options",
    [
        {"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}},
        {"imagej": True, "resolution": (2, 4), "metadata": {"unit": "um"}},
    ],
)
def test_pixels_that_are_not_square_are_said(options, tmp_path):
    with pytest.warns(UserWarning, match=r"a\.tif: its pixels are not square, 0\.5 x 0\.25 micrometers"):
        (plane,) = planes(tmp_path, tiff(GRAY, **options))
    assert plane.pixel_size is None


# ---------------------------------------------------------------- names and folders


def names_in(folder, files, **arguments):
    return [plane.name for plane in read_planes(write_folder(folder, files), **arguments)]


def test_names_of_all_kinds(tmp_path):
    image = png(GRAY)
    umlaut = "Käfer"
    files = {
        "A b, c.PNG": image,
        "deep/er/x.Tiff": tiff(GRAY),
        f"{unicodedata.normalize('NFD', umlaut)}.png": image,
        "cells.ome.tif": ome(GRAY, "YX", None),
        "same.png": image,
        "same.tif": tiff(GRAY),
        "SAME.bmp": image,
        "1/twin.png": image,
        "2/twin.png": image,
    }
    found = names_in(tmp_path, files)
    assert sorted(found) == sorted(
        ["A b, c", "x", umlaut, "cells", "same.png", "same.tif", "SAME.bmp", "1_twin.png", "2_twin.png"]
    )


def test_the_same_stem_in_several_paths(tmp_path):
    write_folder(tmp_path, {"a.tif": tiff(GRAY), "a.png": png(GRAY), "x/b.png": png(GRAY), "y/b.png": png(GRAY)})
    found = [plane.name for plane in read_planes([tmp_path / "a.tif", tmp_path / "a.png"])]
    assert found == ["a.tif", "a.png"]
    found = [plane.name for plane in read_planes([tmp_path / "x", tmp_path / "y" / "b.png"])]
    assert found[0] != found[1] and all(name.endswith("b.png") for name in found)
    skipped = []
    assert len(list(read_planes([tmp_path / "a.tif", tmp_path / "a.tif"], skipped=skipped))) == 1
    assert "given twice" in str(skipped[0])


def test_a_plane_never_takes_the_name_of_an_image(tmp_path):
    files = {"a.tif": ome(STACK[0, :, 0], "ZYX", None), "a_z02.png": png(GRAY)}
    with pytest.raises(DataError, match=r"a_z02\.png: the name 'a_z02' was taken by .*a\.tif \(z02\)"):
        names_in(tmp_path, files)


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_what_systems_leave_behind_is_ignored_and_counted(write, tmp_path):
    junk = (
        "._a.png",
        "x/._b.tif",
        "__MACOSX/._a.png",
        ".DS_Store",
        "x/.DS_Store",
        "Thumbs.db",
        "notes.txt",
        ".git/c.png",
        "__MACOSX/b.png",
    )
    files = {"a.png": png(GRAY), "labels/a.tif": tiff(GRAY), **dict.fromkeys(junk, b"junk")}
    ignored = Counter()
    (plane,) = read_planes(write(tmp_path / "in.zip", files), ignored=ignored)
    assert plane.name == "a"
    kinds = {"._*": 2, "__MACOSX/": 2, ".DS_Store": 2, "Thumbs.db": 1, "*.txt": 1, ".git/": 1, "labels/": 1}
    assert ignored == kinds


def test_unreadable_files_are_named_and_the_others_follow(tmp_path):
    whole = imagej(STACK[:, :, 0], "TZYX")
    files = {
        "1.tif": whole,
        "2.tif": whole[: len(whole) // 2],
        "3.png": b"no image",
        "4.czi": b"ZISRAWFILE",
        "5.tif": ome(),
        "6.png": png(GRAY),
    }
    skipped, ignored = [], Counter()
    found = list(read_planes(write_folder(tmp_path, files), skipped=skipped, ignored=ignored))
    assert [plane.name for plane in found] == [f"1_t{t:02d}_z{z:02d}" for t in (1, 2) for z in (1, 2, 3)] + ["6"]
    assert ["2.tif: " in str(skipped[0]), "3.png: not a readable" in str(skipped[1])] == [True, True]
    assert "4.czi: a microscope's own format" in str(skipped[2]) and "5.tif: 2 channels" in str(skipped[3])
    assert len(skipped) == 4 and not ignored
    with pytest.raises(DataError, match="microscope's own format"):
        list(read_planes(tmp_path / "4.czi"))


# ---------------------------------------------------------------- damaged twins


def ome_with(change, data=None) -> bytes:
    """An OME-TIFF whose XML is changed: the old XML becomes spaces, the new one stands at the end of the file."""
    data = ome() if data is None else data
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages.first.tags["ImageDescription"]
        place, count = tag.valueoffset, tag.count
    xml = change(data[place : place + count].rstrip(b"\0").decode()).encode() + b"\0"
    changed = bytearray(data) + xml
    entry = tag.offset
    changed[entry + 4 : entry + 8] = len(xml).to_bytes(4, "little")
    changed[entry + 8 : entry + 12] = len(data).to_bytes(4, "little")
    return bytes(changed)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi")
)
BOMB += "]>"
DAMAGED = {
    "entity bomb": (lambda xml: xml.replace("<OME", BOMB + "<OME").replace("DAPI", "&i;"), "defines entities"),
    "cut XML": (lambda xml: xml[: len(xml) // 2], "do not fit its description"),
    "no end of a tag": (lambda xml: xml.replace("</Pixels>", ""), "OME-XML is corrupt"),
    "more planes": (lambda xml: xml.replace('SizeT="2"', 'SizeT="3"'), "corrupt|18 planes, 6 of them are not"),
    "a trillion planes": (lambda xml: xml.replace('SizeT="2"', 'SizeT="999999999999"'), "OME-XML is corrupt"),
    "no planes": (lambda xml: xml.replace('SizeT="2"', 'SizeT="0"'), "OME-XML is corrupt"),
    "a word for a size": (lambda xml: xml.replace('SizeT="2"', 'SizeT="two"'), "OME-XML is corrupt"),
    "no size": (lambda xml: xml.replace('SizeT="2"', ""), "OME-XML is corrupt"),
    "wrong order": (lambda xml: xml.replace("XYCZT", "XYCZZ"), "OME-XML is corrupt"),
    "wider planes": (lambda xml: xml.replace('SizeX="24"', 'SizeX="48"'), "describes planes of"),
    "samples": (
        lambda xml: xml.replace('SamplesPerPixel="1"', 'SamplesPerPixel="2"'),
        "OME-XML is corrupt",
    ),
    "no samples": (lambda xml: xml.replace('SamplesPerPixel="1"', 'SamplesPerPixel="0"'), "OME-XML is corrupt"),
    "page beyond the end": (lambda xml: xml.replace('IFD="0"', 'IFD="7"'), "planes, .* of them are not in the file"),
    "negative page": (lambda xml: xml.replace('IFD="0"', 'IFD="-7"'), "OME-XML is corrupt"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_ome_xml(name, tmp_path):
    change, message = DAMAGED[name]
    assert len(planes(tmp_path, ome_with(lambda xml: xml), channel=1)) == 6, "unchanged it is read"
    data = ome_with(change)
    assert data != ome_with(lambda xml: xml)
    tracemalloc.start()
    refused(tmp_path, data, message, channel=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_a_set_of_ome_files_gives_the_planes_of_each(tmp_path):
    """Each file of a set describes all of it; here the first time point is in this file, the second in another."""
    blocks = '<TiffData FirstT="{0}" IFD="{1}" PlaneCount="6"><UUID FileName="{2}.tif">urn:{2}</UUID></TiffData>'

    def of_two_files(xml):
        start, end = xml.index("<TiffData"), xml.index("</Pixels>")
        return xml[:start] + blocks.format(0, 0, "a") + blocks.format(1, 0, "b") + xml[end:]

    found = planes(tmp_path, ome_with(of_two_files), channel="GFP")
    assert [plane.name for plane in found] == ["a_z01", "a_z02", "a_z03"]
    np.testing.assert_array_equal([plane.pixels for plane in found], STACK[0, :, 1])
    refused(tmp_path, ome_with(of_two_files), "names no page of this file", "c.tif", channel=1)


def test_lying_imagej_and_shapes(tmp_path):
    for data, old, new in (
        (imagej(), b"slices=3", b"slices=9"),
        (imagej(truncate=True), b"frames=2", b"frames=7"),
        (tiff(STACK, metadata={"axes": "TZCYX"}), b"[2, 3, 2, 20, 24]", b"[2, 9, 2, 20, 24]"),
        (tiff(STACK, metadata={"axes": "TZCYX"}, truncate=True), b"[2, 3, 2, 20, 24]", b"[2, 9, 2, 20, 24]"),
    ):
        assert old in data
        refused(tmp_path, data.replace(old, new), "do not fit|truncated|describ", channel=1)


def test_channels_that_were_written_as_width(tmp_path):
    """`imwrite` of an array (H, W, 2) writes H planes of W x 2 pixels."""
    refused(tmp_path, tiff(np.moveaxis(STACK[0, 0], 0, -1)), "channels were written as the width")


def test_a_broken_chain_of_pages(tmp_path):
    data = pages(*STACK[0, :, 0])
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        last = file.pages[2].offset
    place = data.rindex(last.to_bytes(4, "little"))
    for offset in (last + 10**6, 8):  # beyond the end, and back to the first page
        damaged = data[:place] + offset.to_bytes(4, "little") + data[place + 4 :]
        refused(tmp_path, damaged, "page 3 cannot be found")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(kind, tmp_path):
    data = KINDS[kind]
    for part in (0.3, 0.6, 0.95):
        refused(tmp_path, data[: int(len(data) * part)], "corrupt|truncated|planes|pages", channel=1)


# ---------------------------------------------------------------- training


def test_training_reads_the_channel_of_the_nuclei(tmp_path):
    labels = squares()
    two = np.stack([np.zeros_like(labels), np.where(labels > 0, 900, 20)]).astype(np.uint16)
    files = {"images/x.ome.tif": ome(two, "CYX"), "labels/x.png": png(labels.astype(np.uint8))}
    (sample,) = read_nuclei(write_folder(tmp_path, files), channel="GFP", progress=False)
    assert sample.id == "x" and sample.image[labels > 0].min() == 255
    with pytest.raises(DataError, match=r"x\.ome\.tif: 2 channels: 1 DAPI, 2 GFP; which one"):
        read_nuclei(tmp_path, progress=False)
    stack = {"images/x.ome.tif": ome(STACK[0, :, 0], "ZYX", None)}
    with pytest.raises(DataError, match="a stack of several planes"):
        read_nuclei(write_folder(tmp_path, stack), progress=False)
    assert [name for name, _ in nuclei.read_images(tmp_path)] == ["x_z01", "x_z02", "x_z03"]
