"""What a learner has passed and seen, kept beside the exercises in `.progress.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...files import atomic_path, locked


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
        self.records = self._read()

    def _read(self) -> dict[str, Record]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            return {id: Record(**record) for id, record in kept.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.path} cannot be read ({error}); delete it to start again, your exercises stay"
            ) from None

    def __getitem__(self, id: str) -> Record:
        return self.records.get(id, Record())

    def note(self, id: str, **changes: Any) -> None:
        """Change fields of a record and save it. Records that another process has saved meanwhile stay."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.with_suffix(".lock")), atomic_path(self.path) as new:
            self.records = self._read()
            self.records[id] = replace(self[id], **changes)
            new.write_text(json.dumps({id: asdict(r) for id, r in self.records.items()}, indent=1), encoding="utf-8")
