"""Blood smears with a box around each cell: BCCD (github.com/Shenggan/BCCD_Dataset, MIT license), and drawings.

BCCD holds 364 photographs of 640 x 480 pixels with boxes around red cells, white cells and platelets, in the format of
Pascal VOC (Everingham et al., The PASCAL visual object classes challenge, IJCV 88, 2010), and a split into three parts.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from ..errors import DataError
from ..imaging.boxes import clip_boxes
from .class_folders import find_archive
from .eight_bits import to_rgb8
from .files import ImageFiles

BCCD = "bccd/BCCD.zip"
ADDRESS = "https://github.com/Shenggan/BCCD_Dataset (download it as a ZIP)"
PARTS = ("train", "val", "test")
CELLS = ("red", "white", "platelet")
NAMES = {"RBC": 0, "WBC": 1, "Platelets": 2}  # in the files -> class


@dataclass
class Smear:
    """A photograph and its cells.

    id: name of the file without suffix. image: uint8 (H, W, 3). boxes: float32 (K, 4), (y1, x1, y2, x2) in pixels, the
    edges as in `tinynet.boxes`. classes: int64 (K,), the index of each cell in CELLS. K may be 0.
    """

    id: str
    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


def read_blood_cells(
    part: str, given: str | Path | None = None, reduce: int = 2, limit: int | None = None
) -> list[Smear]:
    """The photographs of the part "train" (205), "val" (87) or "test" (72) of BCCD.

    given: the archive, its folder, or a data folder with it; the default is what `data_path` finds. reduce: height and
    width are divided by it, by means of pixels; the boxes too. limit: read only the first so many. A photograph without
    a cell is kept. Boxes are clipped to the image. A warning counts boxes without an area and boxes outside of their
    image; both are left out.

    Raises ValueError for another part or reduce < 1. Raises DataError, which names the file, for a missing or damaged
    photograph or annotation, an unknown class, or an annotation for an image of another size.
    """
    if part not in PARTS:
        raise ValueError(f"read_blood_cells: part is {part!r}; it must be one of {', '.join(PARTS)}")
    if reduce < 1:
        raise ValueError(f"read_blood_cells: reduce is {reduce}; at least 1 is needed")
    path = find_archive(BCCD, ADDRESS, given)
    with ImageFiles(path) as files:
        named = [PurePosixPath(name) for name in files.names]
        photographs = {file.stem: str(file) for file in named if file.parent.name == "JPEGImages"}
        smears, dropped = [], []
        for name in _text_file(files, f"ImageSets/Main/{part}.txt").decode("utf-8", "replace").split()[:limit]:
            if name not in photographs:
                raise DataError(f"{path}: the part {part} names {name}, but there is no photograph {name}.jpg")
            where = files.where(photographs[name])
            image = to_rgb8(files.read_array(photographs[name]), where)
            boxes, classes = parse_voc(
                _text_file(files, f"Annotations/{name}.xml"), image.shape[:2], f"{path}: {name}.xml"
            )
            inside = clip_boxes(boxes, image.shape[:2]).astype(np.float32)
            has_area = (inside[:, 2:] > inside[:, :2]).all(axis=1)
            dropped += [name] * int((~has_area).sum())
            small = Image.fromarray(image).reduce(reduce)
            smears.append(Smear(name, np.asarray(small), inside[has_area] / reduce, classes[has_area]))
    if dropped:
        warnings.warn(
            f"{path}: {len(dropped)} boxes without an area in their image left out, the first in {dropped[0]}",
            stacklevel=2,
        )
    return smears


def _text_file(files: ImageFiles, end: str) -> bytes:
    """The bytes of the file whose name ends with `end`. Raises DataError if there is none, or it is damaged."""
    found = [name for name in files.other_names if f"/{name}".endswith(f"/{end}") and "__MACOSX" not in name]
    if not found:
        raise DataError(
            f"{files.path}: no file {end}; need the folders JPEGImages, Annotations and ImageSets of {BCCD}"
        )
    return files.read(found[0])


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Builds the tree of an XML file, in any encoding, unless the file declares a document type.

    Only there can entities be declared, which can be nested until they fill the memory.
    """

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("refused, because it declares a document type, which could define entities without end")


