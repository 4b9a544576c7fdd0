"""Batches split over ranks and passes: the gradient of the whole batch, and the same bits for either split."""

import ctypes
import sys
import threading
import types

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet as tn
from tinynet import nn
from tinynet.backends.threads import use_threads
from tinynet.data.loader import DataLoader
from tinynet.engine import share
from tinynet.errors import TrainingError
from tinynet.training.distributed import DataParallel, World
from tinynet.training.distributed.parts import boundaries


class ThreadWorld(World):
    """Ranks that are threads of this process; `meet` waits for all of them."""

    def __init__(self, rank, meeting):
        self.rank, self.size, self.meeting = rank, meeting.size, meeting

    def gather(self, message):
        return self.meeting.meet("messages", self.rank, message)

    def broadcast(self, message):
        return self.gather(message)[0]

    def add(self, array):
        first, *others = self.meeting.meet("arrays", self.rank, array.copy())
        for other in others:
            first = first + other
        array[...] = first


class Meeting:
    def __init__(self, size):
        self.size = size
        self.barriers = {kind: threading.Barrier(size, timeout=60) for kind in ("messages", "arrays")}
        self.values = {kind: [None] * size for kind in self.barriers}

    def meet(self, kind, rank, value):
        self.values[kind][rank] = value
        self.barriers[kind].wait()
        met = list(self.values[kind])
        self.barriers[kind].wait()
        return met


def on_ranks(count, run):
    """[run(world) on each rank], in threads."""
    meeting, results, errors = Meeting(count), [None] * count, []

    def one(rank):
        try:
            with tn.use_backend("reference"):
                results[rank] = run(ThreadWorld(rank, meeting))
        except BaseException as error:
            errors.append(error)
            for barrier in meeting.barriers.values():
                barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])
    return results


# ---------------------------------------------------------------------------------------- models and losses
def images_and(targets):
    def make(count, seed=0):
        rng = np.random.default_rng(seed)
        return rng.normal(size=(count, 6, 5, 2)).astype(np.float32), targets(rng, count)

    return make


masks = images_and(lambda rng, n: (rng.random((n, 6, 5, 3)) < 0.3).astype(np.float32))
classes = images_and(lambda rng, n: rng.integers(0, 3, (n, 6, 5)))


def conv_net(*middle):
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ELU(), *middle, nn.Conv2d(4, 3, 1))


def normed_net():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ELU(), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3)
    )


def dice(y, target):
    return tn.dice_loss(tn.sigmoid(y), target)


def dice_and_cross_entropy(y, target):
    return dice(y, target) + 0.5 * tn.bce_with_logits(y, target, pos_weight=2.0)


def weighted_cross_entropy(y, target):
    return tn.softmax_cross_entropy(y, target, np.float32([1, 2, 5]), ignore_index=1)


CASES = {
    "mean": (lambda: conv_net(), tn.bce_with_logits, masks),
    "dropout": (lambda: conv_net(nn.Dropout(0.4)), tn.bce_with_logits, masks),
    "dropout alone": (lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.Dropout(0.4)), tn.bce_with_logits, masks),
    "dice": (lambda: conv_net(nn.Dropout(0.2)), dice, masks),
    "dice and cross-entropy": (lambda: conv_net(), dice_and_cross_entropy, masks),
    "dice of each image": (lambda: conv_net(), lambda y, t: tn.dice_loss(tn.sigmoid(y), t, per_image=True), masks),
    "dice of classes": (lambda: conv_net(), lambda y, t: tn.softmax_dice_loss(y, t, squared=True), classes),
    "weighted cross-entropy": (lambda: conv_net(), weighted_cross_entropy, classes),
    "class weights": (lambda: conv_net(), lambda y, t: tn.softmax_cross_entropy(y, t, np.float32([1, 2, 5])), classes),
    "ignored, smoothed": (
        lambda: conv_net(),
        lambda y, t: tn.softmax_cross_entropy(y, t, ignore_index=2, label_smoothing=0.1),
        classes,
    ),
    "batch norm": (normed_net, tn.bce_with_logits, masks),
    "batch norm and dice": (normed_net, dice, masks),
}


