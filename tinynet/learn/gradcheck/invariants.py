"""Properties of every right backward that a few calls can check, without numerical derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# From arrays and gy to the output and the gradients by input number.
Run = Callable[[Sequence[np.ndarray], np.ndarray], tuple[np.ndarray, dict[int, np.ndarray]]]


def problems_of(
    run: Run, arrays: Sequence[np.ndarray], gy: np.ndarray, output: np.ndarray, gradients: dict[int, np.ndarray]
) -> list[str]:
    """What is wrong, one sentence each.

    run(arrays, gy) returns (output, gradients); `output` and `gradients` are its results of a first call. Checked: the
    same call gives the same result; arrays and gy stay unchanged, byte for byte; a gy of zeros gives zeros; the
    gradients are linear in gy; arrays and gy that are not contiguous give the same result.
    """
    found = []
    given, given_gy = [a.copy() for a in arrays], gy.copy()
    gradients_again = run(given, given_gy)[1]
    for i, (now, before) in enumerate(zip(given, arrays)):
        if now.tobytes() != before.tobytes():
            found.append(f"input {i} was changed in place: work on a copy of it")
    if given_gy.tobytes() != gy.tobytes():
        found.append("backward changed the upstream gradient gy in place: others still need it, work on a copy")
    for i, g in gradients.items():
        if not np.array_equal(g, gradients_again[i], equal_nan=True):
            found.append(f"input {i}: backward gave another gradient the second time for the same gy")

    for i, g in run([a.copy() for a in arrays], np.zeros_like(gy))[1].items():
        if np.any(g != 0):
            found.append(f"input {i}: a gy of zeros gives a gradient that is not zero")
    other = gy[..., ::-1].copy() if gy.ndim else 0.5 * gy  # any other gy will do
    of_other = run([a.copy() for a in arrays], other)[1]
    of_sum = run([a.copy() for a in arrays], 2 * gy + other)[1]
    for i, g in gradients.items():
        if not _near(of_sum[i], 2 * g + of_other[i]):
            found.append(
                f"input {i}: the gradient is not linear in gy: the gradient for a sum is not the sum of the gradients"
            )

    spread_output, spread_gradients = run([_spread(a) for a in arrays], _spread(gy))
    if not _near(spread_output, output):
        found.append("inputs that are not contiguous in memory give another output")
    for i, g in gradients.items():
        if not _near(spread_gradients[i], g):
            found.append(f"input {i}: arrays that are not contiguous in memory give another gradient")
    return found


def dtype_problems(run: Run, arrays: Sequence[np.ndarray], gy: np.ndarray) -> list[str]:
    """A sentence if float32 inputs do not give float32.

    A function may refuse float32, for example because it would mix it with a float64 array of its own.
    """
    singles = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in arrays]
    try:
        output, _ = run(singles, gy.astype(np.float32))
    except RuntimeError as error:  # the engine refuses a gradient
        return [f"float32 is not kept: {error}"] if "returned a gradient" in str(error) else []
    except (TypeError, ValueError):
        return []
    if output.dtype != np.float32:
        return [
            f"float32 inputs give an output of {output.dtype}: allocate with the dtype of the inputs, and make NumPy's "
            "scalars, such as np.sqrt(2), plain floats"
        ]
    return []


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal except for rounding: sums may be taken in another order."""
    if not np.isfinite(b).all():  # reported as a wrong gradient
        return True
    return bool(np.allclose(a, b, rtol=0, atol=1e-10 * float(np.max(np.abs(b), initial=1.0))))


def _spread(array: np.ndarray) -> np.ndarray:
    """The same values in memory that is not contiguous along any axis."""
    if array.ndim == 0:
        return array.copy()
    wide = np.zeros([2 * n for n in array.shape], array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view
