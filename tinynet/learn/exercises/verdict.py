"""The outcome of a check, as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass, field

RIGHT, WRONG, NOT_WRITTEN, NOT_CHECKED = "right", "wrong", "not written yet", "could not be checked"
EXIT_CODES = {RIGHT: 0, WRONG: 1, NOT_WRITTEN: 2, NOT_CHECKED: 3}
WIDTH = 100
COLORS = {RIGHT: "#2e7d32", WRONG: "#c62828", NOT_WRITTEN: "#1565c0", NOT_CHECKED: "#616161"}


@dataclass
class Finding:
    """What is wrong with one output, over all probes.

    output: its name, e.g. "gx"; function: the function that returns it. wrong, right: the labels of the probes.
    mistake: the name of the known mistake that gives exactly the learner's values. sentence: what that mistake is, or
    a pattern that was found in the values. Both may be None.
    report: where, how many, and the worst element, for the first probe that is wrong. arguments: of that probe.
    """

    output: str
    function: str
    wrong: list[str]
    right: list[str]
    mistake: str | None
    sentence: str | None
    report: str
    arguments: str = ""

    @property
    def _on_which_probes(self) -> str:
        n = len(self.wrong) + len(self.right)
        if not self.right:
            return "wrong on the only probe" if n == 1 else f"wrong on all {n} probes"
        return f"wrong on {len(self.wrong)} of {n} probes, and right on: {'; '.join(self.right)}"

    def __str__(self) -> str:
        lines = [f"{self.function}: {self.output} is {self._on_which_probes}"]
        if self.sentence and self.sentence != self.report:
            lead = "The mistake: " if self.mistake else "What gives exactly this: "
            lines += ["", textwrap.fill(lead + self.sentence, WIDTH, initial_indent="  ", subsequent_indent="  ")]
        return "\n".join([*lines, "", textwrap.indent(self._on_first_probe, "  ")])

    @property
    def _on_first_probe(self) -> str:
        arguments = f"\n{textwrap.indent(self.arguments, '  ')}" if self.arguments else ""
        return f"On the probe '{self.wrong[0]}':{arguments}\n{self.report}"

    def as_html(self) -> str:
        name, probes, sentence, report = map(
            html.escape,
            (
                f"{self.function}: {self.output}",
                self._on_which_probes,
                self.sentence or "",
                self._on_first_probe,
            ),
        )
        said = f"<p>{sentence}</p>" if sentence else ""
        return f"<p><b>{name}</b> is {probes}</p>{said}<pre style='line-height:1.2'>{report}</pre>"


@dataclass
class Verdict:
    """The outcome of a check. status: one of the four above. message: one sentence. printed: by the learner's code."""

    id: str
    status: str
    message: str
    findings: list[Finding] = field(default_factory=list)
    printed: str = ""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]

    @property
    def mistakes(self) -> list[str]:
        """The names of the known mistakes that were found."""
        return [f.mistake for f in self.findings if f.mistake]

    def __bool__(self) -> bool:
        return self.status == RIGHT

    def __str__(self) -> str:
        parts = [f"{self.id}: {self.status}. {self.message}", *map(str, self.findings)]
        if self.printed:
            parts.append("Your code printed:\n" + textwrap.indent(self.printed.rstrip(), "  | "))
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A box for a notebook. Everything that comes from the learner is escaped."""
        head = f"<b>{html.escape(self.id)}: {html.escape(self.status)}.</b> {html.escape(self.message)}"
        body = head + "".join(finding.as_html() for finding in self.findings)
        return f"<div style='border-left:4px solid {COLORS[self.status]};padding:4px 12px'>{body}</div>"
