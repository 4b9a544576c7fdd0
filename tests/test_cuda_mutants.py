"""Each barrier, bounds test and mask of the CUDA kernels is needed: when it is gone, the emulator or a case notices."""

from __future__ import annotations

import json

import pytest
from cuda_mutants import changes, mutants_of, with_switches
from op_folders import missing
from processes import python

from tinynet.backends.cuda.source import HEADERS

# (file, line, change) -> why no check can notice.
SPEED = "saves work only: without it the same comes out"
BOTH_EQUAL = "where the two are equal, it does not matter which is taken"
ONE_BY_ONE = "a last pack that is full is taken one by one"
CONV = "conv2d/conv2d.cu"
BLOCKED_WEIGHT = "conv2d/blocked_weight.cu"
LOSS = "softmax_cross_entropy/softmax_cross_entropy.cu"
POOL = "max_pool2d/max_pool2d.cu"
EQUIVALENT: dict[tuple[str, str, str], str] = {
    # packs
    ("conv_elu_dropout/conv_elu_dropout.cu", "if (start + WIDTH <= n) {", "one further: WIDTH <= n"): ONE_BY_ONE,
    ("dropout/dropout.cu", "if (start + WIDTH <= n) {", "one further: WIDTH <= n"): ONE_BY_ONE,
    ("_cuda/elementwise.cuh", "if (first + WIDTH <= n) {", "one further: WIDTH <= n"): ONE_BY_ONE,
    # the ends of chunks
    (
        "bce_with_logits/bce_with_logits.cu",
        "const size_t first = (size_t)blockIdx.x * chunk, end = first + chunk < n ? first + chunk : n;",
        "one further: chunk < n",
    ): BOTH_EQUAL,
    ("dice/dice.cu", "return end < end_of_group ? end : end_of_group;", "one further: end < end_of_group"): BOTH_EQUAL,
    (
        LOSS,
        "const size_t first = (size_t)blockIdx.x * chunk, end = first + chunk < rows ? first + chunk : rows;",
        "one further: chunk < rows",
    ): BOTH_EQUAL,
    # the losses
    (LOSS, "for (size_t next = first; next < end; next += blockDim.x / lanes) {", "one further: next < end"): SPEED,
    (LOSS, "if (is_row && lane == 0) {", "left out: lane == 0"): "both sums grow by the same power of two",
    # dropout that drops nothing
    (
        "conv_elu_dropout/conv_elu_dropout.cu",
        "const uint4 words = threshold ? mask_words((first + start) / 4, step, seed, stream) : make_uint4(0, 0, 0, 0);",
        "always true: threshold",
    ): SPEED,
    (
        "conv2d/geometry.cuh",
        "return threshold ? mask_words((first + i) / 4, step, seed, stream) : make_uint4(0, 0, 0, 0);",
        "always true: threshold",
    ): SPEED,
    # pooling
    **{
        (POOL, "if (iy < reach[2 * out_line] || iy > reach[2 * out_line + 1]) continue;", what): SPEED
        for what in (
            "never true: iy < reach[2 * out_line] || iy > reach[2 * out_line + 1]",
            "left out: iy < reach[2 * out_line]",
            "left out: iy > reach[2 * out_line + 1]",
        )
    },
    # products
    (
        "_cuda/gemm.cuh",
        "static __device__ bool exists(int i) { return GROUPS % GEMM_THREADS == 0 || group(i) < GROUPS; }",
        "left out: GROUPS % GEMM_THREADS == 0",
    ): "for the compiler, which leaves out a test that is always true",
    ("_cuda/gemm.cuh", "if (exists(i)) {", "always true: exists(i)"): "in start(), which reads nothing",
    ("matmul/matmul.cu", "for (int first = 0; first < terms; first += TILE) {", "one further: first < terms"): SPEED,
    # convolution: the blocked version
    (BLOCKED_WEIGHT, "exists = tap < lines.taps;", "one further: tap < lines"): SPEED,
    (
        BLOCKED_WEIGHT,
        "inside = exists && first_row < g.images * g.height && is_inside(iy, g.height) && is_inside(ix, g.width);",
        "left out: exists",
    ): SPEED,
    # convolution: the others
    (CONV, "for (int first_ci = 0; first_ci < g.c_in; first_ci += TILED_IN) {", "one further: first_ci < g"): SPEED,
    (CONV, "if (blockDim.y > 1) {", "always true: blockDim.y > 1"): SPEED,
    (CONV, "if (blockDim.y > 1) {", "one further: y > 1"): SPEED,
    (CONV, "if (row < rows)", "always true: row < rows"): "the rows left over add up what no thread reads",
    (CONV, "if (row < rows)", "one further: row < rows"): "the rows left over add up what no thread reads",
    ("batch_norm/batch_norm.cu", "if (row < at_once) {", "always true: row < at_once"): "as in conv2d's bias",
    ("batch_norm/batch_norm.cu", "if (row < at_once) {", "one further: row < at_once"): "as in conv2d's bias",
}

