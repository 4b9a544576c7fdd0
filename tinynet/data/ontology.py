"""The Human Disease Ontology as a tree: which disease is a kind of which other disease (Schriml et al., Human Disease
Ontology 2018 update, Nucleic Acids Research 47, 2019), and a small tree that can replace it.

The file has three columns, separated by tabs: `id`, `label`, `subClassOf`. The third is the label of the parent; a
disease with several parents has a row for each. All diseases descend from one label that has no row, "disease".
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DataError
from .class_folders import find_archive

ONTOLOGY = "tables/HumanDO.tsv"
ADDRESS = "https://github.com/DiseaseOntology/HumanDiseaseOntology (CC0; as a table of id, label and subClassOf)"
COLUMNS = ("id", "label", "subClassOf")
ROOT = "disease"
MAX_BYTES = 64 * 2**20  # the real file has 0.9 MB


@dataclass
class Ontology:
    """Diseases and their kinds. root: the label that all others descend from.

    parents: label -> labels of its parents, () for the root; ids: label -> id, without the root.
    """

    root: str
    parents: dict[str, tuple[str, ...]]
    ids: dict[str, str]

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """Label -> labels of its children, sorted; () for a disease without kinds."""
        found: dict[str, list[str]] = {label: [] for label in self.parents}
        for label, parents in self.parents.items():
            for parent in parents:
                found[parent].append(label)
        return {label: tuple(sorted(names)) for label, names in found.items()}

    def below(self, label: str) -> list[str]:
        """The disease and all its descendants, each once, also if it is reached through two parents.

        Raises ValueError if there is no disease with this label.
        """
        if label not in self.parents:
            raise ValueError(f"below: there is no disease {label!r} in the ontology")
        seen, waiting = {label: None}, [label]  # a dict keeps the order
        while waiting:
            for child in self.children[waiting.pop()]:
                if child not in seen:
                    seen[child] = None
                    waiting.append(child)
        return list(seen)


def read_ontology(given: str | Path | None = None) -> Ontology:
    """Read `tables/HumanDO.tsv`, or another table of its form: `Ontology`.

    given: the file, its folder, or a data folder with it; the default is what `data_path` finds. Raises DataError,
    which names the line, if nothing is found, a line has another number of columns or an empty cell, a label has two
    ids, an id two labels, a row is repeated, a parent is unknown, or diseases descend from themselves.
    """
    path = find_archive(ONTOLOGY, ADDRESS, given)
    if path.is_dir() and (path / Path(ONTOLOGY).name).is_file():
        path = path / Path(ONTOLOGY).name
    lines = _read_lines(path)
    labels: dict[str, str] = {}  # id -> label
    ids: dict[str, str] = {}
    parents: dict[str, tuple[str, ...]] = {}
    for number, (identifier, label, parent) in lines:
        for known, key, value in ((labels, identifier, label), (ids, label, identifier)):
            if known.setdefault(key, value) != value:
                raise DataError(f"{path}: line {number}: {key} is {value}, but an earlier line has {known[key]}")
        if parent in parents.get(label, ()):
            raise DataError(f"{path}: line {number} repeats that {label!r} is a kind of {parent!r}")
        parents[label] = (*parents.get(label, ()), parent)
    root = _find_root(path, parents, {parent: number for number, (_, _, parent) in reversed(lines)})
    ontology = Ontology(root, {root: (), **parents}, ids)
    _check_acyclic(path, ontology)
    return ontology


def synthetic_ontology() -> Ontology:
    """Thirty-four diseases of the skin in a tree of four levels, for trying out a program without the real file.

    Only the names of the three kinds (skin disease, skin cancer, skin benign neoplasm) are in the real file.
    """
    kinds = {"skin disease": (4, 4), "skin cancer": (3, 2), "skin benign neoplasm": (2, 0)}
    parents: dict[str, tuple[str, ...]] = {"disease": ()}
    for kind, (groups, members) in kinds.items():
        parents[kind] = ("disease",)
        for group in "ABCD"[:groups]:
            parents[f"{kind} {group}"] = (kind,)
            parents |= {f"{kind} {group}{number}": (f"{kind} {group}",) for number in range(1, members + 1)}
    ids = {label: f"drawn:{number}" for number, label in enumerate(parents) if number}
    return Ontology("disease", parents, ids)


# ---------------------------------------------------------------------------------------- small parts
def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """(number of the line, its three cells) of each row below the header."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter="\t", strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table ({error})") from error
    if not lines or tuple(lines[0][1]) != COLUMNS:
        found = ", ".join(lines[0][1])[:80] if lines else "nothing"
        raise DataError(f"{path}: line 1 holds {found}; the columns {', '.join(COLUMNS)} with tabs between are needed")
    for number, cells in lines[1:]:
        if len(cells) != len(COLUMNS) or not all(cells):
            raise DataError(f"{path}: line {number} has {cells}; an id, a label and a parent's label are needed")
    if len(lines) == 1:
        raise DataError(f"{path}: the table has no rows below its header")
    return lines[1:]


def _find_root(path: Path, parents: dict[str, tuple[str, ...]], lines: dict[str, int]) -> str:
    """The one parent that has no row of its own. lines: label of a parent -> the first line that names it."""
    without_row = [parent for parent in lines if parent not in parents]
    if not without_row:
        raise DataError(f"{path}: every parent has a row, so diseases descend from themselves: {_cycle(parents)}")
    root = ROOT if ROOT in without_row else without_row[0]
    for parent in without_row:
        if parent != root:
            raise DataError(
                f"{path}: line {lines[parent]}: the parent {parent!r} has no row; only the root {root!r} needs none"
            )
    return root


def _check_acyclic(path: Path, ontology: Ontology) -> None:
    """Remove the diseases whose parents are all removed, from the root on. The rest is part of a cycle or below one."""
    waiting = [ontology.root]
    missing = {label: len(parents) for label, parents in ontology.parents.items()}
    left = dict(ontology.parents)
    while waiting:
        removed = waiting.pop()
        del left[removed]
        for child in ontology.children[removed]:
            missing[child] -= 1
            if not missing[child]:
                waiting.append(child)
    if left:
        raise DataError(f"{path}: diseases descend from themselves: {_cycle(left)}")


def _cycle(left: dict[str, tuple[str, ...]]) -> str:
    """A cycle in words. Each label in `left` has a parent in `left`, so a walk from parent to parent finds one."""
    label = next(iter(left))
    walk: dict[str, int] = {}  # label -> its place in the walk
    while label not in walk:
        walk[label] = len(walk)
        label = next(parent for parent in left[label] if parent in left)
    cycle = [*list(walk)[walk[label] :], label]
    shown = cycle if len(cycle) <= 6 else [*cycle[:4], f"... ({len(cycle) - 5} more)", cycle[-1]]
    return " is a kind of ".join(shown)
