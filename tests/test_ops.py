"""The one table of the op folders: every op x tier x implementation x dtype x layout x case.

A new op is tested by adding its folder: this file walks all folders and needs no change. What is checked: every kernel
of every tier agrees with the reference in float64, keeps dtype and shape, and leaves its inputs alone; the first and
second derivatives of the op agree with differences. A folder without `op.py` holds kernels that are never
differentiated, such as the optimizer's: only the kernels are checked there.
"""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import numpy as np
import pytest
from op_folders import (
    DIFFERENTIABLE,
    FAST_TIERS,
    IMPLEMENTATIONS,
    assert_close,
    cast,
    checks,
    fetch,
    place,
    spread,
)

from tinynet.backends.registry import implementation_kernel, kernel_names, op_module, ops, use_backend, use_kernels
from tinynet.engine.tensor import Tensor, grad
from tinynet.learn.gradcheck import gradcheck, gradgradcheck
from tinynet.learn.gradcheck.tiers import cases_of
from tinynet.ops.activations.entries import ACTIVATIONS


def results(value) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def all_arrays(values) -> list[np.ndarray]:
    """The arrays among the values and in the lists and tuples among them."""
    flat = (v for value in values for v in (value if isinstance(value, (list, tuple)) else [value]))
    return [v for v in flat if isinstance(v, np.ndarray)]


def outcome(function, arrays, parameters, changed: int) -> list[np.ndarray]:
    """What a kernel returns, and after it the arrays that it changes in place: the first `changed`."""
    returned = fetch(function(*arrays, **parameters))
    return [*(results(returned) if returned is not None else ()), *all_arrays(fetch(arrays[:changed]))]


def table():
    """Every version with each dtype and layout. The emulator is slow: there, the quick tests run each of them once."""
    for version in IMPLEMENTATIONS:
        for dtype in ("float32", "float64"):
            # In the emulator, the two layouts see the blocks and threads of a kernel in two orders.
            for layout, order in (("contiguous", "reversed"), ("spread", "shuffled")):
                once = (("float32", "contiguous"), ("float64", "spread"))
                is_slow = version.values[1] == "cuda-sim" and (dtype, layout) not in once
                marks = [*version.marks, *[pytest.mark.slow] * is_slow]
                row = f"{version.id}-{dtype}-{layout}"
                yield pytest.param(*version.values, dtype, layout, order, marks=marks, id=row)


@pytest.mark.parametrize(("op", "tier", "implementation", "dtype", "layout", "order"), list(table()))
def test_kernel_agrees_with_the_reference(op, tier, implementation, dtype, layout, order):
    for case in cases_of(op):
        for name, (arrays, parameters) in case.calls.items():
            what = f"{op}.{name}, {case.label}"
            arguments = tuple(cast(a, dtype) for a in arrays)
            changed = case.changed.get(name, 0)
            before = copy.deepcopy(all_arrays(arguments[changed:]))
            arguments = place(arguments, tier)
            if layout == "spread":
                arguments = spread(arguments)
            reference = implementation_kernel(op, name, "reference")
            expected = outcome(reference, copy.deepcopy(arrays), parameters, changed)
            with checks(tier, order):
                kernel = implementation_kernel(op, name, tier, implementation)
                actual = outcome(kernel, arguments, parameters, changed)
            arguments = fetch(arguments)
            for a, b in zip(actual, expected, strict=True):
                if b.dtype.kind == "f" and b.dtype != np.float32:
                    same = a.dtype == dtype or a.dtype == b.dtype  # sums may be kept in float64
                    assert same, f"{what}: {dtype} came back as {a.dtype}"
                assert_close(a, b, dtype, case.terms, what, implementation)
            for a, b in zip(all_arrays(arguments[changed:]), before):
                np.testing.assert_array_equal(a, b, err_msg=f"{what} changed its input")


ELEMENTWISE = [v for v in IMPLEMENTATIONS if v.values[0] in ACTIVATIONS]
ELEMENTWISE += [pytest.param(op, "reference", "default", id=f"{op}-reference") for op in ACTIVATIONS]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("op", "tier", "implementation"), ELEMENTWISE)
def test_extreme_values_element_by_element(op, tier, implementation, dtype):
    """Every activation, a new one too: nothing overflows at 1000, NaN stays NaN, infinity gives no NaN, 0-d stays 0-d.

    The reference is one of the tiers here: if its formula overflows, the other tiers agree with it.
    """
    x = np.array([-1000, -100, -0.0, 0, 100, 1000, np.inf, -np.inf, np.nan] * 5, dtype)
    for parameters in ACTIVATIONS[op].parameters:
        with checks(tier, "shuffled"):
            kernels = [implementation_kernel(op, name, tier, implementation) for name in ("forward", "backward")]
            y = fetch(kernels[0](place(x, tier), **parameters))
            gx = fetch(kernels[1](place(np.ones_like(x), tier), place(y, tier), **parameters))
            scalars = [fetch(kernels[0](place(np.full((), x[5]), tier), **parameters))]
            scalars.append(fetch(kernels[1](place(np.ones((), dtype), tier), place(scalars[0], tier), **parameters)))
        is_finite, is_nan = np.isfinite(x), np.isnan(x)
        assert np.isfinite(y[is_finite]).all() and np.isfinite(gx[is_finite]).all(), (y, gx)
        assert np.isnan(y[is_nan]).all() and not np.isnan(y[~is_nan]).any(), y
        assert not np.isnan(gx[~is_nan]).any(), gx
        for scalar, array in zip(scalars, (y, gx)):
            assert (scalar.shape, scalar.dtype) == ((), dtype) and scalar == array[5]