MAKING = threading.Lock()  # the seed belongs to the process, not to a thread


def one_step(case, count, accumulate=1, ranks=None):
    """(loss, gradients, buffers) after one step on a batch of `count` images."""
    make, loss, data = CASES[case]
    with MAKING:
        tn.seed(7)
        model = make()
    model.train()
    parallel = DataParallel(model, accumulate, ranks)
    own = parallel.own_samples(count)
    batch = [tn.tensor(array[own]) for array in data(count)]
    batch = batch if own.start < own.stop else None
    step = parallel.backward(lambda x, target: loss(model(x), target.data), batch, count)
    return step.loss, [p.grad.numpy().copy() for p in model.parameters()], [b.copy() for b in model.buffers()]


def assert_close(actual, expected):
    """Equal up to the rounding errors of float32 sums."""
    loss, gradients, buffers = expected
    assert actual[0] == pytest.approx(loss, rel=1e-6)
    largest = max(np.abs(g).max() for g in gradients)
    for a, e in zip(actual[1] + actual[2], gradients + buffers, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6 * max(largest, 1))


def assert_same_bits(actual, expected):
    assert actual[0] == expected[0]
    for a, e in zip(actual[1] + actual[2], expected[1] + expected[2], strict=True):
        np.testing.assert_array_equal(a, e)


# ---------------------------------------------------------------------------------------- the split
@given(total=st.integers(0, 1000), parts=st.integers(1, 40))
def test_parts_cover_a_batch_once_and_differ_by_one_sample_at_most(total, parts):
    starts = boundaries(total, parts)
    sizes = np.diff(starts)
    assert starts[0] == 0 and starts[-1] == total and len(sizes) == parts
    assert sizes.max() - sizes.min() <= 1 and (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize("count", [6, 7])
@pytest.mark.parametrize("case", CASES)
def test_accumulated_parts_have_the_gradient_of_the_whole_batch(case, count):
    with tn.use_backend("reference"):
        assert_close(one_step(case, count, accumulate=3), one_step(case, count))


@pytest.mark.parametrize("count", [7, 2])  # of 2 samples, the third rank gets none
@pytest.mark.parametrize("case", CASES)
def test_ranks_have_the_bits_of_accumulated_parts(case, count):
    with tn.use_backend("reference"):
        expected = one_step(case, count, accumulate=3)
    for actual in on_ranks(3, lambda ranks: one_step(case, count, ranks=ranks)):
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("case", ["dropout", "batch norm and dice", "weighted cross-entropy"])
@pytest.mark.parametrize("count", [9, 3])
def test_ranks_that_accumulate_have_the_gradient_of_the_whole_batch(case, count):
    with tn.use_backend("reference"):
        expected = one_step(case, count)
    for actual in on_ranks(2, lambda ranks: one_step(case, count, accumulate=2, ranks=ranks)):
        assert_close(actual, expected)


def test_the_compiled_kernels_split_a_batch_too():
    for case in ("dropout", "dropout alone", "batch norm and dice"):
        assert_close(one_step(case, 7, accumulate=3), one_step(case, 7))


@settings(max_examples=20, deadline=None)
@given(data=st.data(), channels=st.integers(1, 5), height=st.integers(1, 4))
def test_the_mask_of_a_part_is_its_rows_of_the_mask_of_the_batch(data, channels, height):
    total = data.draw(st.integers(1, 9))
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.integers(start + 1, total))
    tn.seed(1)
    layer = nn.Dropout(0.5)
    x = np.ones((total, height, channels), np.float32)
    with tn.use_backend("reference"), tn.random.frozen():
        whole = layer(tn.tensor(x)).numpy()
        with share.inside(share.Share(start, stop - start, total, add=None)):
            part = layer(tn.tensor(x[start:stop])).numpy()
    np.testing.assert_array_equal(part, whole[start:stop])


