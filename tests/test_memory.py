"""The pool of large arrays: what it hands out, when a block is free again, how much it keeps, and its use in a net."""

from __future__ import annotations

import gc
import math
import os
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet as tn
from tinynet import nn
from tinynet.backends import memory
from tinynet.backends.memory import ALIGNMENT, HEADROOM, HUGE_PAGE, LARGER, SMALLEST, Pool
from tinynet.engine.tensor import Function, Tensor
from tinynet.ops._shared.layout import rows_of
from tinynet.ops.accumulate import cpu as accumulate

KB = 1024


def address(array):
    return array.__array_interface__["data"][0]


# ------------------------------------------------------------------------------------ what is handed out
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "uint8", "bool", "complex64"])
@pytest.mark.parametrize("shape", [(3, 100, 1000), 400_000, (400_000, 1), (1, 1, 400_000)])
def test_an_array_is_like_one_of_numpy(shape, dtype):
    array = Pool().empty(shape, dtype)
    like = np.empty(shape, dtype)
    assert type(array) is np.ndarray and array.dtype == like.dtype
    assert array.shape == like.shape and array.strides == like.strides
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    assert address(array) % ALIGNMENT == 0
    array[...] = 1
    assert array.all()


@pytest.mark.parametrize("nbytes", [SMALLEST, SMALLEST + 1, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE])
def test_a_block_is_aligned_and_has_all_bytes(nbytes):
    """Several at a time: the first may be aligned by chance."""
    blocks = [memory._from_system(nbytes) for _ in range(4)]
    assert all(block.nbytes >= nbytes for block in blocks)
    assert not any(address(block) % (ALIGNMENT if nbytes < HUGE_PAGE else HUGE_PAGE) for block in blocks)
    pool = Pool()
    array = pool.empty(nbytes, np.uint8)
    assert pool.usage().in_use >= array.nbytes == nbytes


def test_the_lists_of_blocks_change_under_the_lock_only():
    pool = Pool()
    unlocked = []

    def watched(method):
        return lambda *arguments: (pool._lock.locked() or unlocked.append(method.__name__), method(*arguments))[1]

    for name in ("_collect", "_best_free", "_shrink", "_new"):
        setattr(pool, name, watched(getattr(pool, name)))
    for use in (lambda: pool.empty(SMALLEST, np.uint8), pool.usage, pool.release):
        use()
    assert not unlocked


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((), "float32"), (0, "float32"), ((3, 0, 10**9), "float64"), (10, "float32"), (10**5, object), (10**5, "U10")],
)
def test_small_arrays_and_other_dtypes_come_from_numpy(shape, dtype):
    pool = Pool()
    array = pool.empty(shape, dtype)
    assert array.flags.owndata and array.dtype == np.dtype(dtype) and array.shape == np.empty(shape, "u1").shape
    assert pool.usage() == (0, 0, 0)


# ------------------------------------------------------------------------------------ when a block is free again
def test_a_block_is_used_again_when_no_array_views_it():
    pool = Pool()
    first = pool.empty((512, KB), np.uint8)
    where = address(first)
    view = first[100:].reshape(-1)[::2]
    del first
    assert address(pool.empty((512, KB), np.uint8)) != where, "a view still uses it"
    del view
    assert address(pool.empty((512, KB), np.uint8)) == where


def test_everything_that_numpy_makes_of_an_array_keeps_its_block():
    pool = Pool()
    makers = [
        lambda a: a.T,
        lambda a: a.view(np.int32),
        lambda a: memoryview(a),
        lambda a: np.asarray(memoryview(a)),
        lambda a: np.frombuffer(a, np.uint8),
        lambda a: np.broadcast_to(a, (2, *a.shape)),
        lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (4, 4)),
        lambda a: a.reshape(-1).view(np.recarray),
        lambda a: Tensor(a).reshape(-1)[3:].detach(),
        lambda a: a.flat,
        lambda a: a.real,
    ]
    for make in makers:
        kept = make(pool.empty((256, KB), np.float32))
        gc.collect(1)  # the young objects, all that this test makes: a full collection takes half a second
        assert pool.usage().in_use >= 256 * KB
        assert pool.usage().free == 0
        del kept
        gc.collect(1)
        assert pool.usage().in_use == 0
        pool.release()


