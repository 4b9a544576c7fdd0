"""How many outputs does a convolution have?

A kernel with K taps slides over a row of `size` pixels with p zeros added at *each* end. Its taps are d pixels apart
(dilation), and it moves by s pixels at a time (stride). Count the positions at which the whole kernel fits:

    size = 6, K = 3, s = 2, p = 1, d = 1

      -1   0   1   2   3   4   5   6
       .   x   x   x   x   x   x   .       "." is padding
      [0   1   2]                          output 0
              [0   1   2]                  output 1
                      [0   1   2]          output 2,  and the next would end beyond the padding

A dilated kernel covers d (K - 1) + 1 pixels. The last output o starts at pixel o s - p and must end inside.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import Probe, numeric

TEACHES = "the arithmetic of sizes, with stride, padding and dilation"
HINTS = (
    "Padded, the row has size + 2 p pixels. At how many of them may the first tap stand (stride 1)?",
    "The first tap may stand at 0 .. size + 2 p - (d (K - 1) + 1): count every s-th of these, starting with the first.",
    "`return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1`",
)


# ---- your file
def output_size(size, kernel, *, stride, padding, dilation):
    """How many outputs there are along one axis; all arguments and the result are whole numbers (int)."""
    # ---- solution
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    # ---- end of solution


# ---- end of your file


_FORMULA = "(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1"
WRONG = (
    Wrong(
        "first position forgotten",
        "The + 1 at the end is missing: moving k times gives k + 1 positions.",
        (" // stride + 1", " // stride"),
    ),
    Wrong(
        "not a whole number",
        "You divide with `/`, which gives fractions of a position. Only whole positions count: `//` rounds down.",
        (" // stride + 1", " / stride + 1"),
    ),
    Wrong(
        "padding once",
        "The padding is added at each end, so it counts twice.",
        ("2 * padding", "padding"),
    ),
    Wrong(
        "dilation ignored",
        "The dilation is ignored. The taps are d pixels apart, so the kernel covers d (K - 1) + 1 pixels.",
        ("dilation * (kernel - 1)", "(kernel - 1)"),
    ),
    Wrong(
        "dilation times K",
        "You count d K pixels for the kernel. There are K - 1 gaps between K taps: it covers d (K - 1) + 1.",
        ("dilation * (kernel - 1) - 1", "dilation * kernel"),
    ),
    Wrong(
        "rounded up",
        "You round up: a last position at which the kernel does not fit is counted. Round down.",
        (_FORMULA, "-(-(size + 2 * padding - dilation * (kernel - 1) - 1) // stride) + 1"),
    ),
    Wrong(
        "stride taken from the size",
        "You divide the size by the stride before you subtract the kernel. Subtract first, then divide.",
        (_FORMULA, "(size + 2 * padding) // stride - dilation * (kernel - 1)"),
    ),
)
RIGHT = (
    Right(
        "counted",
        (
            "    return " + _FORMULA,
            "    starts = range(-padding, size + padding - dilation * (kernel - 1), stride)\n    return len(starts)",
        ),
    ),
)


def probes(rng):
    sizes, few = range(5, 9), (0, 1, 2)
    yield _table("stride 1, no padding", sizes, (1, 2, 3), (1,), (0,), (1,))
    yield _table("with padding", sizes, (1, 3), (1,), few, (1,))
    yield _table("with stride", sizes, (2, 3), (2, 3), (0,), (1,))
    yield _table("with dilation", sizes, (1, 2, 3), (1,), (0,), (1, 2))
    yield _table("all together", range(7, 13), (1, 2, 3), (1, 2, 3), few, (1, 2, 3))


def _table(label, *ranges):
    """A table of answers for all combinations; its axes are size, kernel, stride, padding and dilation."""

    def run(functions):
        f, shape = functions["output_size"], [len(r) for r in ranges]
        table = np.empty(shape)
        for index in np.ndindex(*shape):
            size, kernel, stride, padding, dilation = (r[i] for r, i in zip(ranges, index))
            n = f(size, kernel, stride=stride, padding=padding, dilation=dilation)
            table[index] = numeric("output_size: n", n)
        return {"n": table}

    def report(output, actual, expected):
        lines = [f"{np.count_nonzero(actual != expected)} of {expected.size} calls give a wrong number, for example"]
        for index in np.argwhere(actual != expected)[:: max(1, np.count_nonzero(actual != expected) // 4)][:4]:
            size, kernel, *others = (r[i] for r, i in zip(ranges, index))
            named = ", ".join(f"{n}={v}" for n, v in zip(("stride", "padding", "dilation"), others))
            values = f"{actual[tuple(index)]:g}, not {expected[tuple(index)]:g}"
            lines.append(f"  output_size({size}, {kernel}, {named}): {values}")
        return "\n".join(lines)

    return Probe(label, "output_size", run, {"n": "size kernel stride padding dilation"}, report=report)


def library():
    from tinynet.ops._shared.geometry import Geometry

    def output_size(size, kernel, *, stride, padding, dilation):
        geometry = Geometry((stride, 1), (padding, 0), (dilation, 1))
        return geometry.output_size((size, 1), (kernel, 1))[0]

    return {"output_size": output_size}
