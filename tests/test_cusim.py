"""The emulator: it finds what is planted in kernels, is silent about what is right, and never uses a stale build."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from op_folders import missing

from tinynet import cusim
from tinynet.backends.cuda import source as source_module
from tinynet.backends.cuda.source import Source
from tinynet.backends.cusim import apart, build, places
from tinynet.backends.launch import launch
from tinynet.tools.cusim_report import main as report_main

pytestmark = pytest.mark.skipif(bool(missing("cuda-sim")), reason=missing("cuda-sim") or "")

# Each kernel runs on 2 blocks of 64 threads, with an array y of 4 x 32 floats and another one, t. The line with the
# mistake has the word HERE, the line of the other thread the word THERE. Above it stands what the report must say.
PLANTED = """
// race | `y`[0, 0] | threadIdx=(1,0,0) | threadIdx=(0,0,0)
KERNEL sum_without_atomics(float* y, u32* t) {
  y[0] += 1.0f;  // HERE THERE
}
// race | the shared array `s` | reads byte | writes it | __syncthreads
KERNEL missing_barrier(float* y, u32* t) {
  __shared__ float s[64];
  s[threadIdx.x] = threadIdx.x;  // THERE
  __syncwarp();
  if (threadIdx.x >= 32) y[thread_number()] = s[threadIdx.x - 32];  // HERE
}
// race | dynamic shared memory | __syncwarp
KERNEL lanes_in_step(float* y, u32* t) {
  extern __shared__ float s[];
  s[threadIdx.x] = 1;
  __syncthreads();
  const float left = s[threadIdx.x & 62];  // HERE
  s[threadIdx.x] = left + 1;  // THERE
}
// race | `y` | blockIdx=(1,0,0) | blockIdx=(0,0,0) | in any order
KERNEL other_block(float* y, u32* t) {
  if (blockIdx.x == 0) {
    y[threadIdx.x] = 1;  // THERE
    return;
  }
  y[64 + threadIdx.x] = y[threadIdx.x];  // HERE
}
// race | `y` | reads
KERNEL ticket_without_fence(float* y, u32* t) {
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    y[blockIdx.x] = 1;  // THERE
    is_last = atomicAdd(t, 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x == 1) y[2] = y[0] + y[1];  // HERE
}
// race | `y` | reads
KERNEL fence_without_ticket(float* y, u32* t) {
  if (threadIdx.x == 0) {
    y[blockIdx.x] = 1;  // THERE
    __threadfence();
    t[blockIdx.x] = 1;
  }
  __syncthreads();
  if (blockIdx.x == 1 && threadIdx.x == 1) y[2] = y[0] + y[1];  // HERE
}
// race | `y` | reads
KERNEL ticket_before_the_others(float* y, u32* t) {
  __shared__ bool is_last;
  y[thread_number()] = 1;  // THERE
  __threadfence();
  if (threadIdx.x == 0) is_last = atomicAdd(t, 1) == gridDim.x - 1;
  __syncthreads();
  if (is_last && threadIdx.x == 1) t[1] = y[33];  // HERE
}
// race | the shared array `n` | reads byte | atomically changes
KERNEL own_atomic_before_a_read(float* y, u32* t) {
  __shared__ int n;
  if (threadIdx.x == 0) n = 0;
  __syncthreads();
  atomicAdd(&n, 1);  // THERE
  if (threadIdx.x == 63) y[blockIdx.x] = n;  // HERE
}
// race | the shared array `n` | atomically changes byte | writes it
KERNEL own_atomic_after_a_write(float* y, u32* t) {
  __shared__ int n;
  if (threadIdx.x == 0) n = 0;  // THERE
  atomicAdd(&n, 1);  // HERE
}
// race | the shared array `n` | writes byte | reads it
KERNEL reader_before_syncwarp(float* y, u32* t) {
  __shared__ int n;
  if (threadIdx.x == 0) n = 0;
  __syncthreads();
  if (threadIdx.x < 2) y[threadIdx.x] = n;
  __syncwarp();
  if (threadIdx.x == 2) y[threadIdx.x] = n;  // THERE
  if (threadIdx.x == 3) n = 1;  // HERE
}
// race | the variable `total` | blockIdx=(1,0,0) | blockIdx=(0,0,0)
__device__ volatile float total;
KERNEL device_variable(float* y, u32* t) {
  if (threadIdx.x == 0) total += y[0];  // HERE THERE
}
// race | the variable `flags` | threadIdx=(32,0,0)
__device__ u8 flags[64];
KERNEL device_array(float* y, u32* t) {
  if (blockIdx.x == 0) flags[threadIdx.x] = 1;  // THERE
  if (blockIdx.x == 0 && threadIdx.x == 32) y[0] = flags[31];  // HERE
}
// race | the shared array `s` | writes byte 128
template <class T, int N>
__device__ T neighbor(T x) {
  __shared__ T s[N];
  s[threadIdx.x] = x;  // HERE
  return s[threadIdx.x ^ 32];
}
KERNEL shared_array_of_a_template(float* y, u32* t) { y[thread_number()] = neighbor<float, 64>(1); }
// uninitialized | byte 128 of the shared array `s` | threadIdx=(32,0,0)
KERNEL half_filled(float* y, u32* t) {
  __shared__ float s[64];
  if (threadIdx.x < 32) s[threadIdx.x] = 1;
  __syncthreads();
  y[thread_number()] = s[threadIdx.x];  // HERE
}
// out of bounds | writes 4 bytes | 8 bytes past the end of `y` | element 129 | blockIdx=(1,0,0) threadIdx=(63,0,0)
KERNEL past_the_end(float* y, u32* t) {
  y[thread_number() + 2 * (thread_number() == 127)] = 1;  // HERE
}
// out of bounds | reads 4 bytes | 12 bytes before the start of `y` | element -3
KERNEL before_the_start(float* y, u32* t) {
  const float* p = y - 3;
  t[thread_number()] = p[(int)threadIdx.x];  // HERE
}
// out of bounds | 131072 bytes past the end of `y`
KERNEL far_behind(float* y, u32* t) {
  if (thread_number() == 0) y[127 + (1 << 15)] = 1;  // HERE
}
// misaligned | writes 8 bytes | `y`
KERNEL misaligned(float* y, u32* t) {
  if (blockIdx.x == 0) ((uint2*)(y + 1))[threadIdx.x] = ((uint2*)t)[threadIdx.x];  // HERE
}
// index | index 32 | threadIdx=(32,0,0)
KERNEL row_too_long(float* y, u32* t) {
  __shared__ float s[2][32];
  s[0][threadIdx.x] = 1;  // HERE
  __syncthreads();
  y[thread_number()] = s[1][threadIdx.x % 32];
}
// different barriers | threadIdx=(0,0,0) waits here | threadIdx=(63,0,0) waits at
KERNEL two_barriers(float* y, u32* t) {
  if (threadIdx.x < 16)
    __syncthreads();  // HERE
  else
    __syncthreads();  // THERE
}
// barrier not reached | 24 threads | threadIdx=(63,0,0)
KERNEL early_return(float* y, u32* t) {
  if (threadIdx.x >= 40) return;
  __syncthreads();  // HERE
}
// absent lanes | 16 to 31
KERNEL shuffle_in_a_branch(float* y, u32* t) {
  float v = threadIdx.x;
  if (threadIdx.x % 32 < 16)
    v += __shfl_xor_sync(0xffffffffu, v, 1);  // HERE
  y[thread_number()] = v;
}
// lanes disagree | 0xffffffff | 0x0000ffff
KERNEL two_masks(float* y, u32* t) {
  const u32 mask = threadIdx.x % 32 == 15 ? 0xffffu : ~0u;
  y[thread_number()] = __shfl_xor_sync(mask, 1.0f, 1);  // HERE THERE
}
// not in mask | 0x0000ffff | threadIdx=(16,0,0)
KERNEL outside_its_mask(float* y, u32* t) {
  y[thread_number()] = __shfl_xor_sync(0xffffu, 1.0f, 1);  // HERE
}
// lane not there | lane 20
KERNEL value_of_nobody(float* y, u32* t) {
  if (threadIdx.x % 32 < 16)
    y[thread_number()] = __shfl_sync(0xffffu, 1.0f, 20);  // HERE
}
// overflow | result of *
KERNEL offset_in_int(float* y, u32* t) {
  const int width = 1 << 20;
  t[thread_number()] = width * (int)(thread_number() + 2000);  // HERE
}
// division | divides by 0
KERNEL division_by_zero(float* y, u32* t) {
  t[thread_number()] = 5 / (int)threadIdx.x;  // HERE
}
// stack overflow
__device__ __noinline__ int deep(int n) { volatile int a[99]; a[n % 99] = n; return n ? deep(n - 1) + *a : 0; }  // HERE
KERNEL recursion(float* y, u32* t) { t[thread_number()] = deep(1000); }
"""

RIGHT = """
// The pattern of the last block, in three ways of putting the fence.
KERNEL ticket_by_the_writer(float* y, u32* t) {
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    y[blockIdx.x] = blockIdx.x + 1;
    __threadfence();
    is_last = atomicAdd(t, 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x == 1) y[127] = y[0] + y[1];
  if (is_last && threadIdx.x == 0) *t = 0;
}
KERNEL ticket_after_all_fenced(float* y, u32* t) {
  __shared__ bool is_last;
  y[thread_number()] = 1;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(t, 1) == gridDim.x - 1;
  __syncthreads();
  if (is_last && threadIdx.x == 1) y[127] = y[0] + y[65] + 1;
}
KERNEL ticket_after_a_barrier(float* y, u32* t) {
  __shared__ bool is_last;
  y[thread_number()] = 1;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicAdd(t, 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x == 1) y[127] = y[0] + y[65] + 1;
}
KERNEL lanes(float* y, u32* t) {
  __shared__ float s[64];
  s[threadIdx.x] = threadIdx.x;
  __syncwarp();
  const float other = s[threadIdx.x ^ 1];
  const u32 odd = __ballot_sync(~0u, threadIdx.x % 2);
  const bool any = __any_sync(~0u, threadIdx.x == 5 || threadIdx.x == 40), all = __all_sync(~0u, 1);
  const bool fine = odd == 0xaaaaaaaau && any && all && !__all_sync(~0u, threadIdx.x % 32 != 8);
  const int lane = threadIdx.x % 32;
  const bool moved = __shfl_down_sync(~0u, lane, 1) == min(lane + 1, 31) && __shfl_up_sync(~0u, lane, 2, 8) ==
                     (lane % 8 < 2 ? lane : lane - 2) && __shfl_sync(~0u, (double)lane, 3, 16) == lane / 16 * 16 + 3;
  y[thread_number()] = warp_sum(other) * fine * moved;  // 496, and 1520 in the second warp
}
KERNEL half_a_warp(float* y, u32* t) {  // lanes of a mask meet without the others
  float v = threadIdx.x % 32;
  if (threadIdx.x % 32 < 16)
    for (int i = 8; i > 0; i /= 2) v += __shfl_xor_sync(0xffffu, v, i);
  v += __shfl_xor_sync(~0u, v, 16);
  y[thread_number()] = v;  // 120 + 16 + lane % 16
}
KERNEL votes(float* y, u32* t) {
  const int few = __syncthreads_count(threadIdx.x < 10), any = __syncthreads_or(threadIdx.x == 63);
  const int all = __syncthreads_and(threadIdx.x < 64), not_all = __syncthreads_and(threadIdx.x < 63);
  y[thread_number()] = few * (any == 1) * (all == 1) * (not_all == 0);
}
KERNEL histogram(float* y, u32* t) {
  extern __shared__ float counts[];
  if (threadIdx.x < 8) counts[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&counts[threadIdx.x % 8], 1);
  __syncthreads();
  if (threadIdx.x < 8) atomicAdd(&y[threadIdx.x], counts[threadIdx.x]);
  atomicMax(&t[1], threadIdx.x);
}
KERNEL in_turns(float* y, u32* t) {  // double buffering with one barrier for each step
  __shared__ float s[2][64];
  s[0][threadIdx.x] = threadIdx.x;
  for (int step = 0; step < 6; ++step) {
    __syncthreads();
    s[1 - step % 2][threadIdx.x] = s[step % 2][(threadIdx.x + 1) % 64];
  }
  y[thread_number()] = s[0][threadIdx.x];
}
template <class T, int N>
__device__ inline T rotated(T value) {
  __shared__ T s[N];
  s[threadIdx.x] = value;
  __syncthreads();
  return s[(threadIdx.x + 1) % N];
}
KERNEL templates(float* y, u32* t) { y[thread_number()] = rotated<double, 64>(rotated<float, 64>(threadIdx.x)); }
KERNEL bytes(float* y, u32* t) {  // neighbors in one word of four bytes
  __shared__ u8 s[64];
  s[threadIdx.x] = threadIdx.x;
  __syncthreads();
  y[thread_number()] = s[63 - threadIdx.x];
}
__device__ u32 tickets;
__device__ float table[4] = {1, 2, 3, 4};
__device__ const float factor = 2;
__device__ __align__(16) float sums[2];
__device__ inline float scaled(float x) { return factor * x; }
KERNEL device_variables(float* y, u32* t) {
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = scaled(table[blockIdx.x]);
    __threadfence();
    is_last = atomicAdd(&tickets, 1) % 2 == 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x == 1) y[127] = sums[0] + sums[1];
}
KERNEL vectors(float* y, u32* t) {
  const float4 v = make_float4(1, 2, 3, 4);
  if (thread_number() < 32) ((float4*)y)[thread_number()] = v;
}
"""
INDEX = np.arange(64)
RIGHT_RESULTS = {
    "ticket_by_the_writer": lambda y: y[127] == 3,
    "ticket_after_all_fenced": lambda y: y[127] == 3,
    "ticket_after_a_barrier": lambda y: y[127] == 3,
    "lanes": lambda y: np.array_equal(y, np.repeat([496, 1520, 496, 1520], 32)),
    "half_a_warp": lambda y: np.array_equal(y, np.tile(136 + INDEX % 16, 2)),
    "votes": lambda y: (y == 10).all(),
    "histogram": lambda y: (y[:8] == 16).all(),
    "in_turns": lambda y: np.array_equal(y, np.tile((INDEX + 6) % 64, 2)),
    "templates": lambda y: np.array_equal(y, np.tile((INDEX + 2) % 64, 2)),
    "bytes": lambda y: np.array_equal(y, np.tile(63 - INDEX, 2)),
    "device_variables": lambda y: y[127] == 6,
    "vectors": lambda y: np.array_equal(y, np.tile([1, 2, 3, 4], 32)),
}
ORDERS = [("forward", 0), ("reversed", 0), ("shuffled", 1), ("shuffled", 2)]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache of this file's own, so that what is compiled is compiled by this test run."""
    return tmp_path_factory.mktemp("cusim")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    use_cache(monkeypatch, cache)


