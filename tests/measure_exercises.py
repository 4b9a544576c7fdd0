"""How good are the checks of the exercises? Writes docs/exercises_measured.md.

    python tests/measure_exercises.py [--only conv-05 ...] [--out docs/exercises_measured.md]

It writes two tables. The first counts the planted mistakes that the exercises' own checks catch and name, and those
that three other protocols catch (other_checkers.py). The second counts mechanical mutants of all solutions
(exercise_mutants.py) and explains every survivor.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from exercise_mutants import mutants, survives
from other_checkers import CHECKERS, cases_of, passes

from tinynet.learn.exercises.exercise import COURSE_FOLDER, SOLUTION_FILE, Exercise, course, exercise
from tinynet.learn.exercises.guard import functions_of
from tinynet.learn.exercises.judge import judge
from tinynet.learn.exercises.verdict import RIGHT, WRONG

SEEDS = range(20)
DRAWS = 10  # of the other protocols, some of which check one random element

ANY_NEGATIVE = "the same: any negative number lets NumPy compute this length"
EITHER_FORMULA = "the same: at x = 0 both formulas give the same value"
NOT_USED = "the same: what is divided by it is 0"
LARGER = "the same: the scratch array is larger than needed, and the rest is cut off"
ANY_GY = "as good: another random upstream gradient"
ANOTHER_TOLERANCE = "as good: a tolerance or a step that differs by less than a decimal place"

# Survivors by (exercise, what the changed line is made from, what into): a part of each line is enough.
EXPLAINED = {
    ("ad-01", "np.zeros(x.shape)", "np.ones(x.shape)"): "the same: every element is written before it is returned",
    ("ad-05", "{last: 0}", "{last: 1}"): "the same: the number of uses of `last` itself is never read",
    ("ad-06", "reshape(-1", "reshape(-2"): ANY_NEGATIVE,
    ("act-01", "x < 0", "x <= 0"): EITHER_FORMULA,
    ("act-02", "x > 0", "x >= 0"): EITHER_FORMULA,
    ("act-02", "np.minimum(x, 0)", "np.minimum(x, 1)"): "the same: this branch is not used for positive x",
    ("loss-01", "x < 0", "x <= 0"): EITHER_FORMULA,
    ("loss-02", "-1)", "-2)"): ANY_NEGATIVE,
    (
        "drop-01",
        "u < p",
        "u <= p",
    ): "differs if a random number equals p: one of 2^32, and none of those that were tried",
    ("conv-03", "-1, w.shape[3]", "-2, w.shape[3]"): ANY_NEGATIVE,
    ("conv-05", "2 * p", "3 * p"): LARGER,
    ("conv-06", "2 * p", "3 * p"): LARGER,
    ("conv-08", "2 * p", "3 * p"): LARGER,
    ("conv-08", "gw = np.zeros", "gw = np.ones"): "the same: every element is written before it is returned",
    ("samp-01", "wy * dx * along", "wy / dx * along"): "the same: dx is -1 or 1",
    ("det-01", "union, 1)", "union, 2)"): NOT_USED,
    ("cam-01", "highest, 1)", "highest, 2)"): NOT_USED,
    ("cam-01", "labels] = 1", "labels] = 2"): "the same: each map is divided by its maximum",
    ("hunt-01", "default_rng(0)", "default_rng(1)"): ANY_GY,
    ("hunt-01", "rng.uniform(0.5, 1.5", "rng."): ANY_GY,
    ("hunt-01", "rng.choice([-1.0, 1.0]", "rng.choice(["): ANY_GY,
    ("hunt-01", "max(1, abs(x[index]))", "max("): ANOTHER_TOLERANCE,
    ("hunt-01", "1e-06 * max(1, abs(numeric))", "max("): ANOTHER_TOLERANCE,
}

# Mistakes that are not named in another way to write the rest, by (exercise, that way, mistake).
UNNAMED = {
    (
        "ad-03",
        "an empty axis is no axis",
        "one missing axis",
    ): "raises an exception in every wrong case, so there are no values to compare; the message names the line",
    ("ad-05", "the longest waiting first", "depth first"): "the two together are breadth first, and are named so",
    (
        "loss-02",
        "by the common denominator",
        "square forgotten",
    ): "in this formula the square belongs to both terms, so the values differ",
    (
        "conv-08",
        "a loop over outputs",
        "input: = for +=",
    ): "the last output remains, not the last tap; it is named so, with a sentence of its own",
    (
        "det-01",
        "a small constant",
        "NMS: >= for >",
    ): "with the constant, an IoU that should be equal to the threshold is smaller",
    (
        "opt-01",
        "the correction in the step size",
        "not corrected",
    ): "right: this formula does not use the changed value",
    ("opt-01", "the correction in the step size", "old mean"): "right: this formula does not use the changed value",
    ("hunt-01", "another seed", "one-sided difference"): "the right kernels that it refuses depend on the seed",
}


@dataclass
class Row:
    """The planted mistakes of one exercise.

    rewritten: the same mistakes in other correct versions of the solution, and how many of these were named.
    others: how many each of the other protocols caught; None if there is no gradient to check.
    """

    planted: int = 0
    caught: int = 0
    named: int = 0
    rewritten: int = 0
    rewritten_named: int = 0
    false_alarms: int = 0
    others: dict[str, float] | None = field(default=None)


def measure_planted(this: Exercise) -> Row:
    """Run all checkers on all wrong solutions, and the exercise's own on the right ones with many seeds."""

    def functions(text: str) -> dict:
        return functions_of(text, SOLUTION_FILE, this.imports)

    row, right = Row(planted=len(this.wrong)), functions(this.solution)
    for wrong in this.wrong:
        verdict = judge(this, functions(this.variant(wrong)), SOLUTION_FILE)
        row.caught += verdict.status == WRONG
        row.named += set(verdict.mistakes) == {wrong.name}
    for text, _, name in rewritten(this):
        row.rewritten += 1
        row.rewritten_named += name in judge(this, functions(text), SOLUTION_FILE).mistakes
    for text in (this.solution, *map(this.variant, this.right)):
        row.false_alarms += sum(judge(this, functions(text), SOLUTION_FILE, seed).status != RIGHT for seed in SEEDS)
    if cases_of(this.id, right, right):
        row.others = {}
        for name, checker in CHECKERS.items():
            if not all(passes(checker, cases_of(this.id, right, right), seed) for seed in range(DRAWS)):
                raise RuntimeError(f"{this.id}: the protocol {name!r} refuses the solution")
            refused = [
                [not passes(checker, cases_of(this.id, functions(this.variant(wrong)), right), s) for s in range(DRAWS)]
                for wrong in this.wrong
            ]
            row.others[name] = float(np.mean(refused, axis=1).sum())
    return row


