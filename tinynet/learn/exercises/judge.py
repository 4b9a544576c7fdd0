"""Right or wrong, where, and which mistake gives exactly that.

Every probe is run on the learner's functions and on the solution. Where they differ, each of the exercise's known
wrong solutions is run on the same probes: one that gives the learner's wrong numbers, all of them and on every probe,
*is* the learner's mistake, whatever the code looks like. Where none does, `explain` of gradcheck searches for a
pattern in the numbers themselves.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .exercise import SOLUTION_FILE, Exercise, Failure, Probe, Unusable, Wrong, same
from .guard import Refused, functions_of, where

RTOL = 1e-9  # float64 against float64; relative to the largest value, too

RIGHT, WRONG, NOT_WRITTEN, NOT_CHECKED = "right", "wrong", "not written yet", "could not be checked"
EXIT_CODES = {RIGHT: 0, WRONG: 1, NOT_WRITTEN: 2, NOT_CHECKED: 3}


Observation = dict[str, Any]  # the outputs of a probe by name, each an array or a Failure
Answers = list[Observation]  # of all probes, in order


@dataclass
class Finding:
    """What is wrong with one output, over all probes.

    output: e.g. "gx", given by `function`. wrong, right: the labels of the probes. mistake: the name of the known wrong
    solution that gives exactly this, and sentence what it says, or a pattern found in the numbers; both may be None.
    report: where, how many, the worst element, for the first probe that is wrong.
    """

    output: str
    function: str
    wrong: list[str]
    right: list[str]
    mistake: str | None
    sentence: str | None
    report: str


@dataclass
class Verdict:
    """The outcome of a check. status: one of the four above; message: one sentence on it; printed: by the learner."""

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
        from .page import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return f"<{self.id}: {self.status}>"

    def _repr_html_(self) -> str:
        from .page import as_html

        return as_html(self)

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Verdict:
        fields = json.loads(text)
        return cls(**{**fields, "findings": [Finding(**f) for f in fields["findings"]]})


def judge(exercise: Exercise, functions: Mapping[str, Any], path: str = "<learner>", seed: int = 0) -> Verdict:
    """Check a learner's functions, given by name. path: of their file, for the lines in messages."""
    probes = exercise.probes(seed)
    learned = [observe(probe, functions, path) for probe in probes]
    book = answer_book(exercise, probes, seed)
    wrong, unwritten = {}, set()
    for output, on in probes_of_outputs(probes).items():
        got = [learned[i][output] for i in on]
        if any(isinstance(value, Failure) and value.not_written for value in got):
            unwritten.add(probes[on[0]].function)
            continue
        failed = [i for i, value in zip(on, got) if not agree(value, book.solution[i][output])]
        if failed:
            wrong[output] = failed
    if wrong:
        findings = explained(wrong, probes, learned, book)
        names = ", ".join(f"{f.function}: {f.output}" for f in findings)
        return Verdict(exercise.id, WRONG, f"not right yet: {names}", findings)
    if not unwritten:
        return Verdict(exercise.id, RIGHT, f"{len(probes)} probes, every number agrees")
    in_order = dict.fromkeys(probe.function for probe in probes)
    to_do, done = ([f for f in in_order if (f in unwritten) == missing] for missing in (True, False))
    right_so_far = f"; right so far: {', '.join(done)}" if done else ""
    return Verdict(exercise.id, NOT_WRITTEN, f"to be written: {', '.join(to_do)}{right_so_far}")


def probes_of_outputs(probes: Sequence[Probe]) -> dict[str, list[int]]:
    """For each output the numbers of the probes that give it."""
    on: dict[str, list[int]] = {}
    for i, probe in enumerate(probes):
        for output in probe.axes:
            on.setdefault(output, []).append(i)
    return on


def explained(wrong: Mapping[str, list[int]], probes: Sequence[Probe], learned: Answers, book: Book) -> list[Finding]:
    """What is to be said on each wrong output; wrong: the numbers of the probes in which it is."""
    named = name_mistakes(wrong, probes, learned, book)
    on = probes_of_outputs(probes)
    known = {probes[on[output][0]].function for output in named}
    findings = []
    for output, failed in wrong.items():
        i, function, mistake = failed[0], probes[failed[0]].function, named.get(output)
        no_numbers = all(isinstance(learned[j][output], Failure) for j in failed)
        if mistake is None and no_numbers and function in known:
            continue  # a named mistake ends the function by an exception: its other outputs tell nothing new
        sentence, report = describe(learned[i][output], book.solution[i][output], probes[i], output, bool(mistake))
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


def observe(probe: Probe, functions: Mapping[str, Any], path: str = "<learner>") -> Observation:
    """What the functions give on a probe. An exception becomes a Failure of all the probe's outputs."""
    try:
        if probe.function not in functions:
            raise Unusable(f"there is no `{probe.function}` in the file; it was there in the stub")
        # Overflow and the like show in the numbers; warnings about them would only fill the screen.
        with np.errstate(all="ignore"):
            given = probe.run(functions)
        return {name: given[name] for name in probe.axes}
    except NotImplementedError:
        failure = Failure("NotImplementedError", "", f"{probe.function} is to be written", not_written=True)
    except Unusable as error:
        failure = Failure("Unusable", str(error), str(error))
    except (Refused, MemoryError):
        raise
    except Exception as error:
        # The message, which has shapes and numbers in it, tells apart mistakes that all end in, say, an IndexError. The
        # one about too deep a recursion depends on where the last straw was.
        message = "" if isinstance(error, RecursionError) else str(error)
        failure = Failure(type(error).__name__, message, where(error, path))
    return dict.fromkeys(probe.axes, failure)