def use_cache(monkeypatch, folder):
    """Builds go to this folder, as in a new process."""
    monkeypatch.setenv("TINYNET_CACHE", str(folder))
    build._folder.cache_clear()


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The two files above as sources, each compiled once."""
    folder = tmp_path_factory.mktemp("kernels")
    return {name: source_of(folder / f"{name}.cu", text) for name, text in (("planted", PLANTED), ("right", RIGHT))}


def source_of(path, text, variants=({},)) -> Source:
    path.write_text(text)
    return Source(path, variants)


def run_kernel(source, kernel):
    y, t = np.zeros((4, 32), np.float32), np.zeros(128, np.uint32)
    launch(source, kernel, 2, 64, y, t, shared_bytes=256)
    return y.reshape(-1)


def planted() -> dict[str, tuple[list[str], str]]:
    """For each kernel of the text: what its report must say, and the text from there to the next one."""
    found = {}
    for part in re.split(r"^// ", PLANTED, flags=re.MULTILINE)[1:]:
        said, _, body = part.partition("\n")
        found[re.search(r"^KERNEL (\w+)", body, re.MULTILINE)[1]] = (said, body)
    return found


def line_with(word: str, body: str) -> int:
    lines = [number for number, line in enumerate(body.splitlines(), 1) if re.search(rf"\b{word}\b", line)]
    return PLANTED[: PLANTED.index(body)].count("\n") + lines[0] if lines else 0


# ---------------------------------------------------------------------------------------- the checks
@pytest.mark.parametrize("kernel", planted())
def test_a_planted_mistake_is_reported_with_its_line_and_its_threads(kernel, files):
    said, body = planted()[kernel]
    with pytest.raises(cusim.KernelError) as error, cusim.checked():
        run_kernel(files["planted"], kernel)
    kind, *details = said.split(" | ")
    message = str(error.value)
    here, there = line_with("HERE", body), line_with("THERE", body)
    report = next((part for part in message.split("\n\n") if part.startswith(f"{kind}: ")), "")
    assert f"planted.cu:{here}\n" in report.partition("\n  ")[0] + "\n", message
    assert not there or f"planted.cu:{there}\n" in report, message
    for detail in details:
        assert detail in report, f"{detail} is not in\n{message}"


@pytest.mark.parametrize("kernel", RIGHT_RESULTS)
def test_what_is_right_is_not_reported_and_computed_in_any_order(kernel, files):
    for order, seed in ORDERS:
        with cusim.checked(order, seed):
            assert RIGHT_RESULTS[kernel](run_kernel(files["right"], kernel)), (order, seed)
        with cusim.ordered(order, seed):
            assert RIGHT_RESULTS[kernel](run_kernel(files["right"], kernel)), (order, seed)


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
def test_a_race_is_found_in_every_order(order, files):
    with pytest.raises(cusim.KernelError, match="race"), cusim.checked(order):
        run_kernel(files["planted"], "missing_barrier")


def test_who_read_shared_memory_is_known_in_late_blocks_too(tmp_path):
    """Blocks have their shared memory at one address: what earlier ones did must not stand in the way."""
    text = """KERNEL late(float* y) {
  __shared__ float s[1];
  if (threadIdx.x == 0) s[0] = 1;
  __syncthreads();
  y[thread_number()] = s[0];
  if (thread_number() == 255) s[0] = 2;
}
"""
    with pytest.raises(cusim.KernelError, match=r"race: .*late\.cu:6\n"), cusim.checked():
        launch(source_of(tmp_path / "late.cu", text), "late", 4, 64, np.zeros(256, np.float32))


def test_what_needs_no_checks_is_reported_without_them(files):
    for kernel, kind in (
        ("early_return", "barrier not reached"),
        ("shuffle_in_a_branch", "absent lanes"),
        ("division_by_zero", "division"),
        ("recursion", "stack overflow"),
    ):
        with pytest.raises(cusim.KernelError, match=kind):
            run_kernel(files["planted"], kernel)
    assert RIGHT_RESULTS["lanes"](run_kernel(files["right"], "lanes"))  # and the emulator can go on


def test_an_address_without_memory_is_a_sentence_not_the_end_of_the_process(tmp_path):
    source = source_of(tmp_path / "far.cu", "KERNEL far(float* y, size_t n) {\n  y[n] = 1;\n}\n")
    with pytest.raises(cusim.KernelError, match=r"crash: .*far\.cu:2"):
        launch(source, "far", 1, 32, np.zeros(4, np.float32), 1 << 44)


NEVER_ENDING = """
import os, signal, sys, threading
import numpy as np
from tinynet import cusim
from tinynet.cuda.launch import launch
from tinynet.cuda.source import Source

