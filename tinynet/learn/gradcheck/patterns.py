"""What turns the right result into the wrong one: the mistakes that people make, each tried in turn.

A *family* is a function that yields candidates: pairs of a sentence and the array that this mistake would give. The
first candidate that equals the wrong result is the explanation. The families stand in the order of `FAMILIES`, the
plainest mistakes first, because on a small array several may fit. A new pattern is a new line in a family.

Two kinds of families need more than the two arrays. With the upstream gradient gy and the Jacobian J of the function
(J[i, o] = dy[o]/dx[i], so that the right gradient is the sum over o of J[i, o] gy[o]) we can compute what a backward
gives that is right but for what it does to gy, or for how it adds up the contributions of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, permutations

import numpy as np

from .where import WORDS, one

Candidate = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Pair:
    """A wrong result beside the right one, and what is known about them; arrays are float64.

    got, want: of one shape. allowed: how far they may differ, an array of that shape. axes: the names of its axes.
    noun: what the arrays are, e.g. 'gradient'. gy, gy_axes: the upstream gradient and the names of its axes.
    jacobian: want.shape + gy.shape. known: other arrays by name, such as the inputs.
    alternatives: sentence -> a function that computes what that mistake gives (or None: it cannot tell).
    """

    got: np.ndarray
    want: np.ndarray
    allowed: np.ndarray
    axes: Sequence[str]
    noun: str = "result"
    gy: np.ndarray | None = None
    gy_axes: Sequence[str] = ()
    jacobian: np.ndarray | None = None
    known: Mapping[str, np.ndarray] = field(default_factory=dict)
    alternatives: Mapping[str, Callable[[], np.ndarray | None]] = field(default_factory=dict)

    @property
    def is_wrong(self) -> np.ndarray:
        """For each entry: whether the two differ by more than is allowed. bool."""
        undecided = np.isinf(self.allowed) & np.isfinite(self.got)
        return ~(self._near(self.want, 0.0) | undecided)

    def is_given_by(self, candidate: np.ndarray) -> bool:
        """Whether a mistake that gives `candidate` gives what we got.

        Candidates carry rounding errors of their own, those from differences more than others. So some slack is
        granted, but little beside the mistake itself: a candidate that is merely near the right result must not fit.
        """
        with np.errstate(invalid="ignore"):
            mistake = np.max(np.abs(self.got - self.want), initial=0.0)
        size = np.max(np.abs(self.want), initial=0.0)
        slack = np.nan_to_num(min(1e-7 * size, 1e-4 * mistake), posinf=0.0)
        return candidate.shape == self.got.shape and bool(self._near(candidate, slack).all())

    def _near(self, other: np.ndarray, slack: float) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(self.got - other) <= self.allowed + slack
        return near | (np.isnan(self.got) & np.isnan(other)) | (self.got == other)


# ---------------------------------------------------------------------------------------- the search
def search(pair: Pair) -> tuple[str | None, tuple[str, ...]]:
    """(the sentence of the first mistake that reproduces `got`, or None; the titles of what was tried in vain)."""
    tried = []
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
        sentence = search_further(pair)
        if sentence:
            return sentence, tuple(tried)
        tried.append(title)
    return None, tuple(tried)


def _in_the_wrong_entries(pair: Pair) -> str | None:
    """A mistake made in some entries only: there the simple families fit, and everything else is right."""
    wrong = pair.is_wrong
    if wrong.all():
        return None
    part = Pair(
        pair.got[wrong],
        pair.want[wrong],
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
    if np.count_nonzero(pair.got) < 4:
        return None  # with one factor to choose, a few numbers fit anything
    for family in FAMILIES.values():
        if family in (zeros, constant_factor, constant_results):
            continue
        for sentence, candidate in family(pair):
            if candidate.shape != pair.got.shape:
                continue
            factor = _fitted_factor(pair.got, candidate)
            if factor and pair.is_given_by(factor * candidate):
                return f"{sentence}, times {number(factor)}" + _lengths(factor, pair)
    return None


# ---------------------------------------------------------------------------------------- families on two arrays
def zeros(pair: Pair) -> Iterator[Candidate]:
    yield f"it is 0: the {pair.noun} is never computed", np.zeros_like(pair.want)


def constant_results(pair: Pair) -> Iterator[Candidate]:
    if pair.got.size > 1 and np.isfinite(pair.got).all():
        value = float(pair.got.flat[0])
        yield f"all entries are {number(value)}", np.full_like(pair.want, value)
    yield "all entries are NaN", np.full_like(pair.want, np.nan)


def coarse(pair: Pair) -> Iterator[Candidate]:
    near = np.abs(pair.got - pair.want) <= 3e-6 * np.max(np.abs(pair.want), initial=0.0)
    sentence = "it is right to about seven digits only: something inside is computed in float32"
    yield sentence, np.where(near, pair.got, pair.want)


def constant_factor(pair: Pair) -> Iterator[Candidate]:
    """The right result times a number, found by least squares; a single number is tried with plain factors."""
    plain = (-1.0, 2.0, 0.5, -2.0, -0.5, 3.0, 1 / 3, 4.0, 0.25)
    fitted = _fitted_factor(pair.got, pair.want)
    enough = np.count_nonzero(pair.want) > 1
    for factor in (*plain, *((fitted,) if fitted and enough else ())):
        if factor == -1.0:
            sentence = f"the sign is wrong: it is exactly minus the right {pair.noun}"
        else:
            sentence = f"it is exactly {number(factor)} times the right {pair.noun}"
        yield sentence + _lengths(factor, pair), factor * pair.want


def known_arrays(pair: Pair) -> Iterator[Candidate]:
    """One of the known arrays in place of the result, forgotten as a factor, or a factor too much."""
    usable = {name: a for name, a in pair.known.items() if _fits(a, pair.want)}
    right = f"the right {pair.noun}"
    for name, a in usable.items():
        a = np.broadcast_to(a, pair.want.shape)
        yield f"it is exactly {name}", a
        yield f"it is exactly minus {name}", -a
        yield f"it is {right} times {name}: a factor {name} too many", pair.want * a
        with np.errstate(all="ignore"):
            yield f"it is {right} divided by {name}: the factor {name} is missing", pair.want / a
        yield f"{name} is added to {right}", pair.want + a
        yield f"{name} is subtracted from {right}", pair.want - a
    for (name, a), (other, b) in combinations(usable.items(), 2):
        yield f"it is exactly {name} times {other}", np.broadcast_to(a * b, pair.want.shape)


def transposed(pair: Pair) -> Iterator[Candidate]:
    ndim = pair.want.ndim
    for order in permutations(range(ndim)) if ndim <= 4 else ():
        moved = [k for k in range(ndim) if order[k] != k]
        if moved and tuple(pair.want.shape[k] for k in order) == pair.want.shape:
            yield f"axes {_names(pair.axes, moved)} are swapped (transposed)", pair.want.transpose(order)


def flipped(pair: Pair) -> Iterator[Candidate]:
    for some in _subsets([k for k in range(pair.want.ndim) if pair.want.shape[k] > 1]):
        kernel = " (the kernel is flipped)" if {pair.axes[k] for k in some} <= {"kh", "kw"} else ""
        yield f"it is flipped along {_names(pair.axes, some)}{kernel}", np.flip(pair.want, some)


def shifted(pair: Pair) -> Iterator[Candidate]:
    for sentence, moved in _shifts(pair.want, pair.axes):
        yield f"it is shifted by one along {sentence}", moved


def one_slice_only(pair: Pair) -> Iterator[Candidate]:
    """All but the first or last index is lost, or that one alone."""
    for k, length in enumerate(pair.want.shape):
        if length < 2:
            continue
        for i in (0, length - 1):
            place = one(pair.axes[k], i, length)
            yield f"only {place} is computed, the rest is 0", _kept(pair.want, k, i)
            yield f"{place} is lost: it is 0 there, the rest is right", pair.want - _kept(pair.want, k, i)


def summed(pair: Pair) -> Iterator[Candidate]:
    """Summed or averaged over axes that should be kept apart."""
    for some in _subsets([k for k in range(pair.want.ndim) if pair.want.shape[k] > 1]):
        names = _names(pair.axes, some)
        for verb, reduce in (("summed", np.sum), ("averaged", np.mean)):
            reduced = np.broadcast_to(reduce(pair.want, axis=some, keepdims=True), pair.want.shape)
            yield f"it is {verb} over {names}, where every index has its own {pair.noun}", reduced


# ---------------------------------------------------------------------------------------- families on gy
def distorted_gy(pair: Pair) -> Iterator[Candidate]:
    """Right, but for a gy with other values."""
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
        yield sentence, _gradient(pair.jacobian, other)


def misplaced_gy(pair: Pair) -> Iterator[Candidate]:
    """Right, but for a gy of which entries are lost or stand in other places."""
    if pair.gy is not None and pair.jacobian is not None:
        for sentence, other in _other_gys(pair.gy, pair.gy_axes):
            yield sentence, _gradient(pair.jacobian, other)


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
            yield f"only {place} of gy is used", _kept(gy, k, i)
            yield f"{place} of gy is never used", gy - _kept(gy, k, i)
        inner = gy - _kept(gy, k, 0) - _kept(gy, k, length - 1)
        yield f"{one(axes[k], 0, length)} and {one(axes[k], length - 1, length)} of gy are never used", inner
    for sentence, moved in _shifts(gy, axes):
        yield f"gy is shifted by one along {sentence}", moved
    for sentence, reduced in summed(view):
        yield sentence.replace("it is", "gy is"), reduced


def overwritten(pair: Pair) -> Iterator[Candidate]:
    """`=` where `+=` is needed: of the contributions of several outputs only the last one written remains."""
    return _one_contribution(pair, "last", slice(None, None, -1))


def overwritten_backwards(pair: Pair) -> Iterator[Candidate]:
    """The same where the loop meets the outputs in the opposite order, as one over the taps of a kernel does."""
    return _one_contribution(pair, "first", slice(None))


def _one_contribution(pair: Pair, which: str, order: slice) -> Iterator[Candidate]:
    """A loop over some axes of the output, the others summed by one array operation, keeps one contribution."""
    if pair.gy is None or pair.jacobian is None or pair.gy.ndim == 0:
        return
    ndim = pair.want.ndim
    contributions = pair.jacobian * pair.gy  # want.shape + gy.shape
    for looped in _subsets([k for k in range(pair.gy.ndim) if pair.gy.shape[k] > 1]):
        summed_over = tuple(ndim + k for k in range(pair.gy.ndim) if k not in looped)
        terms = contributions.sum(axis=summed_over).reshape(*pair.want.shape, -1)
        # What a contribution of exactly 0 overwrites cannot be told from the values; those of J can.
        touched = (np.abs(pair.jacobian).max(axis=summed_over, initial=0.0) > 1e-9).reshape(terms.shape)
        names = _names(pair.gy_axes, looped)
        position = np.argmax(touched[..., order], axis=-1)[..., None]
        kept = np.take_along_axis(terms[..., order], position, axis=-1)[..., 0]
        yield f"only the {which} contribution over {names} of the output is kept: `=` where `+=` is needed", kept


def jacobian_mistakes(pair: Pair) -> Iterator[Candidate]:
    """The Jacobian itself used wrongly; for functions whose output has the shape of the input."""
    if pair.gy is None or pair.jacobian is None or pair.gy.shape != pair.want.shape:
        return
    n = pair.want.size
    J = pair.jacobian.reshape(n, n)
    shape = pair.want.shape
    diagonal = np.diagonal(J).reshape(shape)
    yield "every output is taken to depend on its own input alone (only the diagonal)", diagonal * pair.gy
    yield "the Jacobian is not transposed", (J.T @ pair.gy.reshape(n)).reshape(shape)
    yield "the input's own contribution is missing (the diagonal)", pair.want - diagonal * pair.gy
    yield "the derivative is squared", _gradient((J * J).reshape(pair.jacobian.shape), pair.gy)
    with np.errstate(all="ignore"):
        yield "gy is divided by the derivative, not multiplied", pair.gy / diagonal


def named_by_the_caller(pair: Pair) -> Iterator[Candidate]:
    for sentence, compute in pair.alternatives.items():
        candidate = compute()
        if candidate is not None:
            yield sentence, np.asarray(candidate)


def misplaced(pair: Pair) -> Iterator[Candidate]:
    """The right numbers in another order; which order is not told."""
    got, want = np.sort(pair.got, axis=None), np.sort(pair.want, axis=None)
    if got.size > 1 and (np.abs(got - want) <= np.min(pair.allowed)).all():
        yield "the numbers are right, but some stand in the wrong places", pair.got


# Title (for "tried in vain") -> family.
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


# ---------------------------------------------------------------------------------------- small things they share
def number(value: float) -> str:
    """A factor as people write it: 2, 1/3, -1/2, 0.999."""
    for denominator in range(1, 13):
        if math.isclose(value * denominator, round(value * denominator), rel_tol=1e-6) and round(value * denominator):
            numerator = round(value * denominator)
            return str(numerator) if denominator == 1 else f"{numerator}/{denominator}"
    if value and math.isclose(1 / value, round(1 / value), rel_tol=1e-6):
        return f"1/{round(1 / value)}"
    return f"{value:.6g}"


def _fitted_factor(got: np.ndarray, candidate: np.ndarray) -> float | None:
    """c such that c * candidate is nearest to got; None where there is none but 0 and 1."""
    norm = float(np.sum(candidate * candidate))
    if not (np.isfinite(got).all() and math.isfinite(norm)) or norm == 0:
        return None
    factor = float(np.sum(got * candidate)) / norm
    return factor if math.isfinite(factor) and abs(factor) > 1e-12 else None


def _lengths(factor: float, pair: Pair) -> str:
    """' (3 is the length of c: summed where it must be averaged?)', if the factor is a length or 1 over one."""
    size = abs(factor)
    inverse = size < 1
    count = 1 / size if inverse else size
    # gy first: what people average over by mistake is mostly the batch.
    for name, array, axes in ((" of gy", pair.gy, pair.gy_axes), ("", pair.want, pair.axes)):
        if array is None:
            continue
        for some in _subsets(range(array.ndim)):
            length = math.prod(array.shape[k] for k in some)
            if length > 1 and math.isclose(count, length, rel_tol=1e-6):
                asked = "averaged where it must be summed?" if inverse else "summed where it must be averaged?"
                return f" ({length} is the length of {_names(axes, some)}{name}: {asked})"
    return ""


def _shifts(array: np.ndarray, axes: Sequence[str]) -> Iterator[Candidate]:
    """By one index along each axis, to both sides, filled with zeros or going round."""
    for k, length in enumerate(array.shape):
        if length < 2:
            continue
        for step, direction in ((1, "towards the end"), (-1, "towards the start")):
            rolled = np.roll(array, step, axis=k)
            yield f"{_names(axes, [k])} {direction} (zeros come in)", rolled - _kept(rolled, k, 0 if step == 1 else -1)
            yield f"{_names(axes, [k])} {direction} (going round)", rolled


def _kept(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """The array with zeros everywhere but at this index of the axis."""
    out = np.zeros_like(array)
    at = (slice(None),) * axis + (index,)
    out[at] = array[at]
    return out


def _gradient(jacobian: np.ndarray, gy: np.ndarray) -> np.ndarray:
    return np.tensordot(jacobian, gy, axes=gy.ndim)


def _fits(array: np.ndarray, like: np.ndarray) -> bool:
    """Whether the array broadcasts to the shape of `like`."""
    try:
        return np.broadcast_shapes(array.shape, like.shape) == like.shape
    except ValueError:
        return False


def _subsets(indices: Sequence[int]) -> list[tuple[int, ...]]:
    """All selections of one or more of the indices, the small ones first."""
    indices = list(indices)
    return list(chain.from_iterable(combinations(indices, n) for n in range(1, len(indices) + 1)))


def _names(axes: Sequence[str], some: Sequence[int]) -> str:
    """'h and w', or 'n (samples)' for a single one with a word of its own."""
    names = [axes[k] for k in some]
    if len(names) == 1:
        return f"{names[0]} ({WORDS[names[0]]}s)" if names[0] in WORDS else names[0]
    return ", ".join(names[:-1]) + " and " + names[-1]
