"""Tables of patients: measurements in columns, one row for each patient.

Two are files from the UCI Machine Learning Repository (CC BY 4.0): `dermatology` (six skin diseases; Guvenir et
al., 1998) and `cleveland` (heart disease in five degrees; Detrano et al., 1989). Three are bundled with scikit-learn:
`bundled("diabetes")`, `bundled("breast_cancer")`, `bundled("digits")`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, how_to_install
from .download import find_data

DERMATOLOGY, CLEVELAND = "tables/dermatology.data", "tables/processed.cleveland.data"
DISEASES = (
    "psoriasis",
    "seborrhoeic dermatitis",
    "lichen planus",
    "pityriasis rosea",
    "chronic dermatitis",
    "pityriasis rubra pilaris",
)
DEGREES = ("no disease", "degree 1", "degree 2", "degree 3", "degree 4")
HEART_COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg"),
    *("thalach", "exang", "oldpeak", "slope", "ca", "thal", "target"),
)


@dataclass
class Table:
    """Features and the target to predict from them.

    features: float64 (rows, columns), NaN for a missing value. target: (rows,), class numbers 0, 1, ... (int64) or a
    quantity (float64). columns: a name for each column. classes: a name for each class, () for a quantity.
    """

    features: np.ndarray
    target: np.ndarray
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()


def dermatology(given: str | Path | None = None) -> Table:
    """366 patients, 33 clinical and microscopic findings (0 to 3) and the age, missing in 8; classes: `DISEASES`.

    given: the file or a folder that holds it, as after `--data`; the default is what `data_path` finds. Raises
    DataError if the file is not found or has other contents.
    """
    names = (*(f"finding {number}" for number in range(1, 34)), "age", "class")
    columns, values = read_table(find_data(DERMATOLOGY, given), names)
    return _with_classes(DERMATOLOGY, columns, values, first=1, classes=DISEASES)


def cleveland(given: str | Path | None = None) -> Table:
    """303 patients, 13 measurements, six values missing; classes: `DEGREES`, where 0 is no disease.

    Arguments and errors as in `dermatology`.
    """
    columns, values = read_table(find_data(CLEVELAND, given), HEART_COLUMNS)
    return _with_classes(CLEVELAND, columns, values, first=0, classes=DEGREES)


def bundled(name: str) -> Table:
    """A table from scikit-learn's package, without the network.

    "diabetes": 442 x 10 in their own units; target: the progress of the disease after a year (a quantity).
    "breast_cancer": 569 x 30 measurements of cell nuclei (Wisconsin Diagnostic Breast Cancer, WDBC); classes benign and
    malignant, so 1 is the disease (scikit-learn has the opposite numbers).
    "digits": 1797 x 64, the gray levels 0 to 16 of 8 x 8 pixels, row by row; ten classes.

    Raises DataError for another name, and if scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        message = f"bundled: the table {name!r} is part of scikit-learn: {how_to_install('examples')}"
        raise DataError(message) from error
    if name == "diabetes":
        data = datasets.load_diabetes(scaled=False)
        return Table(data.data, data.target, tuple(data.feature_names))
    if name == "breast_cancer":
        data = datasets.load_breast_cancer()
        return Table(data.data, 1 - data.target.astype(np.int64), tuple(data.feature_names), ("benign", "malignant"))
    if name == "digits":
        data = datasets.load_digits()
        return Table(data.data, data.target.astype(np.int64), tuple(data.feature_names), tuple("0123456789"))
    raise DataError(f"bundled: there is no {name!r}; there are 'diabetes', 'breast_cancer' and 'digits'")