RUN = """
import sys; sys.path.insert(0, "tests")
import cuda_mutants, json
from test_cuda_mutants import EQUIVALENT
mutants = cuda_mutants.main({}, frozenset(EQUIVALENT), {})
print(json.dumps([[str(m), m.outcome in cuda_mutants.NOTICED] for m in mutants]))
"""
needs_the_emulator = pytest.mark.skipif(bool(missing("cuda-sim")), reason=str(missing("cuda-sim")))


@needs_the_emulator
@pytest.mark.parametrize(
    ("part", "chosen", "least"),
    [("accumulate/", ["accumulate"], 3), pytest.param("", None, 300, marks=pytest.mark.slow)],
)
def test_every_mutant_of_the_kernels_is_noticed(part, chosen, least):
    mutants = json.loads(python(RUN.format(repr(part), chosen), OMP_NUM_THREADS="1").splitlines()[-1])
    assert len(mutants) >= least
    unnoticed = [text for text, is_noticed in mutants if not is_noticed]
    assert not unnoticed, "not noticed:\n" + "\n".join(unnoticed)


def test_equivalent_mutants_are_still_in_the_kernels():
    mutants, _ = mutants_of(sorted([*HEADERS.rglob("*.cu"), *HEADERS.rglob("*.cuh")]))
    assert set(EQUIVALENT) <= {mutant.key for mutant in mutants}


# ------------------------------------------------------------------------------------ the changes themselves
def mutated(text: str) -> dict[str, str]:
    """For each change of a text its words, and the text with this change alone."""
    return {c.what: text[: c.start] + c.before + text[c.start : c.end] + c.after + text[c.end :] for c in changes(text)}


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("{ __syncthreads(); }", "left out", "{ if (!{}) __syncthreads(); }"),
        ("{ if (i >= n) return; }", "never true: i >= n", "{ if (!{} && (i >= n)) return; }"),
        ("{ if (i >= n) return; }", "one further: i >= n", "{ if (i >= {} + n) return; }"),
        ("{ if (i > 0) y = x; }", "always true: i > 0", "{ if ({} || (i > 0)) y = x; }"),
        ("{ if (i > 0) y = x; }", "one further: i > 0", "{ if (i + {} > 0) y = x; }"),
        ("{ y = f(a) && b || c; }", "left out: f(a)", "{ y = ({} || (f(a))) && b || c; }"),
        ("{ y = f(a) && b || c; }", "left out: f(a) && b", "{ y = (!{} && (f(a) && b)) || c; }"),
        ("{ y = a < b ? f(a, b) : 0; }", "always true: a < b", "{ y = (a < b || {}) ? f(a, b) : 0; }"),
        ("{ y = min(f(a, b), c); }", "min(f(a, b), c) is c", "{ y = ({} ? (c) : min(f(a, b), c)); }"),
        ("{ atomicAdd(&s, v); }", "not atomic: atomicAdd(&s, v)", "{ if ({}) s += v; else atomicAdd(&s, v); }"),
        ("{ f(0xffffffffu, x); }", "a lane less", "{ f((0xffffffffu >> {}), x); }"),
    ],
)
def test_a_change(text, what, expected):
    assert mutated(text)[what] == expected


def test_what_is_no_code_is_left_alone():
    assert not changes(
        "// if (i < n)\n#if WIDTH < 4\n#pragma unroll\n  for (int i = 0; i < 4; ++i) x[i] = Pack<T>();\n#endif"
    )


def test_changes_lie_in_each_other():
    text = "{ if (a < b && c) return; }"
    both = with_switches(text, list(enumerate(changes(text), start=1)))
    assert both == "{ if (!MUTANT(1) && ((MUTANT(3) || (a < MUTANT(2) + b)) && (MUTANT(4) || (c)))) return; }"