source, y = Source(sys.argv[1], [{}]), np.ones(1, np.float32)
for mode, presses in ((cusim.ordered("forward"), 2), (cusim.checked(), 1)):
    with mode:
        y[0] = 1
        launch(source, "wait", 1, 2, y)  # compiled before the clock runs
        y[0] = 0
        for i in range(presses):
            threading.Timer(0.1 + 0.2 * i, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            launch(source, "wait", 1, 2, y)
        except KeyboardInterrupt:
            print("interrupted")
"""


def test_a_kernel_that_never_ends_can_be_interrupted(tmp_path):
    source_of(tmp_path / "wait.cu", "KERNEL wait(float* y) { while (*(volatile float*)y == 0) {} }")
    command = [sys.executable, "-c", NEVER_ENDING, str(tmp_path / "wait.cu")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == ["interrupted"] * 2, ended.stderr


def test_an_array_given_twice_or_as_a_part_of_another_is_one(tmp_path):
    source = source_of(
        tmp_path / "alias.cu", "KERNEL twice(const float* x, float* y) { y[threadIdx.x] = 2 * x[threadIdx.x]; }"
    )
    x = np.arange(96, dtype=np.float32)
    with cusim.checked():
        launch(source, "twice", 1, 64, x, x)
        assert np.array_equal(x, np.arange(96) * np.where(np.arange(96) < 64, 2, 1))
        with pytest.raises(cusim.KernelError, match="race"):
            launch(source, "twice", 1, 64, x, x[1:])


def test_arrays_reached_by_a_table_of_addresses(tmp_path):
    text = "KERNEL fill(const u64* table) {\n  ((float*)table[blockIdx.x])[threadIdx.x] = 1;\n}\n"
    source = source_of(tmp_path / "table.cu", text)
    arrays = [np.zeros(n, np.float32) for n in (32, 31)]
    table = np.array([a.ctypes.data for a in arrays], np.uint64)
    with cusim.checked():
        launch(source, "fill", 1, 32, table, reachable=arrays)
        assert arrays[0].all()
        with pytest.raises(
            cusim.KernelError, match=r"out of bounds.*table\.cu:2(.|\n)*past the end of `reachable\[1\]`"
        ):
            launch(source, "fill", 2, 32, table, reachable=arrays)
        with pytest.raises(cusim.KernelError, match="out of bounds"):
            launch(source, "fill", 1, 32, table)


def test_copies_lie_apart_and_are_copied_back():
    base = np.arange(10.0)
    fixed, constant = np.zeros(3), np.arange(4)
    constant.setflags(write=False)
    arrays = [base[2:6], constant, base[4:], fixed]
    with apart.apart(arrays, in_place=[fixed]) as at:
        assert at[2] - at[0] == 2 * base.itemsize and at[3] == fixed.ctypes.data
        assert all(abs(a - b) >= apart.GAP for a in at[:1] for b in (at[1], base.ctypes.data))
        assert all((a - array.ctypes.data) % apart.ALIGNED == 0 for a, array in zip(at, arrays))
        apart.ctypes.memset(at[0], 0, 8)
    assert np.array_equal(base, [0, 1, 0, *range(3, 10)])


def test_shared_memory_holds_nothing_from_the_block_before(tmp_path):
    text = "KERNEL stale(float* y) {\n  __shared__ float s[1];\n  y[blockIdx.x] = s[0];\n  s[0] = 1;\n}\n"
    y = np.zeros(2, np.float32)
    launch(source_of(tmp_path / "stale.cu", text), "stale", 2, 1, y)
    assert np.isnan(y).all()


# ---------------------------------------------------------------------------------------- order
def test_blocks_and_threads_take_their_turns_in_the_order_asked_for(tmp_path):
    text = "KERNEL note(int* y, int* n) { y[(*n)++] = thread_number(); }"
    source = source_of(tmp_path / "note.cu", text)

    def order(*args):
        y, n = np.zeros(12, np.int32), np.zeros(1, np.int32)
        with cusim.ordered(*args):
            launch(source, "note", 3, 4, y, n)
        return y.tolist()

    assert order("forward") == list(range(12))
    assert order("reversed") == list(range(11, -1, -1))
    assert sorted(order("shuffled", 1)) == list(range(12))
    assert order("shuffled", 1) == order("shuffled", 1) != order("shuffled", 2)
    with pytest.raises(ValueError, match="'backwards'; it must be one of forward"):
        cusim.checked("backwards")


def test_launches_from_several_threads_wait_for_one_another(files):
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append(RIGHT_RESULTS["in_turns"](run_kernel(files["right"], "in_turns")))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


# ---------------------------------------------------------------------------------------- the language
def test_mathematics_is_that_of_cuda(tmp_path):
    text = """KERNEL f(real* y, const real* x) {
  const real a = x[0], b = x[1], nan = x[2];
  real results[] = {exp(a), expm1(a), log1p(a), tanh(a), sqrt(b), fabs(a), max(a, nan), min(nan, b), (real)max(a, 2.0),
                    (real)max(2, 3u), (real)isnan(nan), rsqrt(b), (real)__umulhi(0x80000000u, 6u), (real)__popc(7u),
                    (real)__clz(1), __uint_as_float(__float_as_uint(0.5f)), fmax(a, b)};
  for (int i = 0; i < 17; ++i) y[i] = results[i];
}
"""
    source = source_of(tmp_path / "math.cu", text, source_module.Source("").variants)
    for dtype in (np.float32, np.float64):
        a, b = dtype(-0.3), dtype(7)
        y = np.zeros(17, dtype)
        launch(source, "f", 1, 1, y, np.array([a, b, np.nan], dtype))
        expected = [
            np.exp(a),
            np.expm1(a),
            np.log1p(a),
            np.tanh(a),
            np.sqrt(b),
            -a,
            a,
            b,
            2,
            3,
            1,
            1 / np.sqrt(b),
            3,
            3,
            31,
        ]
        np.testing.assert_allclose(y, np.array([*expected, 0.5, b]), rtol=4 * np.finfo(dtype).eps)


# An expression of CUDA and its value.
INTRINSICS = [
    ("__sinf(1)", np.sin(1)), ("__cosf(1)", np.cos(1)), ("__tanf(1)", np.tan(1)), ("__tanhf(1)", np.tanh(1)),
    ("__expf(1)", np.e), ("__exp10f(2)", 100), ("__logf(2)", np.log(2)), ("__log2f(8)", 3), ("__log10f(100)", 2),
    ("__powf(2, 3)", 8), ("__fdividef(1, 4)", 0.25), ("__saturatef(2)", 1), ("__saturatef(nan)", 0),
    ("__saturatef(-1)", 0), ("__frcp_rn(4)", 0.25), ("__fsqrt_rn(4)", 2), ("__frsqrt_rn(4)", 0.5),
    ("__fadd_rn(1, 2)", 3), ("__fsub_rn(1, 2)", -1), ("__fmul_rn(3, 2)", 6), ("__fdiv_rn(3, 2)", 1.5),
    ("__dadd_rn(1, 2)", 3), ("__fmaf_rn(2, 3, 4)", 10), ("__fma_rn(2, 3, 4)", 10),
    ("__float2int_rn(2.5f)", 2), ("__float2int_rz(-2.7f)", -2), ("__float2int_rd(-2.1f)", -3),
    ("__float2int_ru(2.1f)", 3), ("__float2int_rn(nan)", 0), ("__float2int_rn(3e9f)", 2**31 - 1),
    ("__float2uint_rn(-3)", 0), ("__double2int_rz(-2.7)", -2), ("__int2float_rn(7)", 7),
    ("__double2float_rn(0.5)", 0.5),
    ("__mulhi(-(1 << 30), 8)", -2), ("__umul24(3, 5)", 15), ("__mul24(-3, 5)", -15), ("__brev(1u)", 2**31),
    ("__popcll(~0ull)", 64), ("__clzll(1)", 63), ("__clzll(0)", 64), ("__ffsll(4)", 3),
    ("sincos_sum(1)", np.sin(1) + np.cos(1)),
    ("make_float3(1, 2, 3).z", 3), ("make_int3(4, 5, 6).x", 4), ("atomicXor(&word, 3u) + word", 11),
    ("atomicDec(&word, 9u) + word", 11),
]  # fmt: skip


def test_intrinsics(tmp_path):
    lines = "".join(f"  y[{i}] = {expression};\n" for i, (expression, _) in enumerate(INTRINSICS))
    text = f"""__device__ inline float sincos_sum(float x) {{ float s, c; __sincosf(x, &s, &c); return s + c; }}
KERNEL f(float* y, float nan) {{
  u32 word = 5;
{lines}}}
"""
    y = np.zeros(len(INTRINSICS), np.float32)
    launch(source_of(tmp_path / "intrinsics.cu", text), "f", 1, 1, y, np.nan)
    for (expression, expected), actual in zip(INTRINSICS, y):
        assert actual == pytest.approx(expected, rel=1e-6), expression


PARAMETERS = """
template <int N> struct Shape { int n[N]; };
KERNEL unreadable(Shape<3> shape, int n) {}
KERNEL many(float* __restrict__ const y, const unsigned char* __restrict__ a, unsigned char const *b, unsigned n,
            const long long m, unsigned long long int k, size_t s, bool q, double d, char c, short h, unsigned short v,
            const float4* f, volatile int* w, long l, int* __restrict r, const bool* flags, signed char t,
            long unsigned int u, const float2 *const __restrict__ p) {
  y[0] = a[0] + b[0] + n + m + k + s + q + d + c + h + v + f[0].x + w[0] + l + r[0] + flags[0] + t + u + p[0].y;
}
extern "C" __global__ void as_in_books(float* y, void* p) { y[0] = 3; }
extern "C" __global__ void standard(float* y) { y[0] = 3; }
"""


def test_parameters_of_all_types_and_an_unreadable_signature_beside_them(tmp_path):
    source, y = source_of(tmp_path / "parameters.cu", PARAMETERS), np.zeros(1, np.float32)
    bytes_, fours, ints = np.ones(1, np.uint8), np.ones(4, np.float32), np.ones(1, np.int32)
    launch(source, "many", 1, 1, y, bytes_, bytes_, 1, 2, 3, 4, True, 0.5, -5, 6, 7, fours, ints, 8, ints,
           np.ones(1, bool), -9, 10, fours)  # fmt: skip
    assert y[0] == 1 + 1 + 1 + 2 + 3 + 4 + 1 + 0.5 - 5 + 6 + 7 + 1 + 1 + 8 + 1 + 1 - 9 + 10 + 1
    launch(source, "standard", 1, 1, y)
    assert y[0] == 3
    with pytest.raises(ValueError, match="unreadable: the parameter `Shape<3> shape` cannot be read"):
        launch(source, "unreadable", 1, 1, 1, 2)
    with pytest.raises(TypeError, match="as_in_books: p has the type `void`, and launch cannot convert"):
        launch(source, "as_in_books", 1, 1, y, y)


@pytest.mark.parametrize("is_checked", [False, True])
def test_tensor_cores_multiply_in_their_documented_layout(tmp_path, is_checked):
    text = """KERNEL multiply(const float* a, const float* b, float* d) {
  const int group = threadIdx.x / 4, member = threadIdx.x % 4;
  u32 fa[4], fb[2];
  float fd[4];
  for (int i = 0; i < 4; ++i) fa[i] = to_tf32(a[(group + 8 * (i % 2)) * 8 + member + 4 * (i / 2)]);
  for (int i = 0; i < 2; ++i) fb[i] = to_tf32(b[(member + 4 * i) * 8 + group]);
  for (int i = 0; i < 4; ++i) fd[i] = d[(group + 8 * (i / 2)) * 8 + 2 * member + i % 2];
  mma_m16n8k8_tf32(fd, fa, fb);
  for (int i = 0; i < 4; ++i) d[(group + 8 * (i / 2)) * 8 + 2 * member + i % 2] = fd[i];
}
"""
    rng = np.random.default_rng(0)
    a, b, d = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, 8), (8, 8), (16, 8)))
    expected = d + a.astype(np.float64) @ b
    source = source_of(tmp_path / "mma.cu", text)
    with cusim.checked("shuffled") if is_checked else cusim.ordered("forward"):
        launch(source, "multiply", 1, 32, a, b, d)
    error = np.abs(d - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < 2e-3, f"{error}: TF32 keeps 10 bits"


# ---------------------------------------------------------------------------------------- builds
TINY = "KERNEL tiny(float* y) { y[0] = VALUE; }"


def value_of(source, **macros):
    y = np.zeros(1, np.float32)
    launch(source, "tiny", 1, 1, y, **macros)
    return y[0]


def test_a_build_is_kept_until_anything_it_is_made_of_changes(tmp_path, capfd, monkeypatch):
    use_cache(monkeypatch, tmp_path / "cache")
    headers = tmp_path / "ops"
    shutil.copytree(source_module.HEADERS / "_cuda", headers / "_cuda")
    monkeypatch.setattr(source_module, "HEADERS", headers)
    (headers / "mine.cuh").write_text("#define MORE 0\n")
    variants = ({"VALUE": 1}, {"VALUE": 2})

    def values(text=TINY):
        source = source_of(tmp_path / "tiny.cu", f"// with mine.cuh\n{text}", variants)
        found = [value_of(source, VALUE=v) for v in (1, 2)]
        return found, capfd.readouterr().err.count("tiny.cu for the emulator")

    assert values() == ([1, 2], 2)
    assert values() == ([1, 2], 0)
    assert values(TINY.replace("VALUE", "VALUE + 10")) == ([11, 12], 2)
    assert values() == ([1, 2], 0)
    (headers / "mine.cuh").write_text("#define MORE 5\n")
    assert values(TINY.replace("VALUE", "VALUE + MORE")) == ([6, 7], 2)
    runtime = build._runtime()
    monkeypatch.setattr(build, "_runtime", lambda: runtime)
    monkeypatch.setattr(build, "_emulator", lambda: b"another emulator")
    assert values() == ([1, 2], 2)


def test_a_damaged_build_is_built_again(tmp_path, cache, capfd, monkeypatch):
    build._runtime()
    shutil.copytree(cache, tmp_path / "cache")
    use_cache(monkeypatch, tmp_path / "cache")
    build._runtime.cache_clear()
    source = source_of(tmp_path / "tiny.cu", TINY, ({"VALUE": 5},))
    assert value_of(source, VALUE=5) == 5
    for path in (tmp_path / "cache/cusim").glob("[rt]*"):  # of the runtime and of this kernel
        content = path.read_bytes()
        path.unlink()  # this process still runs the code in the old file
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 255]) + content[5001:])
    build._runtime.cache_clear()
    capfd.readouterr()
    for compiled in (1, 0):
        assert value_of(source_of(tmp_path / "tiny.cu", TINY, ({"VALUE": 5},)), VALUE=5) == 5
        assert capfd.readouterr().err.count("tiny.cu for the emulator") == compiled


SHARED = """
KERNEL fits(float* y) { __shared__ float a[8192], b[4096]; a[threadIdx.x] = b[0] = 1; y[0] = a[0] + b[0]; }
KERNEL too_large(float* y) { __shared__ float a[128][128]; a[threadIdx.x][0] = 1; y[0] = a[0][0]; }
KERNEL two_arrays(float* y) { __shared__ float a[8192], b[4097]; a[threadIdx.x] = b[0] = 1; y[0] = a[0] + b[0]; }
KERNEL dynamic(float* y) { extern __shared__ float a[]; a[0] = 1; y[0] = a[0]; }
"""


@pytest.mark.parametrize(
    ("kernel", "shared_bytes", "message"),
    [
        ("fits", 0, None),
        ("too_large", 0, "too_large of .* has 65,536 bytes of __shared__ arrays in each block; a GPU has 49,152"),
        ("two_arrays", 0, "has 49,156 bytes"),
        ("dynamic", 200_000, None),
        ("dynamic", 232_449, "has 232,449 bytes of shared memory, .*; a GPU has 232,448"),
        ("fits", 200_000, "has 249,152 bytes"),
    ],
)
def test_more_shared_memory_than_a_gpu_has_is_refused(kernel, shared_bytes, message, tmp_path):
    source, y = source_of(tmp_path / "shared.cu", SHARED), np.zeros(1, np.float32)
    with contextlib.nullcontext() if message is None else pytest.raises(cusim.KernelError, match=message):
        launch(source, kernel, 1, 1, y, shared_bytes=shared_bytes)
        assert y[0]


def test_a_mistake_in_the_language_names_the_students_line(tmp_path):
    text = "// a kernel\nKERNEL tiny(float* y) {\n  y[0] = undeclared;\n}\n"
    with pytest.raises(
        cusim.KernelError, match=r"tiny\.cu cannot be compiled(.|\n)*tiny\.cu:3:10: error: .*undeclared"
    ):
        value_of(source_of(tmp_path / "tiny.cu", text))


def test_large_local_arrays_are_refused_when_they_are_compiled(tmp_path):
    loop = "for (int i = 0; i < 10000; ++i) a[i] = i;"
    text = f"KERNEL tiny(float* y) {{ volatile float a[10000]; {loop} y[0] = a[7]; }}"
    with pytest.raises(cusim.KernelError, match="frame size"):
        value_of(source_of(tmp_path / "tiny.cu", text))


def test_a_kernel_that_is_not_in_this_variant_is_a_sentence(tmp_path):
    source = source_of(tmp_path / "tiny.cu", f"#ifdef VALUE\n{TINY}\n#endif\n", ({}, {"VALUE": 3}))
    assert value_of(source, VALUE=3) == 3
    with pytest.raises(cusim.KernelError, match="not in this variant"):
        value_of(source)


def test_without_a_compiler_there_is_a_sentence(tmp_path, monkeypatch):
    source = source_of(tmp_path / "tiny.cu", TINY, ({"VALUE": 4},))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(cusim.CompilerMissing, match="g\\+\\+ and clang\\+\\+ and c\\+\\+ cannot be found; install one"):
        value_of(source, VALUE=4)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(cusim.CompilerMissing, match="no-such-compiler cannot be found"):
        value_of(source, VALUE=4)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    use_cache(monkeypatch, tmp_path / "file")
    assert value_of(source_of(tmp_path / "tiny.cu", TINY, ({"VALUE": 4},)), VALUE=4) == 4


def test_builds_that_nobody_used_for_long_are_deleted(tmp_path, monkeypatch):
    use_cache(monkeypatch, tmp_path / "cache")
    old, young, other = (f"tiny-VALUE=4-plain-{'0' * 15}{i}-{'f' * 16}.so" for i in range(3))
    (tmp_path / "cache/cusim").mkdir(parents=True)
    for name in (old, young, other.replace("tiny", "other")):
        (tmp_path / "cache/cusim" / name).write_text("")
        if name != young:
            os.utime(tmp_path / "cache/cusim" / name, (0, 0))
    value_of(source_of(tmp_path / "tiny.cu", TINY, ({"VALUE": 4},)), VALUE=4)
    left = [path.name for path in (tmp_path / "cache/cusim").iterdir()]
    assert old not in left and young in left and other.replace("tiny", "other") in left


def test_without_the_tools_that_know_lines_a_report_still_comes(files, monkeypatch):
    places.variables.cache_clear()
    monkeypatch.setattr(places.shutil, "which", lambda name: None)
    with (
        pytest.raises(cusim.KernelError, match=r"race: an unknown line(.|\n)*shared memory"),
        cusim.checked(),
    ):
        run_kernel(files["planted"], "missing_barrier")
    places.variables.cache_clear()


def test_the_emulator_is_loaded_without_numba():
    code = "import sys; sys.modules['numba'] = None; import tinynet.backends.cusim, tinynet.tools.cusim_report"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------- the report
TRANSPOSE = """
KERNEL transpose(const float* x, float* y) {
  __shared__ float tile[32][WIDTH];
  tile[threadIdx.y][threadIdx.x] = x[threadIdx.y * 32 + threadIdx.x];  // in
  __syncthreads();
  y[threadIdx.y * 32 + threadIdx.x] = tile[threadIdx.x][threadIdx.y];  // out
}
KERNEL straight(const float* x, float* y) {
  y[threadIdx.x * 32 + threadIdx.y] = x[threadIdx.y * 32 + threadIdx.x];
}
"""


def test_accesses_of_a_warp_are_counted_as_a_gpu_serves_them(tmp_path):
    x, y = np.arange(1024, dtype=np.float32).reshape(32, 32), np.zeros((32, 32), np.float32)
    x, y = (np.require(a, requirements="A") for a in (x, y))
    source = source_of(tmp_path / "transpose.cu", TRANSPOSE, ({"WIDTH": 32}, {"WIDTH": 33}))

    def factors(kernel, width):
        with cusim.counted() as accesses:
            launch(source, kernel, 1, (32, 32), x, y, WIDTH=width)
        assert np.array_equal(y, x.T)
        return {(line.memory, line.access): (line.warps, round(line.factor)) for line in accesses.lines[kernel]}

    good = {("global", "load"): (32, 1), ("global", "store"): (32, 1), ("shared", "store"): (32, 1)}
    assert factors("transpose", 33) == {**good, ("shared", "load"): (32, 1)}
    assert factors("transpose", 32) == {**good, ("shared", "load"): (32, 32)}
    assert factors("straight", 32) == {("global", "load"): (32, 1), ("global", "store"): (32, 8)}


def test_counts_do_not_depend_on_where_the_arrays_lie(tmp_path):
    memory = np.zeros(1040, np.float32)
    for start in range(0, 16, 5):
        x = memory[start : start + 1024].reshape(32, 32)
        source = source_of(tmp_path / "transpose.cu", TRANSPOSE, ({"WIDTH": 33},))
        with cusim.counted() as accesses:
            launch(source, "transpose", 1, (32, 32), x, np.zeros((32, 32), np.float32), WIDTH=33)
        assert [line.factor for line in accesses.lines["transpose"]] == [1, 1, 1, 1]


def test_the_accesses_of_a_students_kernel_are_a_table(tmp_path):
    source = source_of(tmp_path / "transpose.cu", TRANSPOSE, ({"WIDTH": 32},))
    with cusim.counted() as accesses:
        assert str(accesses) == "no kernel has run on the emulator"
        for _ in range(2):
            launch(source, "transpose", 1, (32, 32), *np.zeros((2, 32, 32), np.float32), WIDTH=32)
    text = str(accesses)
    assert f"transpose in {source.name}, launched 2 times" in text and "no conflict" in text
    assert re.search(r"transpose\.cu:6 shared load +64 +32\.00  y\[threadIdx", text), text


def test_the_report_names_kernels_lines_and_factors(capsys):
    found = report_main(["report", "elu", "--kernel", "forward"])
    text = capsys.readouterr().out
    assert "sectors of 32 bytes" in text and "x ideal" in text
    assert all(kernel in text for kernel in found)
    lines = [line for lines in found.values() for line in lines]
    assert {line.access for line in lines} == {"load", "store"}
    assert all(line.place.file.startswith("tinynet/ops/") and line.text in text for line in lines)
    with pytest.raises(ValueError, match="op is 'none'; it must be one of"):
        report_main(["report", "none"])