# ---------------------------------------------------------------------------------------- what stays as it is
def test_a_parameter_without_a_gradient_stays_without_one():
    class Unused(nn.Module):
        def __init__(self):
            self.used, self.unused, self.frozen = nn.Linear(2, 1), nn.Linear(2, 1), nn.Linear(1, 1)
            self.frozen.freeze()

        def forward(self, x):
            return self.frozen(self.used(x))

    def run(ranks):
        model = Unused()
        parallel = DataParallel(model, 1, ranks)
        x = np.ones((4, 2), np.float32)[parallel.own_samples(4)]
        parallel.backward(lambda x: (model(x) ** 2).mean(), [tn.tensor(x)], 4)
        return [p.grad is not None for p in model.parameters()]

    assert on_ranks(2, run) == [[True, True, False, False, False, False]] * 2


def test_each_step_starts_with_gradients_of_zero():
    def run(ranks):
        model = nn.Linear(2, 1)
        parallel = DataParallel(model, 2, ranks)
        own = parallel.own_samples(8)
        x = tn.tensor(np.arange(16, dtype=np.float32).reshape(8, 2)[own])
        gradients = []
        for _ in range(2):
            parallel.backward(lambda x: (model(x) ** 2).mean(), [x], 8)
            gradients.append(model.weight.grad.numpy().copy())
        return gradients

    for first, second in on_ranks(2, run):
        np.testing.assert_array_equal(first, second)


def test_the_weights_of_rank_0_are_everybodys():
    def run(ranks):
        model = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5))
        model[0].weight.data = np.full((2, 1), ranks.rank, np.float32)
        DataParallel(model, 1, ranks)
        return model.state_dict()

    first, second = on_ranks(2, run)
    assert first["0.weight"].sum() == 0
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


# ---------------------------------------------------------------------------------------- mistakes
def test_a_loss_that_sums_on_one_rank_only_is_an_error():
    def run(ranks):
        model = nn.Linear(2, 1)
        parallel = DataParallel(model, 1, ranks)
        target = np.ones((2, 1), np.float32)
        loss = dice if ranks.rank == 0 else tn.bce_with_logits
        parallel.backward(lambda x: loss(model(x), target), [tn.tensor(np.ones((2, 2), np.float32))], 4)

    with pytest.raises(RuntimeError, match="different numbers of sums over the batch"):
        on_ranks(2, run)


def test_ranks_with_different_batches_are_an_error():
    def run(ranks):
        model = nn.Linear(2, 1)
        batch = [tn.tensor(np.ones((2, 2), np.float32))]
        DataParallel(model, 1, ranks).backward(lambda x: model(x).mean(), batch, 4 + ranks.rank)

    with pytest.raises(RuntimeError, match="batches of 4, 5 samples"):
        on_ranks(2, run)


def test_a_rank_whose_weights_differ_is_named():
    def run(ranks):
        model = nn.Linear(2, 1)
        parallel = DataParallel(model, 1, ranks)
        model.weight.data = model.weight.data + ranks.rank
        parallel.check_equal_weights()

    with pytest.raises(TrainingError, match="weight of rank 1 differs from rank 0"):
        on_ranks(2, run)


def test_an_array_without_samples_cannot_be_accumulated():
    model = nn.Linear(2, 1)
    batch = [tn.tensor(np.ones((4, 2), np.float32)), tn.tensor(np.ones(3, np.float32))]
    with pytest.raises(ValueError, match=r"array 1 of the batch has shape \(3,\), but 4 samples are here"):
        DataParallel(model, 2).backward(lambda x, y: model(x).mean(), batch, 4)
    with pytest.raises(ValueError, match="accumulate is 0; at least 1"):
        DataParallel(model, 0)


def test_second_derivatives_of_sums_over_a_split_batch_are_refused():
    x, target = tn.tensor(np.full((2, 3), 0.5, np.float32), requires_grad=True), np.ones((2, 3), np.float32)
    with share.inside(share.Share(0, 2, 4, add=lambda sums: 2 * sums)):
        loss = tn.dice_loss(x, target)
    with pytest.raises(RuntimeError, match="dice_loss: second derivatives"):
        loss.backward(create_graph=True)


