"""What a check runs on a learner's functions, and the values it draws for that."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RTOL = 1e-9  # float64 against float64; also relative to the largest value


class Unusable(Exception):
    """A learner's function returned what cannot be compared, or did what it must not do; the message says what."""


class Raised(Exception):
    """An exception of a learner's function in another process. Its type has the name of the learner's exception.

    text: the sentence on it, with the learner's line.
    """

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


@dataclass(frozen=True)
class Failure:
    """Takes the place of an output that is not available.

    kind, message: of the exception. text: a sentence with the learner's line; it is ignored in comparisons.
    """

    kind: str
    message: str
    text: str = field(compare=False)
    not_written: bool = False


@dataclass(frozen=True)
class Probe:
    """One call, or a few, whose results are compared with those of the solution.

    label: what is special about it, in a few words. function: the name of the learner's function under test.
    run(functions): returns the outputs by name, each an array or a Failure; `functions` are the learner's, by name.
    axes: for each output the letters of its axes, e.g. {"gx": "n iy ix ci"}. context: further arguments of `explain`.
    arguments: those of the call, by name or, in the order of the function's parameters, by number.
    report(output, actual, expected): what is wrong, if positions in an array say nothing to the learner.
    rtol: the accepted difference, relative to the value or to the largest value of the array.
    """

    label: str
    function: str
    run: Callable[[Mapping[str, Any]], dict[str, Any]]
    axes: dict[str, str]
    context: dict[str, Any] = field(default_factory=dict)
    arguments: dict[Any, Any] = field(default_factory=dict)
    report: Callable[[str, Any, Any], str] | None = None
    rtol: float = RTOL

    @property
    def is_call(self) -> bool:
        """True if the outputs are the results of one call, as those of the probes that `call` makes."""
        return 0 in self.arguments

    def shown(self, names: Sequence[str], largest: float = 24) -> str:
        """The arguments, one a line. names: of the function's parameters. Of larger arrays only the shape is shown."""
        lines = []
        for key, value in self.arguments.items():
            if isinstance(value, np.ndarray):
                text = f"array of shape {value.shape}"
                if value.size <= largest:
                    text = np.array2string(value, separator=", ", threshold=value.size + 1, max_line_width=100)
                    text = re.sub("\n+", "\n", text)
            else:
                text = getattr(value, "__name__", None) or repr(value)
                text = text if len(text) <= 10 * largest else f"{text[:100]} ..."
            name = f"{names[key] if isinstance(key, int) else key} = "
            lines.append(name + text.replace("\n", "\n" + " " * len(name)))
        return "\n".join(lines)


def run_beside(helper: Callable, functions: Mapping[str, Any], *arguments: Any) -> Any:
    """helper(functions, *arguments), in the process in which the learner's functions live."""
    elsewhere = getattr(functions, "run_beside", None)
    return elsewhere(helper, arguments) if elsewhere else helper(functions, *arguments)


def call(
    label: str,
    function: str,
    *arguments: Any,
    gives: dict[str, str],
    gy: str | None = None,
    rtol: float = RTOL,
    **parameters: Any,
) -> Probe:
    """The usual probe: call a function and compare its results.

    gives: the names of the results, each with the letters of its axes. gy: for a backward function, whose first
    argument is gy, the letters of the axes of gy. rtol: see `Probe`. The function gets copies of the arguments, must
    not change them, and must return the same values in a second call.
    """

    def run(functions: Mapping[str, Any]) -> dict[str, Any]:
        first, again = (
            results(_call_with_copies(functions[function], function, arguments, parameters)) for _ in range(2)
        )
        for name, value in first.items():
            if not same(value, again[name]):
                raise Unusable(
                    f"{function} returns another {name} if it is called again with the same arguments: does something "
                    "outlive the call (a global variable, a default argument that is changed), or is it random?"
                )
        return first

    def results(returned: Any) -> dict[str, Any]:
        if returned is None:
            raise Unusable(f"{function} returned None: is there a `return`?")
        values = (returned,) if len(gives) == 1 else returned
        if not isinstance(values, (tuple, list)) or len(values) != len(gives):
            raise Unusable(
                f"{function} must return {len(gives)} things, {', '.join(gives)}; it returned {returned!r:.80}"
            )
        return {name: numeric(f"{function}: {name}", value) for name, value in zip(gives, values)}

    context = {} if gy is None else {"gy": arguments[0], "gy_axes": tuple(gy.split())}
    return Probe(label, function, run, gives, context, {**dict(enumerate(arguments)), **parameters}, rtol=rtol)


def _call_with_copies(f: Callable, name: str, arguments: tuple, parameters: dict[str, Any]) -> Any:
    """Call f with copies of its arguments. Raises Unusable if it changes an array among them."""
    copies = copy.deepcopy(list(arguments))
    returned = f(*copies, **copy.deepcopy(parameters))
    returned = copy.deepcopy(returned)  # it may be a view of an argument, or an array that the next call reuses
    for i, (before, after) in enumerate(zip(arguments, copies), 1):
        if isinstance(before, np.ndarray) and not same(before, after):
            raise Unusable(f"{name} changed its argument {i} in place; the caller still needs it: work on a copy")
    return returned


def numeric(what: str, value: Any) -> np.ndarray:
    """The value as an array of numbers. Raises Unusable if it is None, a list of unequal lengths or the like."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise Unusable(f"{what} must be an array of numbers; it is {value!r:.80} ({type(value).__name__})")
    return array


def same(a: Any, b: Any) -> bool:
    """True if two arrays agree to the last bit. NaN equals NaN."""
    return np.shape(a) == np.shape(b) and np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small whole numbers except 0, as float64: they are easy to read, and a zero would hide mistakes."""
    return rng.choice([-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0], size=shape)


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers between 0.5 and 2, of either sign: none is near a kink at 0."""
    return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.5, 2.0, size=shape)


def kernels_of(op: str, *names: str) -> dict[str, Callable]:
    """tinynet's kernels by name. Each call runs the kernel of the backend that is active then."""

    def looked_up(name: str) -> Callable:
        def run(*arrays: Any, **parameters: Any) -> Any:
            from ...backends.registry import kernel_to_run

            return kernel_to_run(op, name, arrays)(*arrays, **parameters)

        return run

    return {name: looked_up(name) for name in names}
