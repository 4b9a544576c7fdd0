"""The same in CUDA.

On a GPU, thousands of threads run a kernel at once. Each thread gets its own number and computes *one* result:

    KERNEL double_all(const double* x, double* y, int n)
    {
      int i = blockIdx.x * blockDim.x + threadIdx.x;       // the number of this thread
      if (i < n) y[i] = 2 * x[i];
    }

Here a block has 32 threads, so there are a few more threads than results: these must do nothing. Arrays are plain
memory: x[n][iy][ix][ci] is x[((n * H + iy) * W + ix) * C_in + ci]. A GPU does not check indices, and threads that write
to one element at the same time lose results: as in jit-01, you must avoid accesses out of bounds and races.

Write the two kernels of a convolution with stride 1. They run on the CPU, in an emulator that checks every access.

    y[n, oy, ox, co]   = sum over ky, kx, ci of  x[n, iy, ix, ci] w[ky, kx, ci, co]
    gw[ky, kx, ci, co] = sum over n, oy, ox of   x[n, iy, ix, ci] gy[n, oy, ox, co]         iy = oy + ky - py
                                                                                            ix = ox + kx - px
"""

import numpy as np

from tinynet.learn.exercises import emulated
from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import WITH_STRIDE_1, Geometry
from tinynet.learn.exercises.probe import Failure, Probe, integers, run_beside

TEACHES = "one thread for one result; splitting a number into indices; the test with which every kernel begins"
HINTS = (
    "forward: thread i computes y[i]. Split i into indices, the innermost first: co = i % C_out; i /= C_out; ox = i % "
    "OW; and so on.",
    "Sum the result in a variable of the thread, `double sum = 0;`, and write it once at the end. For threads "
    "beyond the last result: `if (i >= N * OH * OW * C_out) return;`",
    "backward_weight: thread i computes gw[i], with co = i % C_out, ci = i / C_out % C_in, kx, ky; it loops over n, "
    "oy, ox.",
)
SECONDS = 120.0
SIZES = ("N", "H", "W", "C_in", "KH", "KW", "C_out", "py", "px")  # the last parameters of the kernels
HELPER = emulated.run_emulated
missing = emulated.missing


# ---- your file
SOURCE = r"""
// y (N, OH, OW, C_out) from x (N, H, W, C_in) and w (KH, KW, C_in, C_out); padding py, px; stride 1.
// One thread for each element of y, and a few more threads at the end.
KERNEL forward(const double* x, const double* w, double* y, int N, int H, int W, int C_in,
               int KH, int KW, int C_out, int py, int px)
{
  int OH = H + 2 * py - KH + 1, OW = W + 2 * px - KW + 1;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  // ---- solution
  if (i >= N * OH * OW * C_out) return;
  int co = i % C_out, ox = i / C_out % OW, oy = i / C_out / OW % OH, n = i / C_out / OW / OH;
  double sum = 0;
  for (int ky = 0; ky < KH; ++ky)
    for (int kx = 0; kx < KW; ++kx) {
      int iy = oy + ky - py, ix = ox + kx - px;
      if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;
      for (int ci = 0; ci < C_in; ++ci)
        sum += x[((n * H + iy) * W + ix) * C_in + ci] * w[((ky * KW + kx) * C_in + ci) * C_out + co];
    }
  y[i] = sum;
  // ---- end of solution
}

// gw (KH, KW, C_in, C_out) from x (N, H, W, C_in) and gy (N, OH, OW, C_out). One thread for each element of gw.
KERNEL backward_weight(const double* x, const double* gy, double* gw, int N, int H, int W, int C_in,
                       int KH, int KW, int C_out, int py, int px)
{
  int OH = H + 2 * py - KH + 1, OW = W + 2 * px - KW + 1;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  // ---- solution
  if (i >= KH * KW * C_in * C_out) return;
  int co = i % C_out, ci = i / C_out % C_in, kx = i / C_out / C_in % KW, ky = i / C_out / C_in / KW;
  double total = 0;
  for (int n = 0; n < N; ++n)
    for (int oy = 0; oy < OH; ++oy)
      for (int ox = 0; ox < OW; ++ox) {
        int iy = oy + ky - py, ix = ox + kx - px;
        if (iy >= 0 && iy < H && ix >= 0 && ix < W)
          total += x[((n * H + iy) * W + ix) * C_in + ci] * gy[((n * OH + oy) * OW + ox) * C_out + co];
      }
  gw[i] = total;
  // ---- end of solution
}
"""
# ---- end of your file