SUMS = [v for v in IMPLEMENTATIONS if v.values[0] in ("accumulate", "dropout")]
EXTREMES = [-1000, -0.0, 0, 1000, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("op", "tier", "implementation"), SUMS)
def test_extreme_values_of_the_other_elementwise_kernels(op, tier, implementation, dtype):
    """A sum, and a choice: a dropped infinity or NaN is 0, one that is kept stays."""
    x = np.array(EXTREMES * 5, dtype)
    name, arrays = ("add", (x, x)) if op == "accumulate" else ("forward", (x,))
    parameters = {} if op == "accumulate" else {"p": 0.5, "seed": 1, "stream": 2, "step": 3}
    expected = implementation_kernel(op, name, "reference")(*arrays, **parameters)
    with checks(tier, "shuffled"):
        kernel = implementation_kernel(op, name, tier, implementation)
        actual = fetch(kernel(*place(arrays, tier), **parameters))
    np.testing.assert_array_equal(actual, expected)
    if op == "dropout":
        kept = implementation_kernel(op, name, "reference")(np.ones_like(x), **parameters) != 0
        np.testing.assert_array_equal(actual, np.where(kept, 2 * x, 0))


@pytest.mark.parametrize("op", DIFFERENTIABLE)
@pytest.mark.parametrize(("tier", "mode"), [("reference", "elements"), ("cpu", "directions")])
def test_gradients(op, tier, mode):
    """Of the definition element by element. Random directions are enough for kernels that were compared with it."""
    with use_backend(tier):
        for case in cases_of(op, large=False):
            gradcheck(case.function, case.inputs, mode=mode)


@pytest.mark.parametrize(
    ("op", "tier", "implementation"), [v for v in IMPLEMENTATIONS if v.values[0] in DIFFERENTIABLE]
)
def test_gradients_of_named_implementations(op, tier, implementation):
    """The first case alone: the formulas are those of all tiers, the kernels were compared above."""
    case = cases_of(op, large=False)[0]
    with use_backend(tier), use_kernels(op, implementation):
        gradcheck(case.function, place(case.inputs, tier), mode="directions")


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_second_derivatives(op):
    """Of three cases, or of one where a case takes seconds. The long tests check all of them, element by element."""
    cases = cases_of(op, large=False)
    for case in {"lstm": cases[1:2], "sample": cases[:1]}.get(op, cases[:3]):
        gradgradcheck(case.function, case.inputs, mode="directions")


@pytest.mark.slow
@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_second_derivatives_element_by_element(op):
    for case in cases_of(op, large=False):
        gradgradcheck(case.function, case.inputs)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_a_recorded_gradient_has_the_value_of_one_that_is_not(op):
    """With create_graph another formula may run, and second derivatives would only check it against itself."""
    for case in cases_of(op, large=False):
        leaves = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in case.inputs]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        y = case.function(*leaves)
        gy = np.random.default_rng(1).standard_normal(y.shape)
        plain = grad(y, wanted, gy, retain_graph=True)
        recorded = grad(y, wanted, gy, create_graph=True)
        for a, b in zip(plain, recorded):
            np.testing.assert_allclose(b.data, a.data, rtol=1e-12, atol=1e-12, err_msg=f"{op}, {case.label}")


@pytest.mark.parametrize("op", ops())
def test_every_kernel_has_a_case_and_the_folder_its_files(op):
    reached = set().union(*(case.calls for case in cases_of(op)))
    assert reached == set(kernel_names(op)), f"{op}: cases.py must call every kernel"
    folder = Path(op_module(op, "reference").__file__).parent
    for file in ("derivation.md", "reference.py", "cpu.py", "cuda.py", "cases.py"):
        assert (folder / file).exists(), f"{op} has no {file}"


@pytest.mark.parametrize("op", ops())
@pytest.mark.parametrize("tier", FAST_TIERS)
def test_tiers_have_the_same_kernels_with_the_same_parameters(op, tier):
    for name in kernel_names(op):
        reference = inspect.signature(implementation_kernel(op, name, "reference")).parameters
        fast = inspect.signature(implementation_kernel(op, name, tier)).parameters
        assert list(reference) == list(fast), f"{op}.{name}: {list(fast)} in {tier}, {list(reference)} in reference"