def agree(got: Any, want: Any) -> bool:
    """Whether an output is the one that is wanted, to the rounding of float64."""
    if isinstance(got, Failure) or isinstance(want, Failure):
        return isinstance(got, Failure) and isinstance(want, Failure) and got == want
    if np.shape(got) != np.shape(want):
        return False
    if np.asarray(want).dtype.kind != "f" or np.asarray(got).dtype.kind == "b":
        return same(got, want)
    scale = np.max(np.abs(want[np.isfinite(want)]), initial=0.0)
    return bool(np.allclose(got, want, rtol=RTOL, atol=RTOL * scale, equal_nan=True))


# ---------------------------------------------------------------------------------------- the mistakes' names
@dataclass(frozen=True)
class Book:
    """The answers to all probes: the solution's, and those of the known mistakes, computed when they are asked for."""

    solution: Answers
    mistakes: Callable[[], list[tuple[Wrong, Answers]]]


def answer_book(exercise: Exercise, probes: Sequence[Probe], seed: int) -> Book:
    """The answers, computed from the solution, or in a handout, which has none, read from a file."""
    recorded = Path(exercise.module.__file__).with_suffix(".npz")
    if recorded.is_file():
        from .handout import read_answers

        return read_answers(recorded, probes, seed)
    return computed_book(exercise, seed)


@functools.lru_cache(maxsize=1)  # in a notebook one exercise is checked again and again
def computed_book(exercise: Exercise, seed: int) -> Book:
    """The answers of the solution and, when they are asked for, of its wrong variants."""
    probes = exercise.probes(seed)

    def answers(text: str) -> Answers:
        functions = functions_of(text, SOLUTION_FILE, exercise.imports)
        return [observe(probe, functions, SOLUTION_FILE) for probe in probes]

    @functools.cache
    def mistakes() -> list[tuple[Wrong, Answers]]:
        return [(wrong, answers(exercise.variant(wrong))) for wrong in exercise.wrong]

    solution = answers(exercise.solution)
    for probe, observation in zip(probes, solution):
        for failure in observation.values():
            if isinstance(failure, Failure):  # it would count as right to fail in the same way
                raise RuntimeError(f"{exercise.id}: the solution fails on the probe {probe.label!r}: {failure.text}")
    return Book(solution, mistakes)


def name_mistakes(
    wrong: Mapping[str, list[int]], probes: Sequence[Probe], learned: Answers, book: Book
) -> dict[str, Wrong]:
    """For each wrong output the known mistake that gives exactly the learner's numbers; there may be none.

    A mistake in `forward` may spoil the output of `backward` too, and two mistakes may look alike in one output: first
    comes the mistake that accounts for most of the wrong outputs and spoils fewest of those that are right.
    """
    candidates = []
    for mistake, answers in book.mistakes():
        accounted, spoiled, exact = [], 0, True
        for output, on in probes_of_outputs(probes).items():
            got, theirs, want = ([a[i][output] for i in on] for a in (learned, answers, book.solution))
            is_same = all(map(agree, got, theirs))
            if output in wrong and (is_same or are_alike(got, theirs, want)):
                accounted.append(output)
                exact &= is_same
            elif output not in wrong and not is_same:
                spoiled += 1
        candidates.append((mistake, accounted, (not exact, -len(accounted), spoiled)))
    named: dict[str, Wrong] = {}
    for mistake, accounted, _ in sorted(candidates, key=lambda candidate: candidate[2]):
        if not set(accounted) & set(named):
            named.update(dict.fromkeys(accounted, mistake))
    return named


def are_alike(got: Sequence[Any], theirs: Sequence[Any], want: Sequence[Any]) -> bool:
    """Whether one output of all probes agrees but where both have no numbers to compare.

    One mistake ends in an exception here and in a wrong shape there, depending on how the rest is written. It takes one
    probe with equal wrong numbers.
    """
    evidence = False
    for a, b, right in zip(got, theirs, want):
        if _is_unusable(a, right) and _is_unusable(b, right):
            continue
        if not agree(a, b):
            return False
        evidence |= not agree(a, right)
    return evidence


def _is_unusable(got: Any, want: Any) -> bool:
    return isinstance(got, Failure) or np.shape(got) != np.shape(want)


def describe(got: Any, want: Any, probe: Probe, output: str, is_named: bool) -> tuple[str | None, str]:
    """(a pattern that gives exactly this, or None; the report on one wrong output of one probe).

    is_named: the mistake is known already.
    """
    if isinstance(got, Failure):
        return None, got.text
    got, want = np.asarray(got), np.asarray(want)
    letters = tuple(probe.axes[output].split())
    if got.dtype == np.float32 and got.shape == want.shape and np.allclose(got, want, rtol=1e-4, atol=1e-4):
        text = f"{output} was computed in float32, the arguments are float64: give new arrays the dtype of an argument"
        return text, text
    if got.ndim == want.ndim == 0:
        return None, f"{output} is {got:.9g}; it must be {want:.9g}"
    from ..gradcheck.explain import explain

    explanation = explain(got.astype(float), want.astype(float), axes=letters, name=output, **probe.context)
    sentence = explanation.sentence
    if is_named or sentence:  # then nobody wants to know which patterns were tried in vain, or read it twice
        explanation = replace(explanation, sentence=None, tried=())
    return sentence, str(explanation)
