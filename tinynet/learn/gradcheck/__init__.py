"""Is this gradient right? Checks of `backward` against numerical derivatives of `forward`.

check.py        gradcheck, gradgradcheck; reference.py: check_reference
result.py       what they return, and its report
explain.py      what is wrong with an array, in words: where.py says where, patterns.py and search.py which mistake
                gives exactly that, plane.py shows the values around the worst entry
numeric.py      numerical derivatives with an error bar, and the complex step
directions.py   the same along random directions, for large inputs
invariants.py   properties of every right backward that cost little to check
mistakes.py     mistakes that are found by calling the function again
shrink.py       the smallest case that still fails
call.py         how the checks call a function
adjoint.py      adjoint_check: is backward the transpose of a linear forward
tiers.py        compare_tiers: fast kernels against the reference
outcome.py      the base class of all results
command.py      `python -m tinynet gradcheck`
"""

from .adjoint import AdjointCheck, AdjointError, adjoint_check
from .check import gradcheck, gradgradcheck
from .explain import Explanation, explain, jacobian_of
from .numeric import Derivative, central_differences, complex_step
from .reference import check_reference
from .result import CheckResult, GradientError, InputCheck
from .tiers import KernelCheck, compare_tiers

__all__ = [
    "AdjointCheck",
    "AdjointError",
    "CheckResult",
    "Derivative",
    "Explanation",
    "GradientError",
    "InputCheck",
    "KernelCheck",
    "adjoint_check",
    "central_differences",
    "check_reference",
    "compare_tiers",
    "complex_step",
    "explain",
    "gradcheck",
    "gradgradcheck",
    "jacobian_of",
]
