"""What turns the right result into the wrong one: the mistakes that people make, each tried in turn.

A *family* is a function that yields candidates: pairs of a sentence and the array that this mistake would give. The
first candidate that equals the wrong result is the explanation. On a small array several candidates may fit, so
`FAMILIES` begins with the simplest mistakes. A new pattern is a new line in a family.

Two kinds of families need more than the two arrays: the upstream gradient gy and the Jacobian J of the function
(J[i, o] = dy[o]/dx[i], so that the right gradient is the sum over o of J[i, o] gy[o]). These are used to compute the
result of a backward that is right except for what it does to gy, or for how it sums the contributions of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations

import numpy as np

from .pair import (
    Candidate,
    Pair,
    fits,
    fitted_factor,
    gradient_for,
    kept,
    lengths_in_words,
    names_of,
    number,
    shifts,
    subsets,
)
from .where import one


# ---------------------------------------------------------------------------------------- families on two arrays
def zeros(pair: Pair) -> Iterator[Candidate]:
    if not pair.actual.any():  # not only 0 within the error bar
        yield f"it is 0: the {pair.noun} is never computed", np.zeros_like(pair.expected)


def constant_results(pair: Pair) -> Iterator[Candidate]:
    if pair.actual.size > 1 and np.isfinite(pair.actual).all():
        value = float(pair.actual.flat[0])
        yield f"all entries are {number(value)}", np.full_like(pair.expected, value)
    yield "all entries are NaN", np.full_like(pair.expected, np.nan)


def coarse(pair: Pair) -> Iterator[Candidate]:
    near = np.abs(pair.actual - pair.expected) <= 3e-6 * np.max(np.abs(pair.expected), initial=0.0)
    sentence = "it is right to about seven digits only: something inside is computed in float32"
    yield sentence, np.where(near, pair.actual, pair.expected)


def constant_factor(pair: Pair) -> Iterator[Candidate]:
    """The right result times a factor: one of some plain factors, or one found by least squares."""
    plain = (-1.0, 2.0, 0.5, -2.0, -0.5, 3.0, 1 / 3, 4.0, 0.25)
    fitted = fitted_factor(pair.actual, pair.expected)
    enough = np.count_nonzero(pair.expected) > 1
    # A factor that prints as 1 is a gradient that differs by something else, within its error bar.
    for factor in (*plain, *((fitted,) if fitted and enough and number(fitted) != "1" else ())):
        if factor == -1.0:
            sentence = f"the sign is wrong: it is exactly minus the right {pair.noun}"
        else:
            sentence = f"it is exactly {number(factor)} times the right {pair.noun}"
        for words in lengths_in_words(factor, pair):
            yield sentence + words, factor * pair.expected


def known_arrays(pair: Pair) -> Iterator[Candidate]:
    """A known array in place of the result, as a missing factor, or as a factor too many."""
    usable = {name: a for name, a in pair.known.items() if fits(a, pair.expected)}
    right = f"the right {pair.noun}"
    for name, a in usable.items():
        a = np.broadcast_to(a, pair.expected.shape)
        yield f"it is exactly {name}", a
        yield f"it is exactly minus {name}", -a
        yield f"it is {right} times {name}: a factor {name} too many", pair.expected * a
        with np.errstate(all="ignore"):
            yield f"it is {right} divided by {name}: the factor {name} is missing", pair.expected / a
        yield f"{name} is added to {right}", pair.expected + a
        yield f"{name} is subtracted from {right}", pair.expected - a
    for (name, a), (other, b) in combinations(usable.items(), 2):
        yield f"it is exactly {name} times {other}", np.broadcast_to(a * b, pair.expected.shape)


def transposed(pair: Pair) -> Iterator[Candidate]:
    ndim = pair.expected.ndim
    for order in permutations(range(ndim)) if ndim <= 4 else ():
        moved = [k for k in range(ndim) if order[k] != k]
        if moved and tuple(pair.expected.shape[k] for k in order) == pair.expected.shape:
            yield f"axes {names_of(pair.axes, moved)} are swapped (transposed)", pair.expected.transpose(order)


def flipped(pair: Pair) -> Iterator[Candidate]:
    for some in subsets([k for k in range(pair.expected.ndim) if pair.expected.shape[k] > 1]):
        kernel = " (the kernel is flipped)" if {pair.axes[k] for k in some} <= {"kh", "kw"} else ""
        yield f"it is flipped along {names_of(pair.axes, some)}{kernel}", np.flip(pair.expected, some)


def shifted(pair: Pair) -> Iterator[Candidate]:
    for sentence, moved in shifts(pair.expected, pair.axes):
        yield f"it is shifted by one along {sentence}", moved


def one_slice_only(pair: Pair) -> Iterator[Candidate]:
    """Only the first or last index is computed, or only that index is lost."""
    for k, length in enumerate(pair.expected.shape):
        if length < 2:
            continue
        for i in (0, length - 1):
            place = one(pair.axes[k], i, length)
            yield f"only {place} is computed, the rest is 0", kept(pair.expected, k, i)
            yield f"{place} is lost: it is 0 there, the rest is right", pair.expected - kept(pair.expected, k, i)


def summed(pair: Pair) -> Iterator[Candidate]:
    """Summed or averaged over axes whose entries should stay separate."""
    for some in subsets([k for k in range(pair.expected.ndim) if pair.expected.shape[k] > 1]):
        names = names_of(pair.axes, some)
        for verb, reduce in (("summed", np.sum), ("averaged", np.mean)):
            reduced = np.broadcast_to(reduce(pair.expected, axis=some, keepdims=True), pair.expected.shape)
            yield f"it is {verb} over {names}, where every index has its own {pair.noun}", reduced


# ---------------------------------------------------------------------------------------- families on gy
def distorted_gy(pair: Pair) -> Iterator[Candidate]:
    """Right, except that gy has other values."""
    if pair.gy is None or pair.jacobian is None or pair.gy.size == 0:
        return
    gy = pair.gy
    for sentence, other in (
        ("gy is ignored: this is the gradient for a gy of ones", np.ones_like(gy)),
        ("gy is replaced by its mean", np.full_like(gy, gy.mean())),
        ("gy is replaced by its sum", np.full_like(gy, gy.sum())),
        ("gy is squared", gy * gy),
        ("of gy only the sign is used", np.sign(gy)),
        ("of gy the absolute value is used", np.abs(gy)),
    ):
        yield sentence, gradient_for(pair.jacobian, other)


def misplaced_gy(pair: Pair) -> Iterator[Candidate]:
    """Right, except that entries of gy are lost or stand in other places."""
    if pair.gy is not None and pair.jacobian is not None:
        for sentence, other in _other_gys(pair.gy, pair.gy_axes):
            yield sentence, gradient_for(pair.jacobian, other)


def _other_gys(gy: np.ndarray, axes: Sequence[str]) -> Iterator[Candidate]:
    view = Pair(gy, gy, np.zeros(gy.shape), axes, "gy")
    for sentence, moved in transposed(view):
        yield f"of gy the {sentence}", moved
    for sentence, moved in flipped(view):
        yield sentence.replace("it is", "gy is"), moved
    for k, length in enumerate(gy.shape):
        if length < 2:
            continue
        for i in (0, length - 1):
            place = one(axes[k], i, length)
            yield f"only {place} of gy is used", kept(gy, k, i)
            yield f"{place} of gy is never used", gy - kept(gy, k, i)
        inner = gy - kept(gy, k, 0) - kept(gy, k, length - 1)
        yield f"{one(axes[k], 0, length)} and {one(axes[k], length - 1, length)} of gy are never used", inner
    for sentence, moved in shifts(gy, axes):
        yield f"gy is shifted by one along {sentence}", moved
    for sentence, reduced in summed(view):
        yield sentence.replace("it is", "gy is"), reduced


def overwritten(pair: Pair) -> Iterator[Candidate]:
    """`=` where `+=` is needed: of the contributions of several outputs only the last one remains."""
    return _one_contribution(pair, "last", slice(None, None, -1))


def overwritten_backwards(pair: Pair) -> Iterator[Candidate]:
    """The same for a loop that visits the outputs in the opposite order, such as a loop over the taps of a kernel."""
    return _one_contribution(pair, "first", slice(None))


def _one_contribution(pair: Pair, which: str, order: slice) -> Iterator[Candidate]:
    """One contribution is kept by a loop over some axes of the output; the other axes are summed correctly."""
    if pair.gy is None or pair.jacobian is None or pair.gy.ndim == 0:
        return
    ndim = pair.expected.ndim
    contributions = pair.jacobian * pair.gy  # expected.shape + gy.shape
    for looped in subsets([k for k in range(pair.gy.ndim) if pair.gy.shape[k] > 1]):
        summed_over = tuple(ndim + k for k in range(pair.gy.ndim) if k not in looped)
        terms = contributions.sum(axis=summed_over).reshape(*pair.expected.shape, -1)
        # A contribution of exactly 0 overwrites, too: the Jacobian says which outputs contribute.
        touched = (np.abs(pair.jacobian).max(axis=summed_over, initial=0.0) > 1e-9).reshape(terms.shape)
        names = names_of(pair.gy_axes, looped)
        position = np.argmax(touched[..., order], axis=-1)[..., None]
        kept = np.take_along_axis(terms[..., order], position, axis=-1)[..., 0]
        yield f"only the {which} contribution over {names} of the output is kept: `=` where `+=` is needed", kept


def jacobian_mistakes(pair: Pair) -> Iterator[Candidate]:
    """The Jacobian is used wrongly; for functions whose output has the shape of the input."""
    if pair.gy is None or pair.jacobian is None or pair.gy.shape != pair.expected.shape:
        return
    n = pair.expected.size
    J = pair.jacobian.reshape(n, n)
    shape = pair.expected.shape
    diagonal = np.diagonal(J).reshape(shape)
    yield "every output is taken to depend on its own input alone (only the diagonal)", diagonal * pair.gy
    yield "the Jacobian is not transposed", (J.T @ pair.gy.reshape(n)).reshape(shape)
    yield "the input's own contribution is missing (the diagonal)", pair.expected - diagonal * pair.gy
    yield "the derivative is squared", gradient_for((J * J).reshape(pair.jacobian.shape), pair.gy)
    with np.errstate(all="ignore"):
        yield "gy is divided by the derivative, not multiplied", pair.gy / diagonal


def named_by_the_caller(pair: Pair) -> Iterator[Candidate]:
    for sentence, compute in pair.alternatives.items():
        candidate = compute()
        if candidate is not None:
            yield sentence, np.asarray(candidate)


def misplaced(pair: Pair) -> Iterator[Candidate]:
    """The right values in another order; the sentence does not say which order."""
    actual, expected = np.sort(pair.actual, axis=None), np.sort(pair.expected, axis=None)
    if actual.size > 1 and (np.abs(actual - expected) <= np.min(pair.allowed)).all():
        yield "the numbers are right, but some stand in the wrong places", pair.actual


# Title (for the list of what was tried) -> family.
FAMILIES: dict[str, Callable[[Pair], Iterator[Candidate]]] = {
    "zeros": zeros,
    "a sign or a constant factor": constant_factor,
    "computed in float32": coarse,
    "another array in the place of an input": named_by_the_caller,
    "gy ignored or distorted": distorted_gy,
    "NaN, or one number everywhere": constant_results,
    "one index lost, or only one computed": one_slice_only,
    "a known array as the result or a factor of it": known_arrays,
    "`=` for `+=`": overwritten,
    "gy transposed, flipped, shifted, or only partly used": misplaced_gy,
    "axes swapped": transposed,
    "axes flipped": flipped,
    "a shift by one": shifted,
    "a sum or mean over an axis": summed,
    "`=` for `+=` in the opposite order": overwritten_backwards,
    "the Jacobian's diagonal alone, or not transposed": jacobian_mistakes,
    "the right numbers in wrong places": misplaced,
}
