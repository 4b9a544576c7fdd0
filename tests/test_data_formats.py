"""Image files as microscopes and programs write them: the right values, or a sentence that says what is wrong."""

import io
import lzma
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from nuclei_files import kaggle_files, png, squares, tiff, write_folder, write_zip
from PIL import Image, ImageCms

from tinynet.data import chest_xray, nuclei, read_planes
from tinynet.data.decode import decode, decode_labels, decode_mask
from tinynet.data.eight_bits import to_rgb8
from tinynet.errors import DataError
from tinynet.imaging import instances

RNG = np.random.default_rng(1)
RGB16 = RNG.integers(0, 65536, (17, 23, 3)).astype(np.uint16)
GRAY8 = RNG.integers(0, 256, (17, 23)).astype(np.uint8)


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def png16(array: np.ndarray, rows: int | None = None) -> bytes:
    """A 16-bit PNG of any number of channels; `rows`: write only the first ones."""
    height, width, channels = array.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array[:rows])
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return png_chunks((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))


def pillow(image: Image.Image | np.ndarray, kind: str = "TIFF", **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff_by_hand(samples: np.ndarray, compression: int, pack, order: str = "<", **tags) -> bytes:
    """A TIFF of one strip, samples (H, W, C), whose bytes `pack` compresses. tags: t262=2 sets tag 262 (color)."""
    height, width, channels = samples.shape
    body = pack(samples.astype(samples.dtype.newbyteorder(order)).tobytes())
    values = {256: width, 257: height, 259: compression, 262: 2, 273: 0, 277: channels, 278: height, 279: len(body)}
    values |= {int(name[1:]): value for name, value in tags.items()}
    start = 8 + 2 + 12 * (len(values) + 1) + 4
    values[273] = start + 2 * channels
    entries = {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in values.items()}
    bits = struct.pack(f"{order}{channels}H", *[8 * samples.itemsize] * channels)
    inline = struct.pack(f"{order}HHI", 258, 3, channels)
    entries[258] = inline + (bits.ljust(4, b"\0") if channels < 3 else struct.pack(f"{order}I", start))
    ifd = struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8) + ifd + bits + body


def packbits(data: bytes) -> bytes:
    return b"".join(bytes([len(part) - 1]) + part for part in (data[i : i + 128] for i in range(0, len(data), 128)))


def lzw(data: bytes) -> bytes:
    """LZW as TIFF has it, with a clear code before the code width would change: 9 bits each."""
    codes = [code for i, byte in enumerate(data) for code in ([256] if i % 200 == 0 else []) + [byte]] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


