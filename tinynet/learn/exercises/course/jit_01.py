"""A port to Numba: compiled loops on several threads.

Numba compiles plain loops to machine code, and `prange` in place of `range` distributes the iterations of a loop over
several threads. You are responsible for two things:

*Bounds.* Numba does not check that an index lies in the array. x[-1] is the last element; x[H] is any value in memory.

*Races.* `a[i] += v` is three steps: read, add, write. If two threads do them on the same element at the same time, one
addition may be lost. So every iteration of the parallel loop must write to elements *of its own*.

Write forward and backward_weight of a convolution with stride 1 (conv-02, conv-04) as loops with a `prange`. The
result is the last argument: fill it (its old values are garbage). Choose in each kernel which loop is parallel.

    y[n, oy, ox, co]   = sum over ky, kx, ci of  x[n, iy, ix, ci] w[ky, kx, ci, co]
    gw[ky, kx, ci, co] = sum over n, oy, ox of   x[n, iy, ix, ci] gy[n, oy, ox, co]         iy = oy + ky - py
                                                                                            ix = ox + kx - px
"""

import numpy as np
from numba import njit, prange

from tinynet.learn.exercises.exercise import SOLUTION_FILE, Right, Wrong
from tinynet.learn.exercises.geometries import WITH_STRIDE_1, Geometry
from tinynet.learn.exercises.parallel import watched_and_compiled
from tinynet.learn.exercises.probe import Failure, Probe, Unusable, integers, run_beside

TEACHES = "what a compiler does not check; which iteration owns which element; a race may stay undetected"
HINTS = (
    "Do not make a padded copy: leave out the terms whose iy or ix is outside, with an `if`.",
    "forward: different images write different y, so the loop over n may be parallel. Which index of gw could be the "
    "parallel one in backward_weight? Not n: all images add to the same gw.",
    "backward_weight: `for co in prange(gw.shape[3])` is the outer loop, all others are inside; begin with "
    "gw[:, :, :, co] = 0.",
)
IMPORTS = ("numba",)
HELPER = watched_and_compiled
SECONDS = 60.0
OP = "conv2d"


# ---- your file
@njit(parallel=True)
def forward(x, w, py, px, y):
    """Fill y (N, OH, OW, C_out) from x (N, H, W, C_in), w (KH, KW, C_in, C_out); padding py, px; stride 1."""
    # ---- solution
    N, H, W, C_in = x.shape
    KH, KW, _, C_out = w.shape
    for n in prange(N):
        y[n] = 0
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                for ky in range(KH):
                    for kx in range(KW):
                        iy = oy + ky - py
                        ix = ox + kx - px
                        if 0 <= iy < H and 0 <= ix < W:
                            for ci in range(C_in):
                                for co in range(C_out):
                                    y[n, oy, ox, co] += x[n, iy, ix, ci] * w[ky, kx, ci, co]
    # ---- end of solution


@njit(parallel=True)
def backward_weight(x, gy, py, px, gw):
    """Fill gw (KH, KW, C_in, C_out) from x (N, H, W, C_in), gy (N, OH, OW, C_out); padding py, px; stride 1."""
    # ---- solution
    N, H, W, C_in = x.shape
    _, OH, OW, C_out = gy.shape
    for co in prange(C_out):
        gw[:, :, :, co] = 0
        for n in range(N):
            for oy in range(OH):
                for ox in range(OW):
                    for ky in range(gw.shape[0]):
                        for kx in range(gw.shape[1]):
                            iy, ix = oy + ky - py, ox + kx - px
                            if iy >= 0 and iy < H and ix >= 0 and ix < W:
                                for ci in range(C_in):
                                    gw[ky, kx, ci, co] += x[n, iy, ix, ci] * gy[n, oy, ox, co]
    # ---- end of solution


# ---- end of your file


