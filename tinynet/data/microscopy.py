"""Images as they come from a microscope: stacks, time series and channels, one plane after the other."""

from __future__ import annotations

import functools
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice, product
from os import fsencode
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError, UsageError
from .files import MICROSCOPE_SUFFIXES, ImageFiles
from .limits import check_values
from .stacks import GRAY, PAGE, Stack, open_stacks

NOT_IMAGES = ("masks", "labels", "overlays")  # folders of images that were made from other images
MAX_NAME_BYTES = 240  # of a result without its suffix; file systems allow 255
COLORS = ("red", "green", "blue")
WHERE_TO_CHOOSE = "--channel; in Python the argument channel"


@dataclass
class Plane:
    """One plane of a file.

    name: for its results, unlike any other of the same call; pixels: (H, W) or (H, W, 3) of the file's dtype, what the
    net should see; channels: (H, W) of each channel by name. Where the file names none, they are "1", "2", ..., or
    "gray" if there is only one; of a color image "red", "green", "blue". pixel_size: micrometers per pixel, None if the
    file does not say; source: the file and the position in it, for messages.

    Other channels than the one in `pixels` are read from the file when they are asked for, one at a time.
    """

    name: str
    pixels: np.ndarray
    channels: Mapping[str, np.ndarray]
    pixel_size: float | None
    source: str


def read_planes(
    paths: str | Path | Iterable[str | Path],
    channel: int | str | None = None,
    project: str | None = None,
    skipped: list[DataError] | None = None,
    ignored: Counter[str] | None = None,
) -> Iterator[Plane]:
    """All planes of image files, one at a time: of each slice of a stack and of each time point.

    `paths`: one or several zip archives, folders or image files. `channel`: the channel of the nuclei, by its number
    from 1 or by its name in the file; needed for files with several channels. Red, green and blue of a color image are
    no channels: its planes are (H, W, 3), or one of its colors with `channel="blue"`. `project="max"`: the maximum
    over the slices of a stack instead of each slice. Pages of a TIFF that says nothing about them are planes of their
    own; they are its channels if `channel` is given, and its slices with `project`.

    The name of a plane is its file's name without the suffix, with `_t01` for a time point, `_z01` for a slice and
    `_p01` for a page, counted from 1. If two files share this name, their names are their paths with `_` for `/`.
    Files in folders called `masks`, `labels` or `overlays` were made from images: they are ignored.

    `skipped`: a list that collects the `DataError` of each file that cannot be read; the others follow. Without it,
    the first error is raised. `ignored`: a counter of what was found beside the images, by its kind.

    Raises `DataError` if there is no image, if two planes get the same name, if a file cannot be read, or if it has
    several channels and `channel` does not name one; `UsageError` for a wrong argument.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise DataError("read_planes: no paths given; need at least one zip archive, folder or image file")
    if project not in (None, "max"):
        raise UsageError(f"read_planes: project {project!r}; need 'max' or None")
    if isinstance(channel, int) and channel < 1:
        raise UsageError(f"read_planes: channel {channel}; channels are counted from 1")
    wanted = _Wanted(channel, project)
    with ExitStack() as opened:
        images: list[_Image] = []
        for path in paths:
            with _collected(skipped):
                files = opened.enter_context(ImageFiles(path))
                images += [_Image(files, name) for name in image_names(files)]
                if ignored is not None:
                    ignored.update(_ignored_kinds(files))
        taken: dict[str, str] = {}
        for image, name in _named(images):
            with _collected(skipped):
                for plane in _planes(image, name, wanted):
                    _take(plane.name, plane.source, taken)
                    yield plane


def read_plane(files: ImageFiles, name: str, channel: int | str | None = None) -> Plane:
    """The only plane of one image file. Raises `DataError` as `read_planes` does, and for a stack."""
    planes = list(islice(_planes(_Image(files, name), PurePosixPath(name).stem, _Wanted(channel, None)), 2))
    if len(planes) > 1:
        raise DataError(f"{files.where(name)}: a stack of several planes; need a single one: save one slice")
    return planes[0]


def same_channel(paths: Iterable[str | Path], first: str, second: str) -> bool:
    """True if both, as the argument `channel` of `read_planes`, mean the same channel of every image that can be read.

    For instance "DAPI", "dapi" and "2" do, if DAPI is the second channel of each image. False if a path cannot be read.
    """
    try:
        for path in paths:
            with ImageFiles(path) as files:
                for name in image_names(files):
                    image = _Image(files, name)
                    if _meant(image, first) != _meant(image, second):
                        return False
    except DataError:
        return False
    return True


@contextmanager
def _collected(errors: list[DataError] | None) -> Iterator[None]:
    """A `DataError` in the block ends the block and goes to the list; without a list it is raised."""
    try:
        yield
    except DataError as error:
        if errors is None:
            raise
        errors.append(error)


# --- names --------------------------------------------------------------------------------------------------


@dataclass
class _Image:
    """An image file of an archive or a folder."""

    files: ImageFiles
    file_name: str

    @property
    def where(self) -> str:
        return self.files.where(self.file_name)


def image_names(files: ImageFiles) -> list[str]:
    """The image files that `read_planes` reads, in its order, without images that were made from images."""
    names = [name for name in files.names if PurePosixPath(name).parent.name not in NOT_IMAGES]
    names += [name for name in files.other_names if PurePosixPath(name).suffix.lower() in MICROSCOPE_SUFFIXES]
    if not names:
        raise DataError(f"{files.path}: no image in it; need PNG, TIFF, JPEG or BMP files")
    return sorted(names)


def _named(images: list[_Image]) -> Iterator[tuple[_Image, str]]:
    """Each image with the name of its results: as short as it can be without being the name of another image."""
    names = [image_stem(image.file_name) for image in images]
    for longer in (lambda image: image.file_name, lambda image: image.where.lstrip("./\\")):
        counts = Counter(_folded(name) for name in names)
        names = [
            name if counts[_folded(name)] == 1 else _as_file_name(longer(image)) for image, name in zip(images, names)
        ]
    return zip(images, names)


def image_stem(file_name: str) -> str:
    """The name of an image without folder and suffix, of an OME-TIFF without `.ome` too."""
    stem = PurePosixPath(file_name).stem
    return _as_file_name(stem[:-4] if stem.lower().endswith(".ome") else stem)


def _as_file_name(name: str) -> str:
    """A name that every file system takes. Umlauts are one letter, as macOS's file names do not have them."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", unicodedata.normalize("NFC", name))