PACKERS = {"none": (1, bytes), "lzw": (5, lzw), "packbits": (32773, packbits), "deflate": (8, zlib.compress)}
PACKERS["lzma"] = (34925, lzma.compress)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", PACKERS)
def test_16_bit_color_tiff_keeps_both_bytes(name, order):
    data = tiff_by_hand(RGB16, *PACKERS[name], order)
    np.testing.assert_array_equal(decode(data, "a.tif"), RGB16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_both_bytes(channels):
    array = np.dstack([RGB16, RGB16[:, :, :1] // 2])[:, :, -channels if channels == 2 else 0 :][:, :, :channels]
    expected = array[:, :, :3] if channels >= 3 else array[:, :, 0]
    np.testing.assert_array_equal(decode(png16(array), "a.png"), expected)


def test_floats_with_a_predictor():
    values = RNG.normal(size=(17, 23)).astype(np.float32)
    planes = values.astype(">f4").view(np.uint8).reshape(17, 23, 4).transpose(0, 2, 1).reshape(17, -1)
    packed = zlib.compress(np.diff(planes, axis=1, prepend=np.uint8(0)).tobytes())
    data = tiff_by_hand(values[:, :, None], 8, lambda _: packed, t262=1, t317=3, t339=3)
    np.testing.assert_array_equal(decode(data, "a.tif"), values)


ORIENTED = {  # orientation of EXIF and TIFF: what is stored so that a viewer shows GRAY8
    2: GRAY8[:, ::-1],
    3: GRAY8[::-1, ::-1],
    4: GRAY8[::-1],
    5: GRAY8.T,
    6: np.rot90(GRAY8),
    7: GRAY8[::-1, ::-1].T,
    8: np.rot90(GRAY8, -1),
}


@pytest.mark.parametrize("read", [decode, decode_labels], ids=["image", "labels"])
@pytest.mark.parametrize("kind", ["png", "png16", "tiff", "lzw"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_orientation_is_obeyed(orientation, kind, read):
    stored, expected = np.ascontiguousarray(ORIENTED[orientation]), GRAY8.astype(int)
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "png16":
        array = stored[:, :, None].astype(np.uint16) * 256 + 7
        data = png16(array)
        chunk = exif.tobytes().removeprefix(b"Exif\0\0")
        header, rest = data[:33], data[33:]
        data, expected = header + png_chunks((b"eXIf", chunk))[8:] + rest, expected * 256 + 7
    elif kind == "png":
        data = pillow(stored, "PNG", exif=exif.tobytes())
    else:
        data = pillow(stored, tiffinfo={274: orientation}, compression="tiff_lzw" if kind == "lzw" else None)
    np.testing.assert_array_equal(read(data, "a"), expected)


def lab(image):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


SMOOTH = np.zeros((24, 32, 3), np.uint8) + np.uint8([110, 55, 220])
SMOOTH[8:16, 8:24] = (15, 7, 30)
MODELS = {"CMYK": lambda i: i.convert("CMYK"), "YCbCr": lambda i: i.convert("YCbCr"), "LAB": lab}
MODELS["P"] = lambda i: i.convert("P", palette=Image.Palette.ADAPTIVE)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("model", MODELS)
def test_color_models_of_tiff_become_rgb(model, compression):
    data = pillow(MODELS[model](Image.fromarray(SMOOTH)), compression=compression)
    assert np.abs(decode(data, "a.tif").astype(int) - SMOOTH).max() <= 3


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_white_is_zero_is_inverted(compression):
    data = pillow(GRAY8, tiffinfo={262: 0}, compression=compression)
    np.testing.assert_array_equal(decode(data, "a.tif"), GRAY8)
    deep = GRAY8.astype(np.uint16) * 250
    np.testing.assert_array_equal(decode(tiff(65535 - deep, photometric="miniswhite"), "a.tif"), deep)


MASK = squares() == 1
MASKS = {
    "tifffile bool": tiff(MASK),
    "tifffile bool, deflate": tiff(MASK, compression="zlib"),
    "Pillow 1 bit": pillow(MASK),
    "Pillow 1 bit, group 4": pillow(MASK, compression="group4"),
    "ImageJ, inverting": tiff(MASK.astype(np.uint8) * 255, photometric="miniswhite", imagej=True),
    "16 bits, 1": tiff(MASK.astype(np.uint16)),
    "JPEG": pillow(MASK.astype(np.uint8) * 255, "JPEG"),
    "color JPEG": pillow(np.repeat(MASK[:, :, None].astype(np.uint8) * 255, 3, 2), "JPEG"),
    "JPEG in TIFF": pillow(MASK.astype(np.uint8) * 255, compression="jpeg"),
    "gray + alpha": png(np.dstack([MASK.astype(np.uint8) * 255, np.full(MASK.shape, 255, np.uint8)])),
    "PNG 1 bit": pillow(MASK, "PNG"),
    "BMP": pillow(MASK, "BMP"),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_every_program(name):
    np.testing.assert_array_equal(decode_mask(MASKS[name], "m"), MASK)


@pytest.mark.parametrize(
    ("labels", "count", "message"),
    [
        ((squares() > 0) * 255, 2, "a mask, not a label image.*number 255.*2 connected"),
        (squares() > 0, 2, "a mask, not a label image"),
        (np.indices((40, 48)).sum(0) % 2 * 3 * np.pad(np.ones((4, 4), int), ((3, 33), (3, 41))), 1, None),
        (squares() * 1_000_000_000, 3, None),
        (np.where(np.indices((40, 48))[1] % 4 == 0, 1, 0) * (1 + np.arange(40)[:, None] % 2), 2, "separate pieces"),
    ],
    ids=["0 and 255", "bool", "one nucleus", "near 1e9", "pieces"],
)
def test_masks_in_place_of_label_images_are_split_or_said(labels, count, message, tmp_path):
    stored = tiff(labels.astype(np.uint32)) if labels.max() > 255 else png(labels.astype(np.uint8))
    files = {"images/x.png": png(np.zeros(labels.shape, np.uint8)), "labels/x.png": stored}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (sample,) = nuclei.read_nuclei(write_folder(tmp_path, files))
    assert sample.labels.max() == count
    assert len(caught) == (message is not None)
    if message:
        with pytest.warns(UserWarning, match=message):
            nuclei.read_nuclei(tmp_path)


def tiles_of_one_pixel() -> bytes:
    return tiff_by_hand(
        np.zeros((1, 1, 1), np.uint8), 1, bytes, t256=8000, t257=8000, t262=1, t322=1, t323=1, t324=8, t325=1
    )


TWO, FOUR = np.zeros((9, 9, 2), np.uint16), np.zeros((9, 9, 4), np.uint16)
STACK = np.zeros((3, 9, 9), np.uint16)
WHOLE = png(GRAY8)
BENT = bytearray(WHOLE)
BENT[len(BENT) // 2] ^= 1
PLAIN = {"photometric": "minisblack", "planarconfig": "contig"}
REFUSED = {
    "two channels": (tiff(TWO, **PLAIN), "2 channels .* save the channel of the nuclei"),
    "four channels": (tiff(FOUR, **PLAIN), "4 channels"),
    "four planes": (tiff(FOUR.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate"), "4 channels"),
    "RGB and infrared": (tiff(FOUR, photometric="rgb", extrasamples=["unspecified"]), "4 channels"),
    "ImageJ stack with one page": (tiff(STACK, imagej=True, truncate=True), "3 channels"),
    "stack": (tiff(STACK, photometric="minisblack"), "a stack of 3 images"),
    "ImageJ channels": (tiff(STACK, imagej=True, metadata={"axes": "CYX"}), "3 channels"),
    "animated PNG": (
        pillow(Image.fromarray(GRAY8), "PNG", save_all=True, append_images=[Image.fromarray(255 - GRAY8)]),
        "an animation of 2",
    ),
    "tiles of one pixel": (tiles_of_one_pixel(), r"64,000,000 tiles or strips, the file has"),
    "strip that unpacks to 100 MB": (
        tiff_by_hand(np.zeros((4, 4, 1), np.uint8), 8, lambda _: zlib.compress(bytes(10**8)), t262=1),
        "decompression bomb",
    ),
    "wrong checksum": (bytes(BENT), "wrong checksum of b'IDAT'"),
    "missing rows": (png16(RGB16, rows=9), "truncated"),
    "missing rows, black": (png16(np.zeros((40, 40, 1), np.uint16), rows=39), "truncated"),
    "16-bit RGB, 13000 x 13000": (
        png_chunks((b"IHDR", struct.pack(">IIBBBBB", 13000, 13000, 16, 2, 0, 0, 0)), (b"IEND", b"")),
        "13000 x 13000 pixels of 48 bits, could be a decompression bomb",
    ),
    "PostScript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "a PostScript file, which is not read",
    ),
    "PostScript with a header": (
        b"\xc5\xd0\xd3\xc6"
        + struct.pack("<6IH", 32, 40, 0, 0, 0, 0, 65535)
        + b"\0\0%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "no known kind",
    ),
    "PPM": (pillow(GRAY8, "PPM"), "no known kind"),
    "GIF": (pillow(GRAY8, "GIF"), "a GIF file"),
    "WebP": (pillow(GRAY8, "WEBP"), "a WebP file"),
    "JPEG 2000": (pillow(GRAY8, "JPEG2000"), "a JPEG 2000 file"),
    "LERC": (tiff_by_hand(GRAY8[:, :, None], 34887, bytes, t262=1), "compression LERC"),
    "JPEG 2000 in TIFF": (tiff_by_hand(GRAY8[:, :, None], 34712, bytes, t262=1), "compression JPEG2000"),
    "YCbCr, 16 bits": (tiff_by_hand(RGB16, 1, bytes, t262=6), "color model YCBCR and 16 bits"),
    "PNG without a header": (png_chunks((b"IEND", b"")), "no header"),
    "complex": (tiff(np.zeros((4, 4), np.complex64)), "complex64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_right_is_refused(name):
    data, message = REFUSED[name]
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"a\.png: .*{message}"):
        decode(data, "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize(
    "data", [pillow(GRAY8, "JPEG"), pillow(GRAY8, compression="jpeg")], ids=["JPEG", "JPEG in TIFF"]
)
def test_jpeg_is_no_label_image(data):
    with pytest.raises(DataError, match="compressed by JPEG, which changes its numbers"):
        decode_labels(data, "a.tif")


def test_a_single_gif_is_named(tmp_path):
    write_folder(tmp_path, {"a.gif": pillow(GRAY8, "GIF")})
    with pytest.raises(DataError, match=r"a\.gif: a GIF file, which is not read"):
        list(nuclei.read_images(tmp_path / "a.gif"))


# ---------------------------------------------------------------- archives, names, tables


def test_names_in_archives(tmp_path):
    """A colon is no drive, Windows' separator is one; results have neither in their names."""
    data = png(GRAY8)
    path = write_zip(tmp_path / "x.zip", {"12:30.png": data, "b/c.png": data, "d\\c.png": data})
    assert [name for name, _ in nuclei.read_images(path)] == ["12_30", "b_c.png", "d_c.png"]
    path = write_zip(tmp_path / "y.zip", {n.replace("/", "\\"): d for n, d in kaggle_files("a", squares()).items()})
    assert nuclei.read_nuclei(path)[0].labels.max() == 3
    long = write_zip(tmp_path / "z.zip", {"x" * 250 + ".png": data})
    with pytest.raises(DataError, match="longer than 240 bytes; rename it"):
        list(nuclei.read_images(long))


@pytest.mark.parametrize("flip", [b"a/masks/a-002.pnf", b"a/maskr/a-002.png", b"b/masks/a-002.png"])
def test_a_flipped_name_that_would_drop_a_mask(flip, tmp_path):
    path = write_zip(tmp_path / "x.zip", kaggle_files("a", squares()))
    before, contents, after = path.read_bytes().partition(b"PK\x01\x02")
    path.write_bytes(before + contents + after.replace(b"a/masks/a-002.png", flip))
    with pytest.raises(DataError, match="damaged inside the archive"):
        nuclei.read_nuclei(path)


def test_masks_without_an_image_are_said(tmp_path):
    files = kaggle_files("a", squares()) | {"b/masks/m.png": png(MASK)}
    with pytest.warns(UserWarning, match=r"1 masks without an image, the first is b/masks/m\.png"):
        nuclei.read_nuclei(write_folder(tmp_path, files))


def test_kaggles_doubled_folder_is_counted_once(tmp_path):
    files = {
        f"chest_xray/{part}/{kind}/{i}.jpeg": pillow(GRAY8, "JPEG")
        for part in ("train", "test")
        for kind in ("NORMAL", "PNEUMONIA")
        for i in range(2)
    }
    path = write_folder(tmp_path, files | {f"chest_xray/{name}": data for name, data in files.items()})
    images, _ = chest_xray.read_chest_xrays("train", path)
    assert len(images.images) == 4


@pytest.mark.parametrize("name", ["K\udce4fer", "\u03b2-tubulin"])
def test_file_names_in_any_encoding_reach_the_tables(name, tmp_path):
    labels = squares()
    instances.write_measurements(tmp_path / "m.csv", [(name, instances.measure(labels, labels))], ("id",))
    instances.write_submission(tmp_path / "s.csv", [(name, labels)])
    for table in ("m.csv", "s.csv"):
        assert (tmp_path / table).read_bytes().count(name.encode("utf-8", "surrogateescape")) == 3


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_intensity_is_measured_on_the_values_of_the_file(dtype, tmp_path):
    labels = squares() * 400_000_000
    image = np.where(labels == 400_000_000, 90, 3).astype(dtype)
    image[0, 0] = 120  # a bright speck elsewhere changes nothing
    (plane,) = read_planes(write_folder(tmp_path, {"a.tif": tiff(image)}))
    rows = instances.measure(labels, plane.pixels)
    assert [row["mean_intensity"] for row in rows] == [90, 3, 3]
    assert [row["id"] for row in rows] == [400_000_000, 800_000_000, 1_200_000_000]


def test_a_sparse_field_keeps_its_contrast():
    """One nucleus on 0.04 % of the pixels, and hot pixels: noise stays dark, the nucleus bright."""
    field = RNG.normal(300, 20, (1000, 1000))
    field[500:520, 500:520] += 3000
    field[RNG.integers(0, 400, 20), RNG.integers(0, 400, 20)] = 65535
    image = to_rgb8(field.astype(np.uint16))[:, :, 0]
    assert image[500:520, 500:520].min() > 200 and np.percentile(image, 99.9) < 25


@pytest.mark.parametrize(("kind", "dtype"), [(1, np.uint32), (2, np.int32)])
def test_32_bits_with_lzw_keep_their_sign(kind, dtype):
    values, file = np.array([[0, 5], [2**31 + 7, 2**32 - 1]], np.uint32), io.BytesIO()
    Image.fromarray(values.view(np.int32)).save(file, "TIFF", compression="tiff_lzw")
    signed, wanted = (struct.pack("<HHII", 339, 3, 1, number) for number in (2, kind))
    assert signed in file.getvalue()
    np.testing.assert_array_equal(decode(file.getvalue().replace(signed, wanted), "x.tif"), values.view(dtype))
