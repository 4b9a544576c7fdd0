"""Finds the mistake that turns the right array into the wrong one, among those of patterns.py."""

from __future__ import annotations

import numpy as np

from .pair import Pair, fitted_factor, lengths_in_words, number
from .patterns import FAMILIES, constant_factor, constant_results, known_arrays, zeros


def search(pair: Pair) -> tuple[str | None, tuple[str, ...]]:
    """(the sentence of the first mistake that gives `actual`, or None; the titles of the families tried before)."""
    tried: list[str] = []
    for title, family in FAMILIES.items():
        candidates = list(family(pair))
        for sentence, candidate in candidates:
            if pair.is_given_by(candidate):
                return sentence, tuple(tried)
        if candidates:
            tried.append(title)
    for title, search_further in (
        ("the first of these in the wrong entries alone", _in_the_wrong_entries),
        ("all of these times a factor", _transformed_and_scaled),
    ):
        further = search_further(pair)
        if further:
            return further, tuple(tried)
        tried.append(title)
    return None, tuple(tried)


def _in_the_wrong_entries(pair: Pair) -> str | None:
    """A mistake in some entries only: there a simple family fits, and all other entries are right."""
    wrong = pair.is_wrong
    if wrong.all():
        return None
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
                return f"in the wrong entries {sentence}; all others are right"
    return None


def _transformed_and_scaled(pair: Pair) -> str | None:
    """A candidate of any family up to a constant factor."""
    if np.count_nonzero(pair.actual) < 4:
        return None  # with one factor to choose, a few numbers fit anything
    for family in FAMILIES.values():
        if family in (zeros, constant_factor, constant_results):
            continue
        for sentence, candidate in family(pair):
            if candidate.shape != pair.actual.shape:
                continue
            factor = fitted_factor(pair.actual, candidate)
            if factor and pair.is_given_by(factor * candidate):
                return f"{sentence}, times {number(factor)}" + lengths_in_words(factor, pair)
    return None
