"""The tables of a whole run: written at its end, from the records of the images, one record in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tifffile import imread

from ...errors import DataError
from ...imaging.instances import MEASUREMENTS, write_measurements, write_submission
from .results import FORMATS, RECORDS, Result, format_path, read_record, record_path, write_results
from .summary import write_summary


class Tables:
    """The results of a run in a folder: `add` writes the files of one image, the end of the block writes the tables.

    formats: some of `FORMATS`, by default all. submission: also write Kaggle's submission.csv (this needs "labels").
    skipped: a list of errors, for instance of files that could not be read. It may grow until the end of the block;
    then summary.html shows its messages.

    The tables hold all images that have a record in the folder, sorted by name. They are also written if the block ends
    by an error or by Ctrl-C. If that fails too, because the disk is full, the older tables stay, and the next run
    into the folder writes them: `with Tables(folder): pass` is enough.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        formats: Collection[str] = tuple(FORMATS),
        submission: bool = False,
        skipped: Sequence[DataError] = (),
    ) -> None:
        unknown = sorted(set(formats) - set(FORMATS))
        if unknown:
            raise ValueError(f"Tables: formats holds {unknown[0]!r}; known are {', '.join(FORMATS)}")
        if submission and "labels" not in formats:
            raise ValueError("Tables: submission=True reads the label images; need 'labels' in formats")
        self.folder, self.formats, self.submission = Path(folder), tuple(formats), submission
        self.skipped = skipped

    def has(self, name: str) -> bool:
        """Whether the image `name` is done: its record and its files in all formats are there."""
        files = (format_path(self.folder, format, name) for format in self.formats)
        return record_path(self.folder, name).exists() and all(path.exists() for path in files)

    def add(self, result: Result) -> dict[str, Any]:
        """Write the files of one image; see `write_results`. Returns its record: "nuclei" is their number."""
        return write_results(self.folder, result, self.formats)

    def write(self) -> None:
        """Write measurements.csv, summary.html and, if wanted, submission.csv from the records in the folder.

        Raises OSError if a file cannot be written, and `DataError` if a record is damaged.
        """
        columns = dict.fromkeys(("id", *MEASUREMENTS))  # of all images: their channels may differ
        for record in self._records():
            columns |= dict.fromkeys(record["columns"])
        write_measurements(self.folder / "measurements.csv", self._measured(), tuple(columns))
        if self.submission:
            write_submission(self.folder / "submission.csv", self._labels())
        write_summary(self.folder / "summary.html", self._records, [str(error) for error in self.skipped])

    def _records(self) -> Iterator[dict[str, Any]]:
        for path in sorted((self.folder / RECORDS).glob("*.json")):
            try:
                yield read_record(path)
            except DataError as error:  # of an image that is not worked on now; otherwise it was written again
                raise DataError(f"{error}; delete it and run again") from error

    def _measured(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for record in self._records():
            yield record["name"], [dict(zip(record["columns"], row, strict=True)) for row in record["rows"]]

    def _labels(self) -> Iterator[tuple[str, np.ndarray]]:
        for record in self._records():
            yield record["name"], imread(format_path(self.folder, "labels", record["name"]))

    def __enter__(self) -> Tables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if any((self.folder / RECORDS).glob("*.json")):
                self.write()
        except (OSError, DataError):
            if error is None:  # otherwise the first error says more
                raise