# ---------------------------------------------------------------------------------------- the loader
@given(count=st.integers(1, 30), batch_size=st.integers(1, 9), ranks=st.integers(1, 4), workers=st.sampled_from([0, 1]))
@settings(max_examples=25, deadline=None)
def test_the_shares_of_a_loader_make_its_batches(count, batch_size, ranks, workers):
    loader = DataLoader([(i,) for i in range(count)], batch_size, seed=3, workers=workers)
    shares = [
        list(loader.shares(1, 0, lambda total, r=r: slice(*boundaries(total, ranks)[r : r + 2]))) for r in range(ranks)
    ]
    for n, (whole,) in enumerate(loader.batches(1)):
        parts = [of_rank[n] for of_rank in shares]
        assert {total for total, _ in parts} == {len(whole)}
        np.testing.assert_array_equal(np.concatenate([part[0] for _, part in parts if part is not None]), whole)


# ---------------------------------------------------------------------------------------- threads
def test_threads_are_used_inside_only():
    before = numba.get_num_threads()
    with use_threads(1):
        assert numba.get_num_threads() == 1
    with use_threads(None):
        assert numba.get_num_threads() == before
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("count", [0, -1, 100_000])
def test_a_number_of_threads_that_there_is_not_is_refused(count):
    with pytest.raises(ValueError, match=rf"threads is {count}; it must lie in 1 \.\."), use_threads(count):
        pass


# ---------------------------------------------------------------------------------------- GPUs
class GpuArray(np.ndarray):
    """An array that looks as if CuPy had made it: `.data.ptr` is its address."""

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)


GpuArray.__module__ = "cupy"


class FakeNccl:
    """The functions of cupy.cuda.nccl, for ranks that are threads: copies happen when all ranks have asked."""

    NCCL_FLOAT32, NCCL_FLOAT64 = 4, 8  # the stand-in's numbers are the bytes of an element

    def __init__(self, meeting):
        self.meeting, self.mine = meeting, threading.local()

    def get_unique_id(self):
        return "a key"

    def NcclCommunicator(self, size, key, rank):
        assert key == "a key"
        self.mine.rank = rank
        return self

    def groupStart(self):
        self.mine.sends, self.mine.receives = {}, {}

    def send(self, pointer, count, kind, peer, stream):
        self.mine.sends[peer] = ctypes.string_at(pointer, count * kind)

    def recv(self, pointer, count, kind, peer, stream):
        self.mine.receives[peer] = pointer

    def groupEnd(self):
        sends = self.meeting.meet("arrays", self.mine.rank, self.mine.sends)
        for peer, pointer in self.mine.receives.items():
            ctypes.memmove(pointer, sends[peer][self.mine.rank], len(sends[peer][self.mine.rank]))

    def allGather(self, source, target, count, kind, stream):
        nbytes = count * kind
        parts = self.meeting.meet("arrays", self.mine.rank, ctypes.string_at(source, nbytes))
        for rank, part in enumerate(parts):
            ctypes.memmove(target + rank * nbytes, part, nbytes)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nccl_is_called_as_its_documentation_says(monkeypatch, count, dtype):
    from tinynet.training.distributed.nccl import NcclWorld

    meeting = Meeting(count)
    stream = types.SimpleNamespace(ptr=0, synchronize=lambda: None)
    cuda = types.ModuleType("cupy.cuda")
    cuda.nccl, cuda.get_current_stream = FakeNccl(meeting), lambda: stream
    cupy = types.ModuleType("cupy")
    cupy.cuda, cupy.empty_like = cuda, np.empty_like
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    terms = np.random.default_rng(0).normal(size=(count, 12)).astype(dtype)

    def run(ranks):
        world = NcclWorld.__new__(NcclWorld)  # without mpi4py
        world.rank, world.size = ranks.rank, count
        world._arrays = types.SimpleNamespace(bcast=ranks.broadcast)
        array = terms[ranks.rank].view(GpuArray)
        world.add(array)
        return np.asarray(array)

    expected = terms[0].copy()
    for term in terms[1:]:
        expected = expected + term
    results = on_ranks(count, run)
    for actual in results:
        np.testing.assert_array_equal(actual, expected)
