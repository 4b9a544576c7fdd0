"""How far a run over many files is: a bar on a terminal, otherwise lines with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from tqdm import tqdm

from ..data.files import ImageFiles
from ..data.microscopy import image_names
from ..errors import DataError

SECONDS_BETWEEN_TILES = 30.0  # between two lines about tiles
BAR = "{percentage:3.0f} % |{bar}| {n_fmt} of {total_fmt} files{postfix}"


def files_of(paths: Iterable[str]) -> list[str]:
    """All image files, named as in messages, in the order in which `read_planes` reads them."""
    found = []
    for path in paths:
        try:
            with ImageFiles(path) as files:
                found += [files.where(name) for name in image_names(files)]
        except DataError:  # `read_planes` says what is wrong with it
            continue
    return found


def counted(count: int, one: str, many: str) -> str:
    """A number with its noun: "1 nucleus", "2 nuclei"."""
    return f"{count} {one if count == 1 else many}"


def warn(sentence: object) -> None:
    """Print a warning, above the bar if there is one."""
    tqdm.write(f"warning: {sentence}", file=sys.stderr)


class Progress:
    """Prints a line for each image, with the time left: the files that are left take as long as those before.

    files: all files, in order. On a terminal the time left stands in a bar below the lines.
    """

    def __init__(self, files: list[str]) -> None:
        self.files, self.worked, self.left = files, 0, ""
        self._reading, self._found = 0, -1  # positions in `files`
        self._bar = tqdm(total=len(files), bar_format=BAR, disable=not sys.stderr.isatty())
        self._started = self._tiles_started = self._tiles_shown = time.monotonic()

    def position(self, source: str) -> int:
        """The position of the file that was read last; source: the file, or a place in it, `Plane.source`."""
        for position in range(self._reading, len(self.files)):
            if source == self.files[position] or source.startswith(f"{self.files[position]} ("):
                self._reading = position
                break
        return self._reading

    def found(self, positions: list[int]) -> None:
        """The net has seen the next images, which are from the files at these positions. Estimates the time left."""
        self.worked += len({position for position in positions if position > self._found})
        self._found = positions[-1]
        seconds = (time.monotonic() - self._started) / self.worked * (len(self.files) - positions[-1] - 1)
        self.left = f"{tqdm.format_interval(seconds)} left" if seconds else ""

    def finish(self, position: int, line: str) -> None:
        """The results of an image of the file at `position` are written; the line says what was found."""
        if self._bar.disable:
            print(f"[{position + 1} of {len(self.files)}{self.left and ', '}{self.left}] {line}", flush=True)
        else:
            tqdm.write(line)
            self._bar.n = position + 1
            self._bar.set_postfix_str(self.left)

    def tiles(self, done: int, total: int) -> None:
        """Of the images that the net sees now, `done` tiles of `total` are done."""
        now = time.monotonic()
        if done <= 1:
            self._tiles_started = self._tiles_shown = now
            return
        left = tqdm.format_interval((now - self._tiles_started) / (done - 1) * (total - done))
        text = f"tile {done} of {total}, {left} left"
        if not self._bar.disable:
            self._bar.set_postfix_str(text)
        elif now - self._tiles_shown > SECONDS_BETWEEN_TILES:
            self._tiles_shown = now
            print(text, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