def _folded(name: str) -> str:
    """Equal for names that are the same on Windows and macOS, where upper and lower case do not differ."""
    return unicodedata.normalize("NFC", name).casefold()


def _take(name: str, source: str, taken: dict[str, str]) -> None:
    other = taken.get(_folded(name))
    if other is not None:
        problem = "given twice" if other == source else f"the name {name!r} was taken by {other}; rename one of them"
        raise DataError(f"{source}: {problem}")
    if len(fsencode(name)) > MAX_NAME_BYTES:
        raise DataError(f"{source}: its name is longer than {MAX_NAME_BYTES} bytes; rename it")
    taken[_folded(name)] = source


def _ignored_kinds(files: ImageFiles) -> Iterator[str]:
    """The kind of each file that is not read: "Thumbs.db", "__MACOSX/", "._*", "labels/", "*.txt"."""
    for name in files.other_names:
        path = PurePosixPath(name)
        if name.endswith("/") or path.suffix.lower() in MICROSCOPE_SUFFIXES:  # a folder of an archive; an error
            continue
        hidden = next((part for part in path.parts if part.startswith(".") or part == "__MACOSX"), None)
        if path.name in ("Thumbs.db", "desktop.ini") or hidden == path.name != f"._{path.name[2:]}":
            yield path.name
        elif hidden:
            yield "._*" if hidden.startswith("._") else f"{hidden}/"
        else:
            yield f"*{path.suffix.lower()}" if path.suffix else "files without a suffix"
    for name in files.names:
        if PurePosixPath(name).parent.name in NOT_IMAGES:
            yield f"{PurePosixPath(name).parent.name}/"


# --- planes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """How a stack becomes planes: the arguments of `read_planes`."""

    channel: int | str | None
    project: str | None

    def view(self, stack: Stack, where: str) -> Stack:
        """The stack after its projection, or with pages taken for channels."""
        names = [name for name, _ in stack.axes]
        if self.project:
            axis = "z" if "z" in names else PAGE
            return _projected(stack, names.index(axis)) if axis in names else stack
        if self.channel is not None and names == [PAGE] and len(stack.channels) == 1:
            warnings.warn(
                f"{where}: it does not say what its {stack.axes[0][1]} pages are; because a channel is asked for, they "
                f"are taken for channels",
                stacklevel=2,
            )
            return _pages_as_channels(stack)
        return stack


def _projected(stack: Stack, axis: int) -> Stack:
    """The maximum over one axis. One plane of it is in memory at a time."""
    length = stack.axes[axis][1]

    def load(position: tuple[int, ...], channel: int) -> np.ndarray:
        before, after = position[:axis], position[axis:]
        planes = (stack.load((*before, index, *after), channel) for index in range(length))
        return functools.reduce(np.maximum, planes)

    return replace(stack, axes=stack.axes[:axis] + stack.axes[axis + 1 :], load=load)


