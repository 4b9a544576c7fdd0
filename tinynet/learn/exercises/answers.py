"""The answers to the probes of an exercise: what a learner's functions, the solution and the known mistakes return."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .exercise import SOLUTION_FILE, Exercise, Variant, Wrong
from .guard import Refused, functions_of, where
from .probe import RTOL, Failure, Probe, Raised, Unusable, same

Observation = dict[str, Any]  # the outputs of a probe by name, each an array or a Failure
Answers = list[Observation]  # of all probes, in order


@dataclass(frozen=True)
class Book:
    """The answers of the solution and, computed when `mistakes` is called, those of the known mistakes."""

    solution: Answers
    mistakes: Callable[[], list[tuple[Variant, Answers]]]


def observe(probe: Probe, functions: Mapping[str, Any], path: str = "<learner>") -> Observation:
    """The outputs of the functions on a probe. An exception becomes a Failure of all outputs of the probe."""
    try:
        if probe.function not in functions:
            raise Unusable(f"there is no `{probe.function}` in the file; it was there in the stub")
        # Overflow shows in the values; NumPy's warnings about it would only fill the screen.
        with np.errstate(all="ignore"):
            outputs = probe.run(functions)
        return {name: outputs[name] for name in probe.axes}
    except NotImplementedError:
        failure = Failure("NotImplementedError", "", f"{probe.function} is to be written", not_written=True)
    except Unusable as error:
        failure = Failure("Unusable", str(error), str(error))
    except (Refused, MemoryError):
        raise
    except Exception as error:
        # The message, which contains shapes and values, distinguishes mistakes that all end in, say, an IndexError. The
        # message of a RecursionError depends on where the stack was full.
        kind = type(error).__name__
        message = "" if kind == "RecursionError" else str(error)
        failure = Failure(kind, message, error.text if isinstance(error, Raised) else where(error, path))
    return dict.fromkeys(probe.axes, failure)


def agree(actual: Any, expected: Any, rtol: float = RTOL) -> bool:
    """True if two outputs are equal up to the rounding of float64, or to the tolerance of the probe."""
    if isinstance(actual, Failure) or isinstance(expected, Failure):
        return isinstance(actual, Failure) and isinstance(expected, Failure) and actual == expected
    if np.shape(actual) != np.shape(expected):
        return False
    if np.asarray(expected).dtype.kind != "f" or np.asarray(actual).dtype.kind == "b":
        return same(actual, expected)
    scale = np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0)
    return bool(np.allclose(actual, expected, rtol=rtol, atol=rtol * scale, equal_nan=True))


def answer_book(exercise: Exercise, seed: int) -> Book:
    """The answers: read from a file in a handout, which has no solution, and otherwise computed."""
    stored = Path(str(exercise.module.__file__)).with_suffix(".npz")
    return read_answers(stored, exercise.probes(seed), seed) if stored.is_file() else _computed_book(exercise, seed)


@functools.lru_cache(maxsize=1)  # in a notebook the same exercise is checked repeatedly
def _computed_book(exercise: Exercise, seed: int) -> Book:
    probes = exercise.probes(seed)

    def answers(text: str) -> Answers:
        functions = functions_of(text, SOLUTION_FILE, exercise.imports)
        return [observe(probe, functions, SOLUTION_FILE) for probe in probes]

    @functools.cache
    def mistakes() -> list[tuple[Variant, Answers]]:
        return [(wrong, answers(exercise.variant(wrong))) for wrong in exercise.wrong]

    solution = answers(exercise.solution)
    for probe, observation in zip(probes, solution):
        for failure in observation.values():
            if isinstance(failure, Failure):  # otherwise it would be right to fail in the same way
                raise RuntimeError(f"{exercise.id}: the solution fails on the probe {probe.label!r}: {failure.text}")
    return Book(solution, mistakes)


# ---------------------------------------------------------------------------------------- the file of a handout
def stored_answers(exercise: Exercise, seed: int) -> dict[str, Any]:
    """All answers as arrays with keys such as "solution/0/gx" (probe 0, output gx), to be read by `read_answers`."""
    book = answer_book(exercise, seed)
    mistakes = book.mistakes()
    arrays = {
        "seed": np.array(seed),
        "names": np.array([mistake.name for mistake, _ in mistakes]),
        "sentences": np.array([mistake.sentence for mistake, _ in mistakes]),
    }
    for who, answers in [("solution", book.solution), *((str(k), a) for k, (_, a) in enumerate(mistakes))]:
        for i, observation in enumerate(answers):
            for output, value in observation.items():
                is_failure = isinstance(value, Failure)
                arrays[f"{who}/{i}/{output}"] = np.array([value.kind, value.message]) if is_failure else value
    return arrays


def read_answers(file: Path, probes: Sequence[Probe], seed: int) -> Book:
    """The answers that were saved from `stored_answers`. Raises ValueError for another seed than the handout's."""
    with np.load(file) as archive:
        arrays = dict(archive)
    if seed != int(arrays["seed"]):
        raise ValueError(f"this is a handout: its answers are for --seed {arrays['seed']}, not {seed}")

    def value(array: np.ndarray) -> Any:
        return Failure(str(array[0]), str(array[1]), str(array[1])) if array.dtype.kind == "U" else array

    def answers(who: str) -> Answers:
        return [{o: value(arrays[f"{who}/{i}/{o}"]) for o in probe.axes} for i, probe in enumerate(probes)]

    def mistakes() -> list[tuple[Variant, Answers]]:
        told = zip(arrays["names"], arrays["sentences"])
        return [(Wrong(str(name), str(text)), answers(str(k))) for k, (name, text) in enumerate(told)]

    return Book(answers("solution"), mistakes)
