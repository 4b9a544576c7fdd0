"""The settings of a prediction: a folder of results has one set of them, so that its tables never mix two."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.microscopy import same_channel
from ..errors import UsageError
from ..files import atomic_path
from ..tools.cli import BACKENDS, option
from .outputs.results import FORMATS, RECORDS, format_path
from .progress import files_of
from .segmentation import check_sizes

NOT_COMPARED = ("paths", "images", "out", "weights", "submission", "force")  # they change no result
PATHS = "paths"  # in settings.json: where the images of the last run were; not compared
SIGNS_OF_RESULTS = ("measurements.csv", "labels", RECORDS)  # if one of them is there, the folder holds results


@dataclasses.dataclass
class PredictConfig:
    """The flags of `predict`."""

    paths: tuple[str, ...] = option((), "folders, image files or zip archives", positional=True, nargs="*")
    images: tuple[str, ...] = option((), "the same, as a flag", nargs="+")
    out: str = option("", "folder for the results; default: the name of the images' folder + '_nuclei'")
    weights: str | None = option(None, "weights from training; default: those that come with tinynet")
    channel: str | None = option(None, "the channel of the nuclei: its number from 1, or its name in the file")
    project: str | None = option(None, "of a stack: its maximum instead of each slice", choices=("max",))
    pixel_size: float | None = option(None, "micrometers per pixel; default: what each file says")
    diameter: float | None = option(None, "of a nucleus, in pixels; default: measured in each image")
    min_area: float | None = option(None, "smallest area, in square pixels; default: small (docs/nuclei.md)")
    exclude_border: bool = option(False, "leave out nuclei that touch the border of the image")
    flips: bool = option(True, "average over mirrored images: better, but takes longer")
    submission: bool = option(False, "also write submission.csv, as Kaggle's Data Science Bowl wants it")
    force: bool = option(False, "delete the results of an earlier run in --out, and start again")
    backend: str = option("cpu", "where kernels run", choices=BACKENDS)

    def __post_init__(self) -> None:
        self.paths = (*self.paths, *self.images)
        if not self.paths:
            raise ValueError("no images are given; name a folder, image files or a zip archive")
        if self.pixel_size is not None and not 0 < self.pixel_size < float("inf"):
            raise ValueError(f"--pixel-size is {self.pixel_size:g}; a positive number is needed")
        check_sizes(self.diameter, self.min_area, ("--diameter", "--min-area"))
        if not self.out:
            first = Path(self.paths[0]).resolve()
            self.out = f"{first.name if first.is_dir() else first.stem}_nuclei"  # a folder may be called 2026.11


def compared_settings(config: PredictConfig, weights: Path) -> dict[str, Any]:
    """The settings that determine the results, and the versions of program and weights."""
    chosen = {key: value for key, value in dataclasses.asdict(config).items() if key not in NOT_COMPARED}
    digest = hashlib.blake2b(weights.read_bytes(), digest_size=8).hexdigest()
    return {"tinynet": __version__, "weights": f"{weights.name} ({digest})", **chosen}


def check_folder(out: Path, settings: dict[str, Any], paths: Sequence[str]) -> None:
    """Raise UsageError if the folder holds results of other settings, or results without settings.

    paths: of the images. A channel may be named in another way than before if it is the same channel of all images.
    """
    what_to_do = "give another --out, or --force to delete these results and start again"
    path = out / "settings.json"
    if not path.exists():
        found = [name for name in SIGNS_OF_RESULTS if (out / name).exists()]
        if found:
            raise UsageError(f"{out} holds {found[0]}, but no settings.json that says how it was made: {what_to_do}")
        return
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({error}): {what_to_do}") from error
    pairs = {name: (earlier.get(name), settings.get(name)) for name in {**settings, **earlier} if name != PATHS}
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if "channel" in different and _is_one_channel(*different["channel"], [*_paths_in(earlier), *paths]):
        del different["channel"]
    if different:
        changes = (
            f"{name.replace('_', '-')} was {_shown(a)} and is now {_shown(b)}" for name, (a, b) in different.items()
        )
        raise UsageError(f"{out} holds results of other settings: {'; '.join(changes)}. {what_to_do.capitalize()}")


def _is_one_channel(before: Any, now: Any, paths: Sequence[str]) -> bool:
    return isinstance(before, str) and isinstance(now, str) and same_channel(paths, before, now)


def refuse_results(paths: Sequence[str]) -> None:
    """Raise UsageError for results of an earlier run: their folder, if it has no images of its own, or a part of it."""
    for path in map(Path, paths):
        if _holds_results(path) and not files_of([str(path)]):
            folder, problem = path, f"{path} is a folder of results of an earlier run, without images."
        elif (part := _part_of_results(path.resolve())) is not None:
            folder, problem = part.parent, f"{path} belongs to the results of an earlier run."
        else:
            continue
        try:
            made_from = _paths_in(json.loads((folder / "settings.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            made_from = []
        source = f" It was made from {', '.join(made_from)}." if made_from else ""
        raise UsageError(f"{problem}{source} Name the images instead")


def _holds_results(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("settings.json", RECORDS))


def _part_of_results(path: Path) -> Path | None:
    """The folder `overlays`, `labels` and so on, of a run's results, that the path is or lies in."""
    return next((f for f in (path, *path.parents) if f.name in FORMATS and _holds_results(f.parent)), None)


def _paths_in(settings: Any) -> list[str]:
    """The paths of the images in settings.json; none if it is damaged, or of a version that did not keep them."""
    paths = settings.get(PATHS) if isinstance(settings, dict) else None
    return paths if isinstance(paths, list) and all(isinstance(path, str) for path in paths) else []


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def write_settings(out: Path, settings: dict[str, Any], paths: Sequence[str]) -> None:
    """Write settings.json. paths: of the images."""
    with atomic_path(out / "settings.json") as temporary:
        temporary.write_text(json.dumps({**settings, PATHS: list(paths)}, indent=2) + "\n", encoding="utf-8")


def delete_partial_files(out: Path) -> None:
    """Delete the temporary files of a run that was killed while it wrote."""
    for folder in ("", RECORDS, *FORMATS):
        for path in (out / folder).glob(".*.part.*"):
            path.unlink()


def delete_results(out: Path) -> None:
    """Delete the files of each image that has a record, and the settings. Other files in the folder stay."""
    (out / "settings.json").unlink(missing_ok=True)
    for record in (out / RECORDS).glob("*.json"):
        for format in FORMATS:
            format_path(out, format, record.stem).unlink(missing_ok=True)
        record.unlink()