def test_a_block_returns_while_the_pool_is_locked_by_the_same_thread():
    """This happens if Python collects garbage while the pool looks for a block."""
    pool = Pool()
    array = pool.empty(SMALLEST, np.uint8)
    with pool._lock:
        del array
    assert pool.usage().in_use == 0 and pool.usage().free >= SMALLEST


def test_arrays_may_outlive_the_pool():
    array = Pool().empty(SMALLEST, np.uint8)
    gc.collect()
    array[...] = 7
    assert (array == 7).all()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.integers(SMALLEST - 10, 8 * SMALLEST)),
        st.tuples(st.just("view"), st.integers(0, 99)),
        st.tuples(st.just("drop"), st.integers(0, 99)),
        st.tuples(st.just("release"), st.just(0)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=30)
@given(OPERATIONS)
def test_what_can_be_reached_is_never_handed_out_again(operations):
    """Each array is filled with its own number, so a block that is handed out while in use is noticed."""
    pool = Pool(always_kept=0)
    alive: list[tuple[np.ndarray, int]] = []
    most = 0
    for number, (what, n) in enumerate(operations):
        if what == "new":
            array = pool.empty(n, np.uint8)
            array[...] = number
            alive.append((array, number))
            del array
        elif what == "release":
            pool.release()
            most = 0
        elif alive and what == "view":
            array, value = alive[n % len(alive)]
            alive.append((array[len(array) // 3 :], value))
            del array
        elif alive:
            del alive[n % len(alive)]
        in_use, free, peak = pool.usage()
        most = max(most, in_use)
        assert peak == most and in_use + free <= HEADROOM * peak
        for array, value in alive:
            assert (array == value).all()
        array = None
    alive.clear()
    assert pool.usage().in_use == 0


def test_threads_share_a_pool():
    pool, wrong = Pool(), []

    def work(number):
        rng = np.random.default_rng(number)
        kept = []
        for _ in range(150):
            array = pool.empty(int(rng.integers(SMALLEST, 3 * SMALLEST)), np.uint8)
            array[...] = number
            kept.append(array)
            if len(kept) > 3:
                kept.pop(int(rng.integers(4)))
            wrong.extend(number for array in kept if not (array == number).all())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and pool.usage().in_use == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_can_use_the_pool_whatever_the_parent_was_doing():
    """The fork happens while another thread holds the lock. In the child, no thread will ever open that lock."""
    program = """
import os, threading
from tinynet.backends import memory
kept = memory.empty(10**6, "uint8")
kept[...] = 5
locked, done = threading.Event(), threading.Event()
def hold():
    with memory._pool._lock:
        locked.set(); done.wait()
thread = threading.Thread(target=hold); thread.start(); locked.wait()
child = os.fork()
if child == 0:
    new = memory.empty(10**6, "uint8")
    new[...] = 6
    right = (kept == 5).all()
    del kept
    os._exit(0 if right and memory.usage().in_use >= 10**6 else 1)
done.set(); thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and (kept == 5).all()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


# ------------------------------------------------------------------------------------ how much is kept
def test_the_smallest_block_that_fits_is_taken_and_none_that_is_much_too_large():
    pool = Pool(always_kept=0)
    sizes = [int(SMALLEST * factor) for factor in (1.9, 1.2, 1.5, 1)]
    arrays = [pool.empty(size, np.uint8) for size in sizes]
    addresses = {size: address(array) for size, array in zip(sizes, arrays)}
    arrays.clear()
    found = pool.empty(int(SMALLEST * 1.3), np.uint8)
    assert address(found) == addresses[int(SMALLEST * 1.5)]

    pool = Pool(always_kept=0)
    too_large = pool.empty(int(SMALLEST * LARGER * 1.1), np.uint8)
    del too_large
    small = pool.empty(SMALLEST, np.uint8)
    assert len(small) <= pool.usage().in_use <= len(small) + ALIGNMENT
    assert pool.usage().free == 0, "the other block was given back: both together are more than the largest use"


def test_blocks_idle_longest_go_first():
    pool = Pool(always_kept=0)
    first, second = pool.empty(2 * SMALLEST, np.uint8), pool.empty(8 * SMALLEST, np.uint8)
    del second
    del first
    larger = pool.empty(9 * SMALLEST, np.uint8)  # too much together with both, not with the one used last
    assert 2 * SMALLEST <= pool.usage().free < 3 * SMALLEST
    assert len(larger) == 9 * SMALLEST


def test_small_programs_keep_what_they_used():
    """Arrays of very different sizes, as in a net that predicts one image: each size finds its own block again."""
    pool, sizes = Pool(), [(3**n * SMALLEST, np.uint8) for n in range(4)]
    first = [address(pool.empty(*size)) for size in sizes]
    assert [address(pool.empty(*size)) for size in sizes] == first
    assert 40 * SMALLEST <= pool.usage().free <= memory.ALWAYS_KEPT
    larger = pool.empty(memory.ALWAYS_KEPT + SMALLEST, np.uint8)
    assert pool.usage().free <= HEADROOM * len(larger)


def test_a_repeated_step_asks_for_nothing_new():
    pool = Pool()

    def step():
        activations = [pool.empty(SMALLEST // n, np.float32) for n in (1, 1, 2, 2)]
        while activations:
            gradient = pool.empty(activations.pop().shape, np.float32)
            del gradient

    def blocks():
        pool.usage()  # collects what was returned
        return {id(block) for block in pool._free}

    step()
    before = blocks()
    step()
    assert blocks() == before


def test_release_gives_back_what_is_free_and_starts_the_peak_afresh():
    pool = Pool()
    kept = pool.empty(SMALLEST, np.uint8)
    pool.empty(5 * SMALLEST, np.uint8)
    assert pool.usage().free >= 5 * SMALLEST and pool.usage().peak >= 6 * SMALLEST
    pool.release()
    in_use, free, peak = pool.usage()
    assert free == 0 and in_use == peak and SMALLEST <= in_use <= SMALLEST + ALIGNMENT
    assert len(kept) == SMALLEST


# ------------------------------------------------------------------------------------ no memory
def test_free_blocks_are_given_back_before_giving_up(monkeypatch):
    pool = Pool()
    pool.empty(4 * SMALLEST, np.uint8)
    limit = 6 * SMALLEST

    def empty(size, dtype):
        if size + pool.usage_without_lock() > limit:
            raise MemoryError
        return np.empty(size, dtype)

    pool.usage_without_lock = lambda: pool._in_use + pool._idle
    monkeypatch.setattr(memory, "HEADROOM", 100)
    monkeypatch.setattr(memory, "np", SimpleNamespace(**{**vars(np), "empty": empty}))
    array = pool.empty(5 * SMALLEST, np.uint8)
    assert len(array) == 5 * SMALLEST and pool.usage().free == 0
    with pytest.raises(MemoryError, match=r"no memory for a result of shape \(2, 131072\) uint16: 524,288 bytes$"):
        pool.empty((2, SMALLEST), np.uint16)
    assert len(array) == 5 * SMALLEST
    del array
    pool.empty(SMALLEST, np.uint8)  # and goes on working


def refuse(shape, dtype):
    raise MemoryError(f"no memory for a result of shape {shape} {dtype}: 99 bytes")


def huge(*shape):
    """An array of any shape that takes four bytes."""
    return np.broadcast_to(np.float32(0), shape)


def test_the_error_names_the_operation(monkeypatch):
    x, w = Tensor(np.ones((1, 4, 4, 2), np.float32), requires_grad=True), tn.tensor(np.ones((3, 3, 2, 1)), "float32")
    loss = tn.conv2d(x, w).sum()
    monkeypatch.setattr(memory, "empty", refuse)
    with pytest.raises(MemoryError, match=r"^conv2d: .* of shape \(1, 2, 2, 1\) float32: 99 bytes$"):
        tn.conv2d(x, w)
    with pytest.raises(MemoryError, match=r"^conv2d: .* of shape \(1, 4, 4, 2\) float32: 99 bytes$"):
        loss.backward()
    with pytest.raises(MemoryError, match=r"^max_pool2d: no memory for a result of shape \(1, 2, 2, 2\)"):
        tn.max_pool2d(x)
    monkeypatch.undo()
    with pytest.raises(MemoryError, match=r"^mul: .*\(1048576, 4096, 1024\)"):
        tn.tensor(huge(1 << 20, 1 << 12, 1 << 10)) * 2
    with pytest.raises(MemoryError, match=r"^concat: .*\(1048576, 4096, 2048\) float32: 35,184,372,088,832 bytes$"):
        tn.concat([huge(1 << 20, 1 << 12, 1 << 10)] * 2, axis=2)


def test_the_error_names_the_innermost_operation(monkeypatch, fused_calls):
    """The gradients of a fused operation are operations of their own."""
    model = nn.Sequential(nn.Conv2d(2, 16, 3), nn.ELU())
    x = tn.tensor(np.ones((1, 4, 4, 2), np.float32), requires_grad=True)
    original = memory.empty
    with tn.use_kernels("conv2d", "blocked"):
        loss = model(x).sum()
        assert fused_calls
        monkeypatch.setattr(memory, "empty", lambda s, dtype: (refuse if s == x.shape else original)(s, dtype))
        with pytest.raises(MemoryError, match=r"^conv2d: no memory for a result of shape \(1, 4, 4, 2\)"):
            loss.backward()


@pytest.mark.parametrize("system", ["with huge pages", "without"])
@pytest.mark.parametrize("shape", [(1 << 45,), (1 << 62,), (1 << 40, 1 << 40), (1 << 60,) * 4])
def test_more_bytes_than_there_are_addresses(monkeypatch, shape, system):
    if system == "without":
        monkeypatch.delattr(memory.mmap, "MADV_HUGEPAGE", raising=False)
    with pytest.raises(MemoryError, match=re.escape(f"of shape {shape} float32: {4 * math.prod(shape):,} bytes")):
        Pool().empty(shape, np.float32)


def test_names_of_operations():
    class MyOwn(Function):
        def forward(self, x):
            raise MemoryError

    assert MyOwn.op_name() == "myown"
    with pytest.raises(MemoryError, match=r"^myown: no memory$"):
        MyOwn.apply(np.ones(1))


# ------------------------------------------------------------------------------------ in use by a net
class Small(nn.Module):
    """Each kind of layer of a U-Net, once."""

    def __init__(self):
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ELU(), nn.Dropout(0.2))
        self.pool = nn.MaxPool2d(2)
        self.bottom = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ELU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        d = self.down(x)
        return tn.sigmoid(self.head(tn.concat([self.up(self.bottom(self.pool(d))), d], axis=3)))


@pytest.fixture
def pooled_from_the_first_byte(monkeypatch):
    monkeypatch.setattr(memory, "SMALLEST", 1)


def training(steps):
    """Losses and last gradients of a few steps of plain gradient descent, and the model and its input."""
    tn.seed(3)
    model = Small()
    rng = np.random.default_rng(0)
    x, t = rng.random((2, 16, 16, 3), np.float32), (rng.random((2, 16, 16, 1)) < 0.3).astype(np.float32)
    losses = []
    for _ in range(steps):
        for p in model.parameters():
            p.grad = None
        loss = tn.dice_loss(model(tn.tensor(x)), t)
        loss.backward()
        losses.append(loss.item())
        for p in model.parameters():
            p.data -= 0.1 * p.grad.data
    return losses, [p.grad.numpy() for p in model.parameters()]


@pytest.mark.parametrize("fused", [False, True])
def test_a_view_of_an_activation_keeps_its_bytes_over_further_steps(pooled_from_the_first_byte, fused_calls, fused):
    """The engine must not write to an array that the user still holds."""
    tn.seed(0)
    model, kept = Small(), []
    parameters = model.parameters()
    x = tn.tensor(np.random.default_rng(0).random((2, 32, 32, 3), np.float32))

    def keep(y):
        kept.append(y.numpy()[..., :1])
        return y

    def step(x):
        for p in parameters:
            p.grad = None
        with tn.use_kernels("conv2d", "blocked"):
            model(x).sum().backward()

    if fused:
        for name in ("down", "pool", "bottom", "up", "head"):
            part = getattr(model, name)
            setattr(model, name, lambda x, part=part: keep(part(x)))
        step(x)
        assert len(kept) == 5 and len(fused_calls) == 2
    else:  # an observer is shown every layer, so nothing is fused
        with nn.module.observe(lambda module, inputs, output: kept.append(output.numpy()[..., :1])):
            step(x)
        assert len(kept) == 11 and not fused_calls
    kept += [p.grad.numpy() for p in parameters]
    copies = [view.copy() for view in kept]
    for _ in range(2):
        step(x * 2)
    for view, copy in zip(kept, copies):  # of the first step
        np.testing.assert_array_equal(view, copy)


def test_no_result_depends_on_what_was_in_the_memory(monkeypatch, pooled_from_the_first_byte):
    expected_losses, expected_gradients = training(3)
    original, handed_out = memory.empty, []

    def poisoned(shape, dtype):
        array = original(shape, dtype)
        array.view(np.uint8).fill(0xFF)  # a NaN in every float dtype, -1 in every integer
        handed_out.append(shape)
        return array

    monkeypatch.setattr(memory, "empty", poisoned)
    losses, gradients = training(3)
    assert handed_out and losses == expected_losses
    for actual, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_training_leaves_nothing_in_use(pooled_from_the_first_byte):
    memory.release()
    gc.collect()
    before = memory.usage().in_use
    gc.disable()  # reference counting must free everything
    try:
        result = training(2)
        del result
        assert memory.usage().in_use == before
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------ rows, sums of gradients
IN_PLACE = [  # channel slices
    *(lambda x: x, lambda x: x[..., 2:7], lambda x: x[..., :1], lambda x: x[1:, ..., 9:]),
    *(lambda x: x[:, :, :1, 3:5], lambda x: x[:1, :1, :1, 4:]),
]
COPIED = [
    *(lambda x: x[..., ::2], lambda x: x[::-1, ::-1, ::-1], lambda x: x[:, :, ::-1], lambda x: x[:, 1:, :, 1:]),
    *(lambda x: x.transpose(3, 1, 2, 0), lambda x: np.broadcast_to(x[:1, :1, :1], x.shape)),
    *(lambda x: np.broadcast_to(x[..., :1], x.shape), lambda x: np.broadcast_to(np.float32(3), (2, 3))),
    *(lambda x: x[:0], lambda x: x[..., :0]),
]


@pytest.mark.parametrize("change", IN_PLACE + COPIED)
def test_rows_of_any_memory_layout(change):
    whole = np.arange(2 * 3 * 4 * 10, dtype=np.float32).reshape(2, 3, 4, 10)
    x = change(whole)
    width = x.shape[-1]
    flat, pitch = rows_of(x, width)
    assert flat.ndim == 1 and flat.flags.c_contiguous
    assert change in COPIED or np.shares_memory(flat, whole)
    for i, row in enumerate(x.reshape(-1, width) if x.size else ()):
        np.testing.assert_array_equal(flat[i * pitch :][:width], row)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_added_as_numpy_adds_them(dtype):
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((2, 37, 41, 21)).astype(dtype)
    wide[0, 0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    slices = [(wide[..., :5], wide[..., 3:8]), (wide[..., :5].copy(), wide[:, ::-1, :, 2:7])]
    slices += [(wide[..., :5].copy(), wide[..., 3:8]), (wide[..., :5], wide[..., 3:8].copy())]  # one in place each
    for x, y in [(wide, wide[::-1].copy()), (wide, wide[::-1]), *slices]:
        np.testing.assert_array_equal(accumulate.add(x, y), x + y)


def test_the_engine_adds_large_gradients_by_the_kernel_and_shares_no_memory(pooled_from_the_first_byte):
    calls = []

    def add(x, y):
        calls.append((x.shape, type(x)))
        return x + y

    x = Tensor(np.random.default_rng(0).random((2, 3, 4)), requires_grad=True)
    h = x * 2
    y = (h * 3 + h * 5 + h).sum()
    y.backward(retain_graph=True)
    expected = x.grad.numpy().copy()
    np.testing.assert_allclose(expected, 18)
    x.grad = None
    with tn.use_kernels("accumulate", add=add):
        y.backward(retain_graph=True)
        assert calls == [((2, 3, 4), np.ndarray)] * 2
        tn.grad(y, x, create_graph=True)
    assert len(calls) == 2, "with a graph of the gradient, Tensors are added"
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_the_gradients_of_concat_are_views_in_the_order_of_the_arrays():
    x, y = (Tensor(np.ones((2, 3, n)), requires_grad=True) for n in (4, 5))
    z = tn.concat([x, y], axis=2)
    gz = np.random.default_rng(0).random((2, 3, 9))
    gx, gy = z.creator.backward(gz)
    assert np.shares_memory(gx, gz) and np.shares_memory(gy, gz)
    np.testing.assert_array_equal(gx, gz[..., :4])
    np.testing.assert_array_equal(gy, gz[..., 4:])