def parse_voc(content: bytes, size: tuple[int, int], where: str) -> tuple[np.ndarray, np.ndarray]:
    """(boxes float64 (K, 4), classes int64 (K,)) of an annotation in the format of Pascal VOC.

    size: (height, width) of the image. where: the name of the file, for messages. The format counts pixels from 1 and
    names the first and the last pixel of a box; so the first edge is one less. A box whose first and last pixel are the
    same has no area: somebody clicked once. Raises DataError as `read_blood_cells`.
    """
    try:
        root = ElementTree.fromstring(content, ElementTree.XMLParser(target=_WithoutDoctype()))
        given = tuple(int(_text(root, f"size/{name}")) for name in ("height", "width"))
        cells = [(_text(cell, "name"), _box(cell)) for cell in root.iter("object")]
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise DataError(f"{where}: not an annotation of Pascal VOC ({error})") from error
    if given != size:
        raise DataError(
            f"{where}: it is for an image of {given[0]} x {given[1]} pixels; the image has {size[0]} x {size[1]}"
        )
    unknown = [name for name, _ in cells if name not in NAMES]
    if unknown:
        raise DataError(f"{where}: the class {unknown[0]!r} is unknown; {', '.join(NAMES)} are read")
    boxes = np.array([box for _, box in cells], np.float64).reshape(-1, 4)
    boxes[:, :2] -= (boxes[:, 2:] > boxes[:, :2]).all(axis=1, keepdims=True)
    return boxes, np.array([NAMES[name] for name, _ in cells], np.int64)


def _text(element: ElementTree.Element, path: str) -> str:
    found = element.findtext(path)
    if found is None:
        raise ValueError(f"no element {path}")
    return found.strip()


def _box(cell: ElementTree.Element) -> list[float]:
    box = [float(_text(cell, f"bndbox/{name}")) for name in ("ymin", "xmin", "ymax", "xmax")]
    if not np.isfinite(box).all():
        raise ValueError(f"the box {box}")
    return box


# ---------------------------------------------------------------------------------------- drawings
def synthetic_smear(rng: np.random.Generator, size: tuple[int, int] = (120, 160)) -> Smear:
    """A drawing for trying out a program: red discs with pale centers, one large purple cell, small purple platelets.

    size: (height, width) in pixels; the cells are as large as those of BCCD at half resolution. Cells may overlap, and
    the edge may cut them. Results on these drawings have no medical meaning.
    """
    image = np.full((*size, 3), (225.0, 220.0, 215.0))
    kinds = [0] * int(rng.integers(3, 6)) + [1] * int(rng.integers(0, 2)) + [2] * int(rng.integers(0, 3))
    boxes = [_draw_cell(image, kind, rng) for kind in kinds]
    image += rng.normal(0, 5, image.shape)
    clipped = clip_boxes(np.array(boxes), size).astype(np.float32)
    return Smear("drawing", np.clip(image, 0, 255).astype(np.uint8), clipped, np.array(kinds, np.int64))


def _draw_cell(image: np.ndarray, kind: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a cell of this kind somewhere; its box."""
    radii = rng.normal((24, 42, 9)[kind], (2, 5, 1.5)[kind]) * rng.uniform(0.93, 1.07, 2)
    center = rng.uniform(0.1, 0.9, 2) * image.shape[:2]
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    distance = ((rows + 0.5 - center[0]) / radii[0]) ** 2 + ((columns + 0.5 - center[1]) / radii[1]) ** 2
    if kind == 0:
        image[distance < 1] = (205, 160, 165)
        image[distance < 0.15] = (220, 195, 195)
    else:
        image[distance < 1] = (170, 140, 190)
        image[distance < 0.5] = (110, 60, 150)
    return (*(center - radii), *(center + radii))
