"""Right or wrong, where, and which mistake gives exactly that.

Every probe is run on the learner's functions and on the solution. If they differ, the known wrong solutions of the
exercise are run on the same probes. A wrong solution that returns the learner's values on every probe *is* the
learner's mistake, even if the code differs. If none does, `explain` of gradcheck searches the values for a pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .answers import Answers, Book, agree, answer_book, observe
from .exercise import Exercise, Variant
from .probe import Failure, Probe
from .verdict import NOT_WRITTEN, RIGHT, WRONG, Finding, Verdict


def judge(exercise: Exercise, functions: Mapping[str, Any], path: str = "<learner>", seed: int = 0) -> Verdict:
    """Check a learner's functions, given by name. path: of their file, for the lines in messages."""
    probes = exercise.probes(seed)
    learned = [observe(probe, functions, path) for probe in probes]
    book = answer_book(exercise, seed)
    wrong, unwritten = {}, set()
    for output, on in _probes_of_outputs(probes).items():
        actual = [learned[i][output] for i in on]
        if any(isinstance(value, Failure) and value.not_written for value in actual):
            unwritten.add(probes[on[0]].function)
            continue
        failed = [i for i, value in zip(on, actual) if not agree(value, book.solution[i][output])]
        if failed:
            wrong[output] = failed
    if wrong:
        findings = _findings(wrong, probes, learned, book)
        names = ", ".join(f"{f.function}: {f.output}" for f in findings)
        return Verdict(exercise.id, WRONG, f"not right yet: {names}", findings)
    if not unwritten:
        return Verdict(exercise.id, RIGHT, f"{len(probes)} probes, every number agrees")
    in_order = dict.fromkeys(probe.function for probe in probes)
    to_do, done = ([f for f in in_order if (f in unwritten) == missing] for missing in (True, False))
    right_so_far = f"; right so far: {', '.join(done)}" if done else ""
    return Verdict(exercise.id, NOT_WRITTEN, f"to be written: {', '.join(to_do)}{right_so_far}")


def _probes_of_outputs(probes: Sequence[Probe]) -> dict[str, list[int]]:
    """For each output the indices of the probes that return it."""
    on: dict[str, list[int]] = {}
    for i, probe in enumerate(probes):
        for output in probe.axes:
            on.setdefault(output, []).append(i)
    return on


def _findings(wrong: Mapping[str, list[int]], probes: Sequence[Probe], learned: Answers, book: Book) -> list[Finding]:
    """One Finding for each wrong output. wrong: for each the indices of the probes in which it is wrong."""
    named = _name_mistakes(wrong, probes, learned, book)
    on = _probes_of_outputs(probes)
    known = {probes[on[output][0]].function for output in named}
    findings = []
    for output, failed in wrong.items():
        i, function, mistake = failed[0], probes[failed[0]].function, named.get(output)
        no_values = all(isinstance(learned[j][output], Failure) for j in failed)
        if mistake is None and no_values and function in known:
            continue  # a named mistake ends the function by an exception: its other outputs add nothing
        sentence, report = _describe(learned[i][output], book.solution[i][output], probes[i], output, bool(mistake))
        findings.append(
            Finding(
                output,
                function,
                wrong=[probes[j].label for j in failed],
                right=[probes[j].label for j in on[output] if j not in failed],
                mistake=mistake.name if mistake else None,
                sentence=mistake.sentence if mistake else sentence,
                report=report,
            )
        )
    return findings


def _name_mistakes(
    wrong: Mapping[str, list[int]], probes: Sequence[Probe], learned: Answers, book: Book
) -> dict[str, Variant]:
    """For each wrong output the known mistake that gives exactly the learner's values; there may be none.

    A mistake in `forward` may change the output of `backward` too, and two mistakes may look the same in one output.
    The first choice is the mistake that explains most of the wrong outputs and changes fewest of the right ones.
    """
    candidates = []
    for mistake, answers in book.mistakes():
        explained, changed, exact = [], 0, True
        for output, on in _probes_of_outputs(probes).items():
            actual, theirs, expected = ([a[i][output] for i in on] for a in (learned, answers, book.solution))
            is_same = all(map(agree, actual, theirs))
            if output in wrong and (is_same or _are_alike(actual, theirs, expected)):
                explained.append(output)
                exact &= is_same
            elif output not in wrong and not is_same:
                changed += 1
        candidates.append((mistake, explained, (not exact, -len(explained), changed)))
    named: dict[str, Variant] = {}
    for mistake, explained, _ in sorted(candidates, key=lambda candidate: candidate[2]):
        if not set(explained) & set(named):
            named.update(dict.fromkeys(explained, mistake))
    return named


def _are_alike(actual: Sequence[Any], theirs: Sequence[Any], expected: Sequence[Any]) -> bool:
    """True if one output agrees on all probes, except where neither has values that can be compared.

    The same mistake may end in an exception in one program and in a wrong shape in another. At least one probe must
    show equal wrong values.
    """
    evidence = False
    for a, b, right in zip(actual, theirs, expected):
        if all(isinstance(value, Failure) or np.shape(value) != np.shape(right) for value in (a, b)):
            continue
        if not agree(a, b):
            return False
        evidence |= not agree(a, right)
    return evidence


def _describe(actual: Any, expected: Any, probe: Probe, output: str, is_named: bool) -> tuple[str | None, str]:
    """(a pattern that gives exactly the wrong values, or None; the report on one wrong output of one probe).

    is_named: the mistake is known already.
    """
    if isinstance(actual, Failure):
        return None, actual.text
    actual, expected = np.asarray(actual), np.asarray(expected)
    is_float32 = actual.dtype == np.float32 and actual.shape == expected.shape
    if is_float32 and np.allclose(actual, expected, rtol=1e-4, atol=1e-4):
        text = f"{output} was computed in float32, the arguments are float64: give new arrays the dtype of an argument"
        return text, text
    if actual.ndim == expected.ndim == 0:
        return None, f"{output} is {actual:.9g}; it must be {expected:.9g}"
    from ..gradcheck.explain import explain

    axes = tuple(probe.axes[output].split())
    explanation = explain(actual.astype(float), expected.astype(float), axes=axes, name=output, **probe.context)
    sentence = explanation.sentence
    if is_named or sentence:  # the sentence stands above the report, and the other patterns no longer matter
        explanation = replace(explanation, sentence=None, tried=())
    return sentence, str(explanation)