_INSIDE = "if 0 <= iy < H and 0 <= ix < W:"
WRONG = (
    Wrong(
        "forward: no bounds",
        "forward reads x outside the image. Numba does not check: above and to the left you get the opposite "
        "border, below and to the right any value in memory. Leave those terms out.",
        (_INSIDE, "if True:"),
    ),
    Wrong(
        "forward: one end only",
        "forward leaves out the terms above and to the left of the image, but not those below and to the right: "
        "iy < H and ix < W are missing.",
        (_INSIDE, "if 0 <= iy and 0 <= ix:"),
    ),
    Wrong(
        "forward: one too many",
        "forward accepts iy = H and ix = W. The last row is H - 1: use < in place of <=.",
        (_INSIDE, "if 0 <= iy <= H and 0 <= ix <= W:"),
    ),
    Wrong(
        "forward: not cleared",
        "forward adds to the old values of y, which are garbage: set y to 0 first.",
        ("        y[n] = 0\n", ""),
    ),
    Wrong(
        "forward: race over taps",
        "forward runs the taps in parallel, and all taps add to the same y: a race. Make a loop parallel whose "
        "iterations write different elements, such as the loop over n.",
        ("    for n in prange(N):\n        y[n] = 0\n", "    y[:] = 0\n    for n in range(N):\n"),
        ("for ky in range(KH)", "for ky in prange(KH)"),
    ),
    Wrong(
        "weight: race over images",
        "backward_weight runs the images in parallel, and all of them add to the same gw: a race. Some additions may "
        "be lost. The parallel loop must run over an index of gw.",
        (
            "    for co in prange(C_out):\n        gw[:, :, :, co] = 0\n        for n in range(N):",
            "    gw[:] = 0\n    for co in range(C_out):\n        for n in prange(N):",
        ),
    ),
    Wrong(
        "weight: not cleared",
        "backward_weight adds to the old values of gw, which are garbage: set gw to 0 first.",
        ("        gw[:, :, :, co] = 0\n", ""),
    ),
    Wrong(
        "weight: no bounds",
        "backward_weight reads x outside the image: leave out the terms whose iy or ix is outside.",
        ("if iy >= 0 and iy < H and ix >= 0 and ix < W:", "if True:"),
    ),
    Wrong(
        "weight: no parallel loop",
        "backward_weight has no parallel loop: it runs on one thread. Write prange in place of range in a loop over "
        "an index of gw.",
        ("prange(C_out)", "range(C_out)"),
    ),
)
RIGHT = (
    Right(
        "a sum in a variable of its own",
        (
            "        y[n] = 0\n        for oy in range(y.shape[1]):\n            for ox in range(y.shape[2]):\n",
            "        for oy in range(y.shape[1]):\n            for ox in range(y.shape[2]):\n                y[n, "
            "oy, ox] = 0\n",
        ),
        ("prange(C_out):\n        gw[:, :, :, co] = 0\n", "prange(C_out):\n        gw[..., co] = 0\n"),
    ),
    Right(
        "parallel over rows",
        (
            "    for n in prange(N):\n        y[n] = 0\n        for oy in range(y.shape[1]):\n",
            "    for n in range(N):\n        for oy in prange(y.shape[1]):\n            y[n, oy] = 0\n",
        ),
    ),
)


def probes(rng):
    for label, x_shape, w_shape, (py, px) in WITH_STRIDE_1:
        size = Geometry(padding=(py, px)).output_size(x_shape[1:3], w_shape[:2])
        gy_shape = (x_shape[0], *size, w_shape[3])
        x, w, gy = integers(rng, *x_shape), integers(rng, *w_shape), integers(rng, *gy_shape)
        yield _watched(label, "forward", {"x": x, "w": w, "py": py, "px": px}, "y", gy_shape, "n oy ox co")
        yield _watched(label, "backward_weight", {"x": x, "gy": gy, "py": py, "px": px}, "gw", w_shape, "ky kx ci co")


def _watched(label, function, arguments, result, shape, axes):
    """The kernel runs as Python, with every access watched, and compiled if that is safe."""
    bounds, race, compiled = f"{result} (bounds)", f"{result} (threads)", f"{result} (compiled)"

    def run(functions):
        garbage = np.full(shape, 1000.0)
        # The tests compile the solution; here it would take as long as everything else together.
        compiles = functions.get("__file__") != SOLUTION_FILE
        seen = run_beside(watched_and_compiled, functions, function, {**arguments, result: garbage}, compiles)
        if not seen["parallel"]:
            raise Unusable(f"{function} is not compiled for several threads: leave @njit(parallel=True) above it")
        values = seen["after"][result]
        for name, before in arguments.items():
            if isinstance(before, np.ndarray) and not np.array_equal(seen["after"][name], before):
                raise Unusable(f"{function} changed its argument {name}")
        found = {result: values, bounds: np.array(0), race: np.array(seen["loops"] > 0), compiled: np.array(0)}
        if seen["outside"]:
            found[bounds] = Failure("outside", "", seen["outside"])
        if seen["race"]:
            found[race] = Failure("race", "", seen["race"])
        elif not seen["loops"]:
            found[race] = Failure("no loop", "", "there is no prange: nothing runs in parallel")
        if seen["compiled"] is not None and not np.array_equal(seen["compiled"], values):
            found[compiled] = Failure("differs", "", "compiled by Numba, it returns other values than as Python")
        return found

    return Probe(label, function, run, {result: axes, bounds: "", race: "", compiled: ""}, {}, arguments)


def kernels(functions):
    """Stride 1 only, which is all that the convolutions of a U-Net need."""

    def check(geometry):
        if geometry.stride != (1, 1):
            raise ValueError(f"jit-01: your kernel has stride 1, and {geometry.stride} is asked for")

    def forward(x, w, b, geometry):
        check(geometry)
        y = np.empty((len(x), *geometry.output_size(x.shape[1:3], w.shape[:2]), w.shape[3]), x.dtype)
        functions["forward"](x, w, *geometry.padding, y)
        return y if b is None else y + b

    def backward_weight(x, gy, kernel_size, geometry):
        check(geometry)
        gw = np.empty((*kernel_size, x.shape[3], gy.shape[3]), x.dtype)
        functions["backward_weight"](x, gy, *geometry.padding, gw)
        return gw

    return {"forward": forward, "backward_weight": backward_weight}