WRONG = (
    Wrong(
        "forward: too many threads",
        "forward does not test if there is a result for this thread. The number of threads is rounded up to whole "
        "blocks, and the threads beyond the last result read and write outside of the arrays.",
        ("  if (i >= N * OH * OW * C_out) return;\n", ""),
    ),
    Wrong(
        "forward: no bounds",
        "forward reads x outside the image: leave out the terms whose iy or ix is outside. (If the address lies in a "
        "neighboring row, the sum is wrong without an error.)",
        ("      if (iy < 0 || iy >= H || ix < 0 || ix >= W) continue;\n", ""),
    ),
    Wrong(
        "forward: columns unchecked",
        "forward tests iy but not ix. A column beyond the border is not an address beyond the array: it is a pixel of "
        "the neighboring row, and the sum is wrong without an error.",
        ("iy < 0 || iy >= H || ix < 0 || ix >= W", "iy < 0 || iy >= H"),
    ),
    Wrong(
        "forward: H for W",
        "In the address of x rows are H pixels apart. A row has W pixels: ((n * H + iy) * W + ix) * C_in + ci.",
        ("sum += x[((n * H + iy) * W + ix)", "sum += x[((n * W + iy) * H + ix)"),
    ),
    Wrong(
        "forward: order of the indices",
        "You take i apart in the wrong order: the channel is the innermost index of y, then ox, then oy.",
        (
            "int co = i % C_out, ox = i / C_out % OW, oy = i / C_out / OW % OH, n = i / C_out / OW / OH;",
            "int ox = i % OW, oy = i / OW % OH, co = i / OW / OH % C_out, n = i / OW / OH / C_out;",
        ),
    ),
    Wrong(
        "weight: race",
        "In backward_weight several threads add to the same gw: between the reading and the writing of one, another "
        "may write, and an addition is lost. Give each number of gw to one thread.",
        (
            "  double total = 0;\n  for (int n = 0; n < N; ++n)\n",
            "  double total = 0;\n  gw[i / C_out * C_out] = 0;\n  for (int n = 0; n < N; ++n)\n",
        ),
        ("  gw[i] = total;", "  gw[i / C_out * C_out] += total;"),
    ),
    Wrong(
        "weight: too many threads",
        "backward_weight does not test if there is a result for this thread: threads beyond the last result read and "
        "write outside of the arrays.",
        ("  if (i >= KH * KW * C_in * C_out) return;\n", ""),
    ),
    Wrong(
        "weight: not cleared",
        "backward_weight adds to the old values of gw, which are garbage: sum in a variable, and write it once.",
        ("  gw[i] = total;", "  gw[i] += total;"),
    ),
    Wrong(
        "weight: first image only",
        "backward_weight uses the first image only; the sum runs over n, too.",
        ("for (int n = 0; n < N; ++n)", "for (int n = 0; n < 1; ++n)"),
    ),
)
RIGHT = (
    Right(
        "indices one after the other",
        (
            "  int co = i % C_out, ox = i / C_out % OW, oy = i / C_out / OW % OH, n = i / C_out / OW / OH;\n",
            "  int rest = i;\n  int co = rest % C_out; rest /= C_out;\n  int ox = rest % OW; rest /= OW;\n"
            "  int oy = rest % OH;\n  int n = rest / OH;\n",
        ),
    ),
)


def probes(rng):
    for label, x_shape, w_shape, padding in WITH_STRIDE_1:
        KH, KW, _, C_out = w_shape
        gy_shape = (x_shape[0], *Geometry(padding=padding).output_size(x_shape[1:3], (KH, KW)), C_out)
        x, w, gy = integers(rng, *x_shape), integers(rng, *w_shape), integers(rng, *gy_shape)
        sizes = dict(zip(SIZES, (*x_shape, KH, KW, C_out, *padding)))
        yield _emulated(label, "forward", {"x": x, "w": w}, "y", gy_shape, sizes, "n oy ox co")
        yield _emulated(label, "backward_weight", {"x": x, "gy": gy}, "gw", w_shape, sizes, "ky kx ci co")


def _emulated(label, kernel, arrays, result, shape, sizes, axes):
    def run(functions):
        garbage = np.full(shape, 1000.0)  # as in newly allocated memory
        arguments = {**{name: a.copy() for name, a in arrays.items()}, result: garbage.copy(), **sizes}
        out, failed = run_beside(emulated.run_emulated, functions, kernel, garbage.size, result, arguments)
        if failed:
            return {result: Failure(*failed)}
        untouched = Failure("NotImplementedError", "", f"{kernel} writes nothing yet", not_written=True)
        return {result: untouched if np.array_equal(out, garbage) else out}

    return Probe(label, "SOURCE", run, {result: axes}, {}, {"kernel": kernel, **arrays, **sizes})
