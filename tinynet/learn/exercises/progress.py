"""What a learner has passed and seen, kept beside the exercises in `.progress.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...files import atomic_path


@dataclass
class Record:
    """Progress in one exercise. viewed: the learner saw the solution before the first pass."""

    passed: bool = False
    hints: int = 0
    viewed: bool = False


class Progress:
    """The records of all exercises in a folder. Every change is written immediately."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".progress.json"
        self.records: dict[str, Record] = {}
        if self.path.is_file():
            try:
                kept = json.loads(self.path.read_text(encoding="utf-8"))
                self.records = {id: Record(**record) for id, record in kept.items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{self.path} cannot be read ({error}); delete it to start again, your exercises stay"
                ) from None

    def __getitem__(self, id: str) -> Record:
        return self.records.get(id, Record())

    def note(self, id: str, **changes: bool | int) -> None:
        """Change fields of a record and save it."""
        self.records[id] = replace(self[id], **changes)
        with atomic_path(self.path) as new:
            new.write_text(json.dumps({id: asdict(r) for id, r in self.records.items()}, indent=1), encoding="utf-8")
