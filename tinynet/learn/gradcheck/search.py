"""Finds the mistake that turns the right array into the wrong one, among those of patterns.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .pair import Pair, fitted_factor, lengths_in_words, number
from .patterns import FAMILIES, constant_factor, constant_results, known_arrays, zeros


def search(pair: Pair, tried: list[str]) -> Iterator[str]:
    """The sentences of the mistakes that give `actual`, the simplest first; the titles of families go to `tried`."""
    for title, family in FAMILIES.items():
        candidates = list(family(pair))
        yield from (sentence for sentence, candidate in candidates if pair.is_given_by(candidate))
        if candidates:
            tried.append(title)
    for title, search_further in (
        ("the first of these in the wrong entries alone", _in_the_wrong_entries),
        ("all of these times a factor", _transformed_and_scaled),
    ):
        yield from search_further(pair)
        tried.append(title)


def _in_the_wrong_entries(pair: Pair) -> Iterator[str]:
    """A mistake in some entries only: there a simple family fits, and all other entries are right."""
    wrong = pair.is_wrong
    if wrong.all():
        return
    part = Pair(
        pair.actual[wrong],
        pair.expected[wrong],
        pair.allowed[wrong],
        ("entry",),
        f"{pair.noun} there",
        known={name: a[wrong] for name, a in pair.known.items() if a.shape == wrong.shape},
    )
    for family in (zeros, constant_factor, known_arrays):
        for sentence, candidate in family(part):
            enough = np.count_nonzero(wrong) > 1 or family is zeros
            if enough and part.is_given_by(candidate):
                yield f"in the wrong entries {sentence}; all others are right"


def _transformed_and_scaled(pair: Pair) -> Iterator[str]:
    """A candidate of any family up to a constant factor."""
    if np.count_nonzero(pair.actual) < 4:
        return  # with one factor to choose, a few numbers fit anything
    for family in FAMILIES.values():
        if family in (zeros, constant_factor, constant_results):
            continue
        for sentence, candidate in family(pair):
            if candidate.shape != pair.actual.shape:
                continue
            factor = fitted_factor(pair.actual, candidate)
            if factor and pair.is_given_by(factor * candidate):
                yield f"{sentence}, times {number(factor)}" + lengths_in_words(factor, pair)[0]
