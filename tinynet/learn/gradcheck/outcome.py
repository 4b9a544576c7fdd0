"""The base class of the results of checks."""

from __future__ import annotations


class Outcome:
    """A result that is true if the check passed. A notebook shows its report."""

    @property
    def passed(self) -> bool:
        raise NotImplementedError

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return str(self)