def rewritten(this: Exercise) -> Iterator[tuple[str, str, str]]:
    """(a learner's file, the name of the version, the name of its mistake) for other correct versions of the solution.

    The exercises recognize a mistake by its values. For their own wrong solutions the values agree to the last bit;
    here the code differs.
    """
    for right in this.right:
        for wrong in this.wrong:
            with contextlib.suppress(ValueError):  # this version does not contain the text that the mistake changes
                yield this.variant(right, wrong), right.name, wrong.name


def explanation(id: str, before: str, after: str) -> str | None:
    """Why a survivor survives; None if it is not explained."""
    found = (why for (i, old, new), why in EXPLAINED.items() if i == id and old in before and new in after)
    return next(found, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=course(COURSE_FOLDER), help="some exercises instead of all")
    parser.add_argument("--out", default="docs/exercises_measured.md", help="where the tables go")
    options = parser.parse_args()
    lines, survivors, rows = [], [], {}
    made: collections.Counter = collections.Counter()
    for id in options.only:
        this = exercise(id, COURSE_FOLDER)
        rows[id] = measure_planted(this)
        all_of_it = mutants(this)
        left = [mutant for mutant in all_of_it if survives(this, mutant)]
        made[id] = len(all_of_it)
        survivors += [(id, mutant.change, explanation(id, mutant.before, mutant.after)) for mutant in left]
        print(f"{id}: {rows[id]}; {made[id]} mutants, {len(left)} survive", flush=True)
    lines += [INTRODUCTION, *planted_table(rows), *unnamed_table(), MUTANTS, *mutant_table(made, survivors)]
    Path(options.out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    unexplained = [s for s in survivors if s[2] is None]
    print(f"wrote {options.out}; survivors without explanation: {len(unexplained)}")
    for id, change, _ in unexplained:
        print(f"  {id} {change}")


INTRODUCTION = """# What the checks of the exercises catch

Made by `python tests/measure_exercises.py`. The exercises themselves: [exercises.md](exercises.md).

## Planted mistakes

Each exercise comes with wrong solutions that people write. *Caught*: the check calls it wrong. *Named*: with its own
sentence and no other. *Rewritten*: the same mistakes in other correct versions of the solution, if they fit, and how
many of these are named. This column says more than the one before it, in which the values come from the same code.
*False alarms*: right solutions called wrong, over 20 seeds each. The last three columns count the same mistakes as
caught by three other protocols, rewritten from their publications ([other_checkers.py](../tests/other_checkers.py)) and
averaged over 10 draws; "-" if an exercise has no gradient to check. None of them names a mistake.

| exercise | planted | caught | named | rewritten | named | false alarms | cs231n-style | minitorch-style | all ones |
|---|---|---|---|---|---|---|---|---|---|"""

MUTANTS = """
The three others miss different mistakes. cs231n's protocol has a random upstream gradient and checks all elements. It
misses mistakes that its one shape hides (square images, stride 1, padding 1, the layer's usual parameters), or that
need values which it does not try (large values, ties, zero, points outside of the image). An upstream gradient of ones
misses mistakes that ignore gy or exchange its axes, and every softmax that returns zeros. One element with a tolerance
of a percent misses mistakes in other elements and small ones.

## Mechanical mutants

A program ([exercise_mutants.py](../tests/exercise_mutants.py)) changes one operator, comparison, index, axis, function
or constant of a solution, in every possible place.

| exercise | mutants | caught | survive |
|---|---|---|---|"""


COLUMNS = ("planted", "caught", "named", "rewritten", "rewritten_named", "false_alarms")


def planted_table(rows: dict[str, Row]) -> list[str]:
    with_gradient = [row for row in rows.values() if row.others]
    lines = [_line(id, *_sums([row]), *_others([row] if row.others else [])) for id, row in rows.items()]
    lines.append(_line("**all**", *_sums(rows.values()), *_others([])))
    return [*lines, _line("**with a gradient**", *_sums(with_gradient), *_others(with_gradient))]


def _sums(rows: Iterable[Row]) -> list[int]:
    rows = list(rows)
    return [sum(getattr(row, name) for row in rows) for name in COLUMNS]


def _others(rows: list[Row]) -> list[str]:
    return [f"{sum(row.others[name] for row in rows):.3g}" if rows else "-" for name in CHECKERS]


def unnamed_table() -> list[str]:
    lines = [
        "\nRewritten mistakes that are not named:\n",
        "| exercise | written with | mistake | why |",
        "|---|---|---|---|",
    ]
    return lines + [_line(*key, why) for key, why in UNNAMED.items()]


def mutant_table(made: collections.Counter, survivors: list[tuple[str, str, str | None]]) -> list[str]:
    count = collections.Counter(id for id, _, _ in survivors)
    lines = [_line(id, made[id], made[id] - count[id], count[id]) for id in made]
    lines.append(_line("**all**", made.total(), made.total() - len(survivors), len(survivors)))
    lines += ["\nThe survivors, each with the reason:\n", "| exercise | change | why it survives |", "|---|---|---|"]
    return lines + [_line(id, change.replace("|", "\\|"), why or "**not explained**") for id, change, why in survivors]


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    main()
