"""Right or wrong, where, and which mistake gives exactly that.

Every probe is run on the learner's functions and on the solution. If they differ, the known wrong solutions of the
exercise are run on the same probes. A wrong solution that returns the learner's values on every probe *is* the
learner's mistake, even if the code differs. If none does, `explain` of gradcheck searches the values for a pattern.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .answers import Answers, Book, agree, answer_book, observe
from .exercise import Exercise, Variant, Wrong
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
        failed = [i for i, value in zip(on, actual) if not agree(value, book.solution[i][output], probes[i].rtol)]
        if failed:
            wrong[output] = failed
    if wrong:
        findings = _findings(exercise, wrong, probes, learned, book)
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


def _findings(
    exercise: Exercise, wrong: Mapping[str, list[int]], probes: Sequence[Probe], learned: Answers, book: Book
) -> list[Finding]:
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
        pairs = [(learned[j][output], book.solution[j][output], probes[j]) for j in failed]
        report = _describe(*pairs[0], output)
        sentence = None if mistake else _pattern_of_all(pairs, output)
        names = exercise.arguments.get(function, ([],))[0]
        findings.append(
            Finding(
                output,
                function,
                wrong=[probes[j].label for j in failed],
                right=[probes[j].label for j in on[output] if j not in failed],
                mistake=mistake.name if mistake else None,
                sentence=mistake.sentence if mistake else sentence,
                report=report,
                arguments=probes[i].shown(names),
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
    for mistake, answers in (*book.mistakes(), *_exchanged(probes, book.solution)):
        explained, changed, exact = [], 0, True
        for output, on in _probes_of_outputs(probes).items():
            actual, theirs, expected = ([a[i][output] for i in on] for a in (learned, answers, book.solution))
            tolerances = [probes[i].rtol for i in on]
            is_same = all(map(agree, actual, theirs, tolerances))
            if output in wrong and (is_same or _are_alike(actual, theirs, expected, tolerances)):
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


def _are_alike(
    actual: Sequence[Any], theirs: Sequence[Any], expected: Sequence[Any], tolerances: Sequence[float]
) -> bool:
    """True if one output agrees on all probes, except where neither has values that can be compared.

    The same mistake may end in an exception in one program and in a wrong shape in another. At least one probe must
    show equal wrong values.
    """
    evidence = False
    for a, b, right, rtol in zip(actual, theirs, expected, tolerances):
        if all(isinstance(value, Failure) or np.shape(value) != np.shape(right) for value in (a, b)):
            continue
        if not agree(a, b, rtol):
            return False
        evidence |= not agree(a, right, rtol)
    return evidence


def _exchanged(probes: Sequence[Probe], solution: Answers) -> Iterator[tuple[Variant, Answers]]:
    """The right results of a function in each other order, as mistakes."""
    results = {probe.function: list(probe.axes) for probe in probes if probe.is_call}
    for function, names in results.items():
        for order in itertools.islice(itertools.permutations(names), 1, None):
            moved = dict(zip(names, order))
            asked, got = (", ".join(name.rpartition(": ")[2] for name in some) for some in (names, order))
            sentence = f"The results of {function} are right, but in another order: return {asked}, not {got}."
            answers = [
                {name: values[moved[name]] for name in names} if probe.function == function else values
                for probe, values in zip(probes, solution)
            ]
            yield Wrong("results exchanged", sentence), answers


def _describe(actual: Any, expected: Any, probe: Probe, output: str) -> str:
    """The report on one wrong output of one probe."""
    if isinstance(actual, Failure):
        return actual.text
    if probe.report and np.shape(actual) == np.shape(expected):
        return probe.report(output, actual, expected)
    if np.ndim(actual) == np.ndim(expected) == 0:
        return f"{output} is {actual:.9g}; it must be {expected:.9g}"
    # The mistake stands above the report, and the patterns that were tried no longer matter.
    return str(replace(_explained(actual, expected, probe, output), sentence=None, tried=()))


def _explained(actual: Any, expected: Any, probe: Probe, output: str) -> Any:
    from ..gradcheck.explain import explain  # imported here, because a right file does not need it

    axes = tuple(probe.axes[output].split())
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    return explain(actual, expected, axes=axes, name=output, every=True, **probe.context)


def _pattern_of_all(pairs: Sequence[tuple[Any, Any, Probe]], output: str) -> str | None:
    """A pattern that gives exactly the wrong values on *all* wrong probes; None if there is none.

    On one small probe many patterns fit. A factor that is the length of an axis may differ from probe to probe.
    """
    pairs = [pair for pair in pairs if not isinstance(pair[0], Failure)]
    if not pairs or pairs[0][2].report:
        return None
    if all(_is_float32(actual, expected) for actual, expected, _ in pairs):
        return f"{output} was computed in float32, the arguments are float64: give new arrays the dtype of an argument"
    if any(np.ndim(actual) == np.ndim(expected) == 0 for actual, expected, _ in pairs):
        return None
    fitting = [_explained(*pair, output).fitting for pair in pairs]
    keys = [set(map(_without_lengths, sentences)) for sentences in fitting]
    return next((s for s in fitting[0] if all(_without_lengths(s) in others for others in keys)), None)


def _is_float32(actual: Any, expected: Any) -> bool:
    is_coarse = getattr(actual, "dtype", None) == np.float32 and actual.shape == np.shape(expected)
    return is_coarse and np.allclose(actual, expected, rtol=1e-4, atol=1e-4)


def _without_lengths(sentence: str) -> str:
    return re.sub(r"[\d./]+", "#", sentence) if " is the length of " in sentence else sentence