def read_table(path: str | Path, names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Read a table of numbers separated by commas: (names of the columns, float64 (rows, columns)).

    The first line may name the columns; if it holds numbers, the columns are called `names`, one for each column. An
    empty cell and `?` are missing values: NaN. Raises DataError with the line and the column of a wrong value, and if
    the first line has one of `names` in another place: the columns are in another order.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [(number, cells) for number, cells in enumerate(csv.reader(file), start=1) if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table ({error})") from error
    columns = tuple(names)
    if lines and all(_number(cell) is None for cell in lines[0][1]):
        columns = tuple(cell.strip() for cell in lines[0][1])
        lines = lines[1:]
    if len(columns) != len(names):
        raise DataError(f"{path}: line 1 names {len(columns)} columns; {len(names)} are needed")
    places = {name.lower(): i for i, name in enumerate(names)}
    for i, name in enumerate(columns):
        if places.get(name.lower(), i) != i:
            raise DataError(f"{path}: line 1 has {name} in place of {names[i]}; the order {', '.join(names)} is needed")
    if not lines:
        raise DataError(f"{path}: the table has no rows")
    values = np.empty((len(lines), len(columns)))
    for row, (number, cells) in zip(values, lines):
        if len(cells) != len(columns):
            raise DataError(f"{path}: line {number} has {len(cells)} values; {len(columns)} are needed")
        for i, cell in enumerate(cells):
            value = _number(cell)
            if value is None:
                raise DataError(f"{path}: line {number}, column {columns[i]}: {cell!r} is neither a number nor '?'")
            row[i] = value
    return columns, values


def stratified_folds(target: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Assign the examples to folds at random, so that the classes are equally frequent in all folds.

    target: class numbers (N,). Returns the number of each example's fold, int64 (N,), in 0 .. folds - 1. Raises
    ValueError if a class has fewer examples than there are folds, and for fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"stratified_folds: folds is {folds}; at least 2 are needed")
    fold = np.empty(len(target), dtype=np.int64)
    start = 0  # the next class continues with the next fold, so that the folds have equal sizes
    for number in np.unique(target):
        members = rng.permutation(np.flatnonzero(target == number))
        if len(members) < folds:
            raise ValueError(f"stratified_folds: class {number} has {len(members)} examples, too few for {folds} folds")
        fold[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return fold


def standardize(training: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Bring columns to mean 0 and standard deviation 1. A missing value becomes the median of its column.

    Mean, deviation and median come from the training rows, for `others` too: otherwise training would use knowledge of
    the test set. training, others: float64 (rows, columns), NaN for a missing value. Returns float32 arrays, one for
    each argument. A column that is constant in the training rows (up to rounding) becomes zeros there, and in others
    the difference from that constant. Raises ValueError for other shapes, infinite values, and columns without a value
    in the training rows.
    """
    tables = [np.asarray(rows, dtype=np.float64) for rows in (training, *others)]
    if tables[0].ndim != 2 or any(rows.shape[1:] != tables[0].shape[1:] for rows in tables):
        shapes = ", ".join(str(rows.shape) for rows in tables)
        raise ValueError(f"standardize: the shapes are {shapes}; (rows, columns) with equal columns are needed")
    if empty := np.flatnonzero(np.isnan(tables[0]).all(axis=0)).tolist():
        raise ValueError(f"standardize: the columns {empty} have no value in the training rows; leave them out")
    if any(np.isinf(rows).any() for rows in tables):
        raise ValueError("standardize: a value is infinite; finite numbers, or NaN for a missing value, are needed")
    medians = np.nanmedian(tables[0], axis=0)
    filled = [np.where(np.isnan(rows), medians, rows) for rows in tables]
    mean, deviation = filled[0].mean(axis=0), filled[0].std(axis=0)
    # The mean of equal values may differ from them by rounding, and so may values that should be equal.
    constant = (deviation == 0) | (np.ptp(filled[0], axis=0) <= 1e-14 * np.abs(medians))
    mean[constant], deviation[constant] = medians[constant], 1
    scaled = [(rows - mean) / deviation for rows in filled]
    scaled[0][:, constant] = 0
    return [rows.astype(np.float32) for rows in scaled]


# ---------------------------------------------------------------------------------------- small parts
def _number(cell: str) -> float | None:
    """The value of a cell, NaN if it is missing; None if the cell is neither a finite number nor missing."""
    if cell.strip() in ("", "?"):
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if math.isinf(value) or "_" in cell else value  # Python reads 1_0 as 10


def _with_classes(
    name: str, columns: tuple[str, ...], values: np.ndarray, first: int, classes: tuple[str, ...]
) -> Table:
    """A Table with the last column as class numbers from 0; in the file they start with `first`."""
    target = values[:, -1] - first
    allowed = np.isin(target, np.arange(len(classes)))
    if not allowed.all():
        row = np.flatnonzero(~allowed)[0]
        raise DataError(
            f"{name}: row {row + 1} has the class {values[row, -1]:g}; {first} to {first + len(classes) - 1} are needed"
        )
    return Table(values[:, :-1], target.astype(np.int64), columns[:-1], classes)
