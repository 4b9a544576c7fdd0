"""A verdict for a terminal and for a notebook."""

from __future__ import annotations

import html
import textwrap

from .judge import NOT_WRITTEN, RIGHT, WRONG, Finding, Verdict

WIDTH = 100
COLOURS = {RIGHT: "#2e7d32", WRONG: "#c62828", NOT_WRITTEN: "#1565c0"}


def as_text(verdict: Verdict) -> str:
    """The verdict, as the command line prints it."""
    parts = [f"{verdict.id}: {verdict.status}. {verdict.message}"]
    for finding in verdict.findings:
        parts += ["", *_finding(finding)]
    if verdict.printed:
        parts += ["", "Your code printed:", textwrap.indent(verdict.printed.rstrip(), "  | ")]
    return "\n".join(parts)


def _finding(finding: Finding) -> list[str]:
    lines = [f"{finding.function}: {finding.output} is {_on_which(finding)}"]
    if finding.sentence and finding.sentence != finding.report:
        lead = "The mistake: " if finding.mistake else "What gives exactly this: "
        lines += ["", textwrap.fill(lead + finding.sentence, WIDTH, initial_indent="  ", subsequent_indent="  ")]
    lines += ["", f"  On the probe '{finding.wrong[0]}':", textwrap.indent(finding.report, "  ")]
    return lines


def _on_which(finding: Finding) -> str:
    n = len(finding.wrong) + len(finding.right)
    if not finding.right:
        return "wrong on the only probe" if n == 1 else f"wrong on all {n} probes"
    return f"wrong on {len(finding.wrong)} of {n} probes, and right on: {'; '.join(finding.right)}"


def as_html(verdict: Verdict) -> str:
    """The verdict as a box for a notebook; whatever comes from the learner is escaped."""
    colour = COLOURS.get(verdict.status, "#616161")
    parts = [f"<b>{html.escape(verdict.id)}: {html.escape(verdict.status)}.</b> {html.escape(verdict.message)}"]
    for finding in verdict.findings:
        parts.append(f"<p><b>{html.escape(finding.function)}: {html.escape(finding.output)}</b> ")
        parts.append(f"is {html.escape(_on_which(finding))}</p>")
        if finding.sentence:
            parts.append(f"<p>{html.escape(finding.sentence)}</p>")
        report = f"On the probe '{finding.wrong[0]}':\n{finding.report}"
        parts.append(f"<pre style='line-height:1.2'>{html.escape(report)}</pre>")
    body = "".join(parts)
    return f"<div style='border-left:4px solid {colour};padding:4px 12px'>{body}</div>"
