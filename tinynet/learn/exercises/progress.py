"""What a learner has passed and seen, kept beside the exercises in `.progress.json`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Record:
    """Of one exercise: whether it passed a check once, how many hints were shown, and whether the solution was viewed
    before that."""

    passed: bool = False
    hints: int = 0
    viewed: bool = False


class Progress:
    """The records of all exercises in a folder. Every change is written at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".progress.json"
        self.records: dict[str, Record] = {}
        if self.path.is_file():
            try:
                kept = json.loads(self.path.read_text(encoding="utf-8"))
                self.records = {id: Record(**record) for id, record in kept.items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{self.path} cannot be read ({error}); delete it to start anew, your exercises stay"
                ) from None

    def __getitem__(self, id: str) -> Record:
        return self.records.get(id, Record())

    def note(self, id: str, **changes: bool | int) -> None:
        """Change fields of a record, and keep it."""
        self.records[id] = Record(**{**asdict(self[id]), **changes})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({id: asdict(r) for id, r in self.records.items()}, indent=1), encoding="utf-8")
        os.replace(new, self.path)  # at no time is half a file there