def _pages_as_channels(stack: Stack) -> Stack:
    names = [str(number + 1) for number in range(stack.axes[0][1])]
    return replace(stack, axes=[], channels=names, load=lambda _, channel: stack.load((channel,), 0))


def _chosen(stack: Stack, channel: int | str | None, where: str) -> int:
    """The index of a channel. Raises `DataError` with the list of channels if it is not clear which one is meant."""
    if stack.color and len(stack.channels) == 1:
        if channel is not None and str(channel).lower() not in COLORS:
            raise DataError(f"{where}: a color image, without a channel {channel!r}; give none, or {', '.join(COLORS)}")
        return 0
    count, names = len(stack.channels), stack.channels
    listed = ", ".join(name if name == str(i) else f"{i} {name}" for i, name in enumerate(names, 1))
    if channel is None:
        if count > 1:
            raise DataError(
                f"{where}: {count} channels: {listed}; which one shows the nuclei? Give its number or its name: "
                f"{WHERE_TO_CHOOSE}"
            )
        return 0
    found = [i for i, name in enumerate(names) if name == channel]
    found = found or [i for i, name in enumerate(names) if name.casefold() == str(channel).casefold()]
    if not found and str(channel).isascii() and str(channel).isdecimal() and 1 <= int(channel) <= count:
        found = [int(channel) - 1]
    if len(found) != 1:
        raise DataError(f"{where}: no channel {channel!r}; it has {listed}")
    return found[0]


def _meant(image: _Image, channel: str) -> list[int | str]:
    """For each stack of a file the channel that is meant; an empty list if none of this name is in it."""
    try:
        with image.files.open(image.file_name) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `read_planes` gives them
            with open_stacks(file, image.where) as stacks:
                views = [_Wanted(channel, None).view(stack, image.where) for stack in stacks]
                found = [_chosen(view, channel, image.where) for view in views]
        return [channel.lower() if view.color else index for view, index in zip(views, found)]
    except DataError:
        return []


def channels_of_color(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The channels (H, W) of a color image (H, W, 3) by name; one, "gray", if a gray image was saved in color."""
    red, green, blue = np.moveaxis(pixels, 2, 0)
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return {GRAY: red}
    return dict(zip(COLORS, (red, green, blue)))


class _Channels(Mapping[str, np.ndarray]):
    """The channels of a plane by name. Only the one in `pixels` is in memory; the file is opened for each other one."""

    def __init__(self, names: list[str], pixels: dict[str, np.ndarray], load: Callable[[int], np.ndarray]):
        self._names, self._pixels, self._load = names, pixels, load

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._pixels:
            return self._pixels[name]
        if name not in self._names:
            raise KeyError(name)
        return self._load(self._names.index(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _planes(image: _Image, name: str, wanted: _Wanted) -> Iterator[Plane]:
    where = image.where
    if PurePosixPath(image.file_name).suffix.lower() in MICROSCOPE_SUFFIXES:
        raise DataError(
            f"{where}: a microscope's own format, which is not read; Fiji opens it and saves it as OME-TIFF"
        )
    with image.files.open(image.file_name) as file, open_stacks(file, where) as stacks:
        for number, stack in enumerate(stacks):
            view = wanted.view(stack, where)
            chosen = _chosen(view, wanted.channel, where)
            series = [("s", len(stacks), number)] if len(stacks) > 1 else []
            for position in product(*(range(length) for _, length in view.axes)):
                places = [*series, *((axis, length, i) for (axis, length), i in zip(view.axes, position))]
                place = "".join(f"_{axis}{i + 1:0{max(2, len(str(length)))}d}" for axis, length, i in places)
                source = f"{where} ({place[1:].replace('_', ' ')})" if place else where
                pixels = view.load(position, chosen)
                check_values(pixels, source)
                channels: Mapping[str, np.ndarray]
                if pixels.ndim == 3:
                    channels = channels_of_color(pixels)
                    pixels = channels.get(str(wanted.channel).lower(), pixels)
                else:
                    load = functools.partial(_load_again, image.files.path, image.file_name, number, wanted, position)
                    channels = _Channels(view.channels, {view.channels[chosen]: pixels}, load)
                yield Plane(name + place, pixels, channels, view.pixel_size, source)


def _load_again(
    path: Path, file_name: str, number: int, wanted: _Wanted, position: tuple[int, ...], channel: int
) -> np.ndarray:
    """One channel of a plane, from the file anew: it is no longer open, or at another plane."""
    with ImageFiles(path) as files, files.open(file_name) as file:
        where = files.where(file_name)
        with warnings.catch_warnings(), open_stacks(file, where) as stacks:
            warnings.simplefilter("ignore")  # they were given before
            values = wanted.view(stacks[number], where).load(position, channel)
    check_values(values, where)
    return values
