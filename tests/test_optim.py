"""Optimizers against their formulas, schedules against closed forms, resumed runs against uninterrupted ones."""

import math

import numpy as np
import pytest
from op_folders import on

import tinynet as tn
from tinynet import cusim, io, nn, optim
from tinynet.backends.registry import implementation_kernel
from tinynet.ops._cpu.elementwise import ALONE
from tinynet.ops._cuda import tensor_table
from tinynet.ops._cuda.tensor_table import CHUNK
from tinynet.ops.adam import settings as adam
from tinynet.ops.sgd import settings as sgd

STEPS = 6
SHAPES = ((3, 4), (5,), ())


def problem(dtype=np.float64):
    """Parameters of several shapes and, for each step, a gradient for each."""
    rng = np.random.default_rng(0)
    parameters = [nn.Parameter(np.asarray(rng.standard_normal(s), dtype=dtype)) for s in SHAPES]
    gradients = [[np.asarray(rng.standard_normal(s), dtype=dtype) for s in SHAPES] for _ in range(STEPS)]
    return parameters, gradients


def run(optimizer, gradients, after=lambda: None):
    for step in gradients:
        for p, g in zip(optimizer.parameters, step):
            p.grad = tn.Tensor(g.copy())
        optimizer.step()
        after()
    return [p.data.copy() for p in optimizer.parameters]


# ---------------------------------------------------------------------------------------- optimizers
@pytest.mark.parametrize("weight_decay", [0, 0.1])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0, False), (0.9, False), (0.9, True)])
def test_sgd_follows_its_recurrence(momentum, nesterov, weight_decay):
    parameters, gradients = problem()
    expected = [p.data.copy() for p in parameters]
    velocity = [np.zeros(s) for s in SHAPES]
    for step in gradients:
        for i, g in enumerate(step):
            g = g + weight_decay * expected[i]
            velocity[i] = momentum * velocity[i] + g
            expected[i] = expected[i] - 0.1 * (g + momentum * velocity[i] if nesterov else velocity[i])
    optimizer = optim.SGD(parameters, 0.1, momentum, nesterov, weight_decay)
    for p, e in zip(run(optimizer, gradients), expected):
        np.testing.assert_allclose(p, e, rtol=1e-12, atol=1e-14)


def adam_by_hand(parameters, gradients, lr, beta1, beta2, eps, coupled=0.0, decoupled=0.0, decay_biases=True):
    result = []
    for i, p in enumerate(q.data.copy() for q in parameters):
        m = v = np.zeros(p.shape)
        for t, step in enumerate(gradients, start=1):
            if p.ndim > 1 or decay_biases:
                p = p - lr * decoupled * p
            g = step[i] + coupled * p
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            p = p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        result.append(p)
    return result


# eps is large enough to matter: no comparison would notice a misplaced 1e-8.
SETTINGS = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 0.1}
BY_HAND = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 0.1}


@pytest.mark.parametrize(
    ("kind", "options", "by_hand"),
    [
        (optim.Adam, {}, {}),
        (optim.Adam, {"weight_decay": 0.3}, {"coupled": 0.3}),
        (optim.AdamW, {"weight_decay": 0.3}, {"decoupled": 0.3}),
        (optim.AdamW, {"weight_decay": 0.3, "decay_biases": False}, {"decoupled": 0.3, "decay_biases": False}),
    ],
)
def test_adam_follows_its_recurrence(kind, options, by_hand):
    parameters, gradients = problem()
    expected = adam_by_hand(parameters, gradients, **BY_HAND, **by_hand)
    for p, e in zip(run(kind(parameters, **SETTINGS, **options), gradients), expected):
        np.testing.assert_allclose(p, e, rtol=1e-12, atol=1e-14)


def test_rmsprop_follows_its_recurrence():
    parameters, gradients = problem()
    expected, squares = [p.data.copy() for p in parameters], [np.zeros(s) for s in SHAPES]
    for step in gradients:
        for i, g in enumerate(step):
            g = g + 0.3 * expected[i]
            squares[i] = 0.9 * squares[i] + 0.1 * g**2
            expected[i] = expected[i] - 0.05 * g / (np.sqrt(squares[i]) + 0.1)
    optimizer = optim.RMSprop(parameters, 0.05, smoothing=0.9, eps=0.1, weight_decay=0.3)
    for p, e in zip(run(optimizer, gradients), expected):
        np.testing.assert_allclose(p, e, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_a_parameter_that_is_unfrozen_late_begins_with_its_own_first_step(kind, tmp_path):
    """With a constant gradient, every step of Adam is lr, if t counts the updates of this parameter."""
    early, late = (tn.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = kind([early, late], lr=0.01, weight_decay=0.0)
    late.requires_grad_(False)
    for step in range(60):
        if step == 50:
            late.requires_grad_(True)
            io.save_checkpoint(tmp_path / "last.npz", {"optimizer": optimizer.state_dict()})
            optimizer = kind([early, late], lr=0.01, weight_decay=0.0)
            optimizer.load_state_dict(io.load_checkpoint(tmp_path / "last.npz")[0]["optimizer"])
        early.grad, late.grad = (tn.tensor([1.0]) for _ in range(2))
        before = late.item()
        optimizer.step()
        assert (before - late.item()) / 0.01 == pytest.approx(float(step >= 50), abs=1e-3)


def test_groups_have_rates_and_decays_of_their_own():
    parameters, gradients = problem()
    together = optim.AdamW(
        [{"params": parameters[0], "lr": 0.02}, {"params": parameters[1:], "weight_decay": 0}], **SETTINGS
    )
    optim.StepDecay(together, every=1, decay=0.5).step()
    actual = run(together, gradients)
    rates = {0: (0.01, 0.01), 1: (0.025, 0), 2: (0.025, 0)}
    for i, (lr, weight_decay) in rates.items():
        p = problem()[0][i]
        alone = optim.AdamW([p], lr, SETTINGS["betas"], SETTINGS["eps"], weight_decay)
        np.testing.assert_allclose(actual[i], run(alone, [[step[i]] for step in gradients])[0], rtol=1e-12)


def test_the_first_step_of_adam_is_lr_whatever_the_gradient():
    for scale in (1e-4, 1.0, 1e4):
        p = nn.Parameter(np.zeros(3))
        run(optim.Adam([p], lr=0.01), [[scale * np.array([1.0, -1.0, 2.0])]])
        np.testing.assert_allclose(p.data, [-0.01, 0.01, -0.01], rtol=1e-3)


@pytest.mark.parametrize(("op", "make"), [("adam", optim.Adam), ("sgd", lambda p: optim.SGD(p, 0.1))])
def test_the_kernel_can_be_swapped(op, make):
    p = nn.Parameter(np.ones(3))
    with tn.use_kernels(op, step=lambda parameters, *arrays, **settings: parameters[0].fill(7)):
        run(make([p]), [[np.ones(3)]])
    assert (p.data == 7).all()


OPTIMIZERS = [  # each runs another kernel
    lambda p: optim.SGD(p, 0.1, weight_decay=0.1),
    lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    lambda p: optim.Adam(p, **SETTINGS),
]
BACKENDS = ["cpu", on("cuda-sim", "cuda-sim")]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_memory_in_another_order(make, backend):
    """A transposed parameter, means in its memory order, a gradient in another order: elements must still match."""
    rng = np.random.default_rng(1)
    p, g = rng.standard_normal((2, 4, 3))
    with tn.use_backend(backend):
        plain = run(make([nn.Parameter(p.copy())]), [[g]] * 2)
        parameter = nn.Parameter(p.copy())
        parameter.data = np.asfortranarray(p)
        memory = parameter.data
        np.testing.assert_array_equal(run(make([parameter]), [[np.repeat(g, 2, 1)[:, ::2]]] * 2), plain)
    assert parameter.data is memory and not memory.flags.c_contiguous


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_float32_and_float64_in_one_model(make, backend):
    parameters, gradients = problem()
    expected = run(make(parameters), gradients)
    dtypes = np.float64, np.float32, np.float64
    parameters = [nn.Parameter(p.data.astype(dtype)) for p, dtype in zip(problem()[0], dtypes)]
    with tn.use_backend(backend):
        actual = run(make(parameters), [[g.astype(dtype) for g, dtype in zip(step, dtypes)] for step in gradients])
    for p, e, dtype in zip(actual, expected, dtypes):
        assert p.dtype == dtype
        np.testing.assert_allclose(p, e, rtol=1e-12 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize(
    ("op", "roles", "arguments"),
    [
        ("adam", 4, (3, adam.Settings(0.1, (0.9, 0.99), 1e-3, weight_decay=0.1, decoupled_weight_decay=1))),
        ("sgd", 3, (sgd.Settings(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),)),
    ],
)
def test_one_thread_and_several_compute_the_same_bits(op, roles, arguments):
    step = implementation_kernel(op, "step", "cpu")
    arrays = np.random.default_rng(1).random((roles, ALONE + 13)).astype(np.float32)
    whole, parts = arrays.copy(), arrays.copy()
    step(*([a] for a in whole), *arguments)  # large: several threads
    for start in range(0, parts.shape[1], 1000):  # small: one
        step(*([a] for a in parts[:, start : start + 1000]), *arguments)
    np.testing.assert_array_equal(whole, parts)
    assert not np.array_equal(whole[:-1], arrays[:-1])


# ---------------------------------------------------------------------------------------- one launch for all
def arrays_of(sizes, dtype=np.float32):
    rng = np.random.default_rng(2)
    return [rng.standard_normal(size).astype(dtype) for size in sizes]


@pytest.mark.parametrize("tier", [on("cuda-sim", "cuda-sim")])
def test_chunks_cover_every_element_once(tier):
    """Sizes around the length of a chunk, and 0: an element that is skipped or updated twice is not p - lr g."""
    sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, 0, 31]
    parameters, gradients = arrays_of(sizes), arrays_of(sizes)
    expected = [p - np.float32(0.5) * g for p, g in zip(parameters, gradients)]
    with cusim.checked(order="shuffled", seed=2):
        implementation_kernel("sgd", "step", tier)(parameters, None, gradients, sgd.Settings(0.5))
    for p, e in zip(parameters, expected):
        np.testing.assert_allclose(p, e, rtol=1e-6, atol=1e-6)  # a GPU rounds product and difference together


def test_one_launch_for_each_dtype(monkeypatch):
    launches = []
    monkeypatch.setattr(
        tensor_table, "launch", lambda source, kernel, *rest, real, **_: launches.append((kernel, real))
    )
    parameters = [*arrays_of([3, 5000]), *arrays_of([4], np.float64), *arrays_of([6])]
    implementation_kernel("adam", "step", "cuda")(*[parameters] * 4, 1, adam.Settings(**SETTINGS))
    implementation_kernel("sgd", "step", "cuda")(*[parameters[:2]] * 3, sgd.Settings(1, momentum=0.9))
    assert launches == [("adam_step", "float"), ("adam_step", "double"), ("sgd_momentum_step", "float")]


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (np.zeros(3), TypeError, r"sgd_step: gradients\[1\] is float64, parameters\[1\] is float32"),
        (np.zeros(4, np.float32), ValueError, r"sgd_step: gradients\[1\] is \(4,\), parameters\[1\] is \(3,\)"),
    ],
)
def test_what_addresses_do_not_show_is_checked_before(gradient, error, message):
    parameters = arrays_of([3, 3])
    with pytest.raises(error, match=message):
        implementation_kernel("sgd", "step", "cuda")(parameters, None, [parameters[0], gradient], sgd.Settings(1))
    with pytest.raises(TypeError, match=r"parameters\[0\] is float16"):
        implementation_kernel("sgd", "step", "cuda")(arrays_of([3], np.float16), None, arrays_of([3]), sgd.Settings(1))


def test_a_model_half_on_the_gpu_is_refused(monkeypatch):
    parameters = arrays_of([3, 3])
    monkeypatch.setattr(tensor_table, "device_of", lambda a: "cuda" if a is parameters[1] else "cpu")
    with pytest.raises(ValueError, match=r"gradients\[0\] is on the CPU, gradients\[1\] on the GPU"):
        implementation_kernel("sgd", "step", "cuda")(parameters, None, [parameters[0], parameters[1]], sgd.Settings(1))


@pytest.mark.bench
@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ("SGD", "SGD", {"lr": 0.1}),
        ("SGD", "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
        ("SGD", "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("Adam", "Adam", {"lr": 0.05, "weight_decay": 0.3}),
        ("AdamW", "AdamW", {"lr": 0.05, "weight_decay": 0.3}),
        ("RMSprop", "RMSprop", {"lr": 0.05, "weight_decay": 0.3}),
    ],
)
def test_the_same_steps_as_pytorch(ours, theirs, options):
    torch = pytest.importorskip("torch")
    parameters, gradients = problem()
    others = [torch.tensor(p.data.copy(), requires_grad=True) for p in parameters]
    other = getattr(torch.optim, theirs)(others, **options)
    for step in gradients:
        for p, g in zip(others, step):
            p.grad = torch.tensor(g)
        other.step()
    for p, q in zip(run(getattr(optim, ours)(parameters, **options), gradients), others):
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-10, atol=1e-12)


ALL = [
    lambda p: optim.SGD(p, 0.1),
    lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda p: optim.Adam(p, 0.1, weight_decay=0.01),
    lambda p: optim.AdamW(p, 0.1),
    lambda p: optim.RMSprop(p, 0.1),
]


@pytest.mark.parametrize("make", ALL)
def test_steps_are_in_place_keep_float32_and_leave_the_gradients(make):
    parameters, gradients = problem(np.float32)
    memory = [p.data for p in parameters]
    optimizer = make(parameters)
    run(optimizer, gradients)
    for p, array, g in zip(parameters, memory, gradients[-1]):
        assert p.data is array and p.dtype == np.float32
        np.testing.assert_array_equal(p.grad.data, g)
    slots = [slot for slot in optimizer.state_dict().values() if isinstance(slot, dict)]
    assert all(a.dtype == np.float32 for slot in slots for a in slot.values())
    optimizer.zero_grad()
    assert all(p.grad is None for p in parameters)


@pytest.mark.parametrize("make", ALL)
def test_a_resumed_optimizer_goes_on_bit_for_bit(make, tmp_path):
    parameters, gradients = problem(np.float32)
    optimizer = make(parameters)
    schedule = optim.CosineDecay(optimizer, total=STEPS, warmup=2)
    expected = run(optimizer, gradients, schedule.step)

    parameters, _ = problem(np.float32)
    optimizer = make(parameters)
    schedule = optim.CosineDecay(optimizer, total=STEPS, warmup=2)
    weights = run(optimizer, gradients[:3], schedule.step)
    sections = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    io.save_checkpoint(tmp_path / "last.npz", sections)

    sections, _ = io.load_checkpoint(tmp_path / "last.npz")
    optimizer = make([nn.Parameter(w) for w in weights])
    schedule = optim.CosineDecay(optimizer, total=STEPS, warmup=2)
    optimizer.load_state_dict(sections["optimizer"])
    schedule.load_state_dict(sections["schedule"])
    assert optimizer.steps == 3
    for p, e in zip(run(optimizer, gradients[3:], schedule.step), expected):
        np.testing.assert_array_equal(p, e)


def test_a_state_dict_is_a_copy():
    parameters, gradients = problem()
    optimizer = optim.Adam(parameters)
    run(optimizer, gradients[:1])
    state = optimizer.state_dict()
    mean = state["mean"]["0"].copy()
    run(optimizer, gradients[1:])
    np.testing.assert_array_equal(state["mean"]["0"], mean)
    optimizer.load_state_dict(state)
    run(optimizer, gradients[1:])
    np.testing.assert_array_equal(state["mean"]["0"], mean)


def test_a_state_of_something_else_is_refused():
    parameters, gradients = problem()
    adam = optim.Adam(parameters)
    run(adam, gradients)
    with pytest.raises(ValueError, match=r"SGD: the state holds .*'mean'.* not of this kind"):
        optim.SGD(parameters, 0.1, momentum=0.9).load_state_dict(adam.state_dict())
    with pytest.raises(ValueError, match="not of this kind"):
        optim.SGD(parameters, 0.1).load_state_dict({})
    with pytest.raises(ValueError, match=r"mean of parameter 0 has shape \(3, 4\) in the state, \(5,\) in the"):
        optim.Adam([parameters[1]]).load_state_dict(adam.state_dict())
    with pytest.raises(ValueError, match="nothing in the optimizer"):
        optim.Adam(parameters[:1]).load_state_dict(adam.state_dict())
    with pytest.raises(ValueError, match="it is of 3 parameters, the optimizer has 4"):
        optim.Adam([*parameters, nn.Parameter(np.ones(2))]).load_state_dict(adam.state_dict())
    for lost in ("mean", "square"):
        state = adam.state_dict()
        del state[lost]["1"]
        with pytest.raises(ValueError, match=rf"1 arrays are missing \['{lost}'\]"):
            optim.Adam(parameters).load_state_dict(state)


@pytest.mark.parametrize("make", ALL)
def test_a_state_without_the_updates_of_each_parameter_still_loads(make):
    """Older checkpoints count the steps of the optimizer alone."""
    parameters, gradients = problem()
    optimizer = make(parameters)
    run(optimizer, gradients[:3])
    state = optimizer.state_dict()
    assert state.pop("updates").tolist() == [3, 3, 3]
    other = make([nn.Parameter(p.data.copy()) for p in parameters])
    other.load_state_dict(state)
    for p, q in zip(run(optimizer, gradients[3:]), run(other, gradients[3:])):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("make", ALL)
def test_parameters_without_gradient_and_frozen_ones_stay(make):
    a, b, c = (nn.Parameter(np.ones(2)) for _ in range(3))
    b.grad, c.grad = tn.Tensor(np.ones(2)), tn.Tensor(np.ones(2))
    c.requires_grad_(False)
    make([a, b, c]).step()
    assert (a.data == 1).all() and (b.data < 1).all() and (c.data == 1).all()


def test_a_step_between_forward_and_backward_is_noticed():
    p = nn.Parameter(np.ones(2))
    p.grad = tn.Tensor(np.ones(2))
    loss = (p * p).sum()
    optim.SGD([p], 0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_a_learning_rate_set_to_nonsense_is_noticed_before_the_weights_are_lost():
    p = nn.Parameter(np.ones(2))
    p.grad = tn.Tensor(np.ones(2))
    optimizer = optim.SGD([p], 0.1)
    optimizer.lr = float("nan")
    with pytest.raises(ValueError, match="lr is nan"):
        optimizer.step()
    assert (p.data == 1).all()


LAYER = nn.Linear(2, 1)


@pytest.mark.parametrize("given", [lambda w: w, lambda w: [w], lambda w: (p for p in [w]), lambda w: [{"params": w}]])
def test_what_an_optimizer_trains(given):
    w = tn.tensor([3.0, 4.0], requires_grad=True)
    optimizer = optim.SGD(given(w), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(w.numpy(), [3 * 0.64, 4 * 0.64], rtol=1e-6)
    assert optim.SGD(LAYER, 0.1).parameters == LAYER.parameters()


def consumed():
    generator = (p for p in LAYER.parameters())
    list(generator)
    return generator


def frozen():
    return nn.Linear(2, 1).freeze().parameters()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (lambda: [], ValueError, "parameters is empty"),
        (consumed, ValueError, "a generator is empty once it was used"),
        (lambda: nn.ReLU(), ValueError, "parameters is empty"),
        (lambda: [LAYER.weight, LAYER.weight], ValueError, "listed twice"),
        (lambda: [{"params": LAYER}, {"params": LAYER.bias}], ValueError, "listed twice"),
        (lambda: [LAYER.weight * 1], ValueError, r"parameters\[0\], of shape \(2, 1\), was computed from other"),
        (lambda: [LAYER.weight, tn.tensor([1.0])], ValueError, r"parameters\[1\], .* requires no gradient"),
        (frozen, ValueError, "all parameters are frozen"),
        (lambda: [nn.Parameter(np.broadcast_to(1.0, 2))], ValueError, "memory that must not be written"),
        (lambda: np.ones((2, 3)), TypeError, "parameters is a ndarray"),
        (lambda: [np.ones(2)], TypeError, r"parameters\[0\] is a ndarray"),
        (lambda: 3, TypeError, "parameters is a int"),
        (lambda: None, TypeError, "parameters is a NoneType"),
        (lambda: "weights", TypeError, r"parameters\[0\] is a str"),
        (lambda: dict(LAYER.named_parameters()), TypeError, "parameters is a dict"),
        (lambda: set(LAYER.parameters()), TypeError, "parameters is a set"),
        (lambda: LAYER.named_parameters(), TypeError, r"parameters\[0\] is a tuple"),
        (lambda: [LAYER.parameters()], TypeError, r"parameters\[0\] is a list"),
        (lambda: [{"params": LAYER, "momentum": 1}], ValueError, "a group is a dict"),
        (lambda: [{"params": LAYER}, nn.Parameter(np.ones(1))], ValueError, "either all parameters are in groups"),
        (lambda: [{"params": LAYER, "lr": -1}], ValueError, "lr is -1"),
        (lambda: [{"params": LAYER, "weight_decay": -1}], ValueError, "weight_decay is -1"),
    ],
)
def test_parameters_that_would_not_be_trained_are_refused(parameters, error, message):
    with pytest.raises(error, match=f"SGD: .*{message}"):
        optim.SGD(parameters(), 0.1)


def test_a_step_without_any_gradient_says_so():
    optimizer = optim.SGD(nn.Linear(2, 1), 0.1)
    with pytest.raises(RuntimeError, match=r"SGD.step: no parameter has a gradient.*call loss.backward\(\) first"):
        optimizer.step()
    assert optimizer.steps == 0


def test_a_gradient_that_no_longer_fits_is_refused():
    p = nn.Parameter(np.ones((2, 3), np.float32))
    p.grad = np.ones((2, 3), np.float32)
    p.data = np.ones((2, 3))  # a kernel would read memory behind the gradient
    for use in (optim.SGD([p], 1).step, lambda: optim.clip_grad_norm(p, 1), lambda: optim.clip_grad_value(p, 1)):
        with pytest.raises(TypeError, match=r"gradient of parameters\[0\] is float32 \(2, 3\); .* float64 \(2, 3\)"):
            use()
    assert (p.numpy() == 1).all()


@pytest.mark.parametrize("tier", ["reference", "cpu", on("cuda-sim", "cuda-sim")])
def test_a_kernel_may_get_no_parameters(tier):
    implementation_kernel("sgd", "step", tier)([], None, [], sgd.Settings(1))
    implementation_kernel("sgd", "step", tier)([], [], [], sgd.Settings(1, momentum=0.9))
    implementation_kernel("adam", "step", tier)([], [], [], [], 1, adam.Settings(**SETTINGS))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        *(
            (lambda p, lr=lr: optim.Adam([p], lr), ValueError, "Adam: lr is")
            for lr in (0, -1, math.nan, math.inf, "fast")
        ),
        (lambda p: optim.Adam([p], None), ValueError, "Adam: lr is None"),
        (lambda p: optim.SGD([p], 0.1, momentum=1), ValueError, "momentum is 1"),
        (lambda p: optim.SGD([p], 0.1, nesterov=True), ValueError, "nesterov needs momentum"),
        (lambda p: optim.SGD([p], 0.1, weight_decay=-1), ValueError, "weight_decay is -1"),
        (lambda p: optim.SGD([p], 0.1, weight_decay=None), ValueError, "weight_decay is None"),
        (lambda p: optim.StepDecay([p], 2), TypeError, "StepDecay: optimizer is a list"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, "beta2 is 1.0"),
        (lambda p: optim.AdamW([p], eps=0), ValueError, "AdamW: eps is 0"),
        (lambda p: optim.RMSprop([p], smoothing=1), ValueError, "smoothing is 1"),
    ],
)
def test_impossible_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(nn.Parameter(np.ones(2)))


# ---------------------------------------------------------------------------------------- clipping
def with_gradients(*gradients):
    parameters = [nn.Parameter(np.zeros_like(g)) for g in gradients]
    for p, g in zip(parameters, gradients):
        p.grad = tn.Tensor(g.copy())
    return parameters


@pytest.mark.parametrize("backend", BACKENDS)
def test_clip_grad_norm_scales_all_gradients_by_one_factor(backend):
    g = np.array([3.0, 0.0], np.float32), np.array([[4.0]])
    parameters = [*with_gradients(*g), nn.Parameter(np.zeros(3))]  # the last one has none
    with tn.use_backend(backend):
        check_clipping(parameters)
    assert optim.clip_grad_norm([parameters[-1]], 1.0) == 0


def check_clipping(parameters):
    assert optim.clip_grad_norm(iter(parameters), 1.0) == 5.0
    np.testing.assert_allclose(parameters[0].grad.data, [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(parameters[1].grad.data, [[0.8]], rtol=1e-6)
    assert parameters[0].grad.dtype == np.float32
    assert abs(optim.clip_grad_norm(parameters, 10.0) - 1) < 1e-6
    np.testing.assert_allclose(parameters[1].grad.data, [[0.8]], rtol=1e-6)


def test_clip_grad_norm_leaves_what_is_not_finite_to_the_caller():
    parameters = with_gradients(np.array([np.nan, 1.0]), np.array([2.0]))
    assert math.isnan(optim.clip_grad_norm(parameters, 1.0))
    assert parameters[1].grad.data[0] == 2.0
    parameters = with_gradients(np.array([np.inf]), np.array([2.0]))
    assert optim.clip_grad_norm(parameters, 1.0) == math.inf
    assert parameters[1].grad.data[0] == 2.0


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_the_norm_is_summed_in_float64(scale, backend):
    """In float32 the squares are infinite, or 0."""
    (w,) = with_gradients(np.array([3, 4], np.float32) * np.float32(scale))
    with tn.use_backend(backend):
        assert optim.clip_grad_norm(w, scale) == pytest.approx(5 * scale, rel=1e-6)
    np.testing.assert_allclose(w.grad.numpy() / np.float32(scale), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value])
def test_clipping_takes_a_model_and_a_tensor_and_refuses_the_rest(clip):
    layer = nn.Linear(2, 1)
    for given, tensors in ((layer, layer.parameters()), (layer.weight, [layer.weight])):
        for p in layer.parameters():
            p.grad = tn.Tensor(np.full_like(p.data, 100))
        clip(given, 1.0)
        assert all(np.abs(p.grad.numpy()).max() <= 1 for p in tensors)
    for given in ([layer.weight.data], dict(layer.named_parameters()), layer.weight.data, None):
        with pytest.raises(TypeError, match=f"{clip.__name__}: parameters"):
            clip(given, 1.0)


def test_clip_grad_value():
    parameters = with_gradients(np.array([-3.0, 0.5, 2.0]))
    optim.clip_grad_value([*parameters, nn.Parameter(np.zeros(1))], 1.0)
    np.testing.assert_array_equal(parameters[0].grad.data, [-1, 0.5, 1])


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value])
def test_clipping_to_nothing_is_refused(clip):
    with pytest.raises(ValueError, match="must be positive"):
        clip([], 0)


# ---------------------------------------------------------------------------------------- schedules
def optimizer(lr=0.2):
    return optim.SGD([nn.Parameter(np.ones(1))], lr)


def rates(schedule, count):
    """lr at each of the first `count` steps of the optimizer."""
    result = []
    for _ in range(count):
        result.append(schedule.optimizer.lr)
        schedule.step()
    return result


def half_cosine(start, end, steps):
    """The values on half a cosine from start to end, `steps` steps apart, without the end."""
    return [end + (start - end) * (1 + math.cos(math.pi * i / steps)) / 2 for i in range(steps)]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda o: optim.StepDecay(o, every=2, decay=0.5), [0.2, 0.2, 0.1, 0.1, 0.05, 0.05]),
        (lambda o: optim.ExponentialDecay(o, 0.5), [0.2, 0.1, 0.05, 0.025]),
        (lambda o: optim.MultiStepDecay(o, (4, 1), decay=0.5), [0.2, 0.1, 0.1, 0.1, 0.05, 0.05]),
        (
            lambda o: optim.CosineDecay(o, total=10, warmup=3, floor=0.1),
            [0.05, 0.1, 0.15, *half_cosine(0.2, 0.02, 7), 0.02, 0.02, 0.02],
        ),
        (lambda o: optim.CosineDecay(o, total=4), [*half_cosine(0.2, 0, 4), 0]),
        (
            lambda o: optim.OneCycle(o, total=20, rise=0.25, start_div=10, end_div=100),
            [*half_cosine(0.02, 0.2, 5), *half_cosine(0.2, 0.002, 15), 0.002],
        ),
    ],
)
def test_schedules_follow_their_formulas(make, expected):
    o = optimizer()
    np.testing.assert_allclose(rates(make(o), len(expected)), expected, atol=1e-15)
    o.parameters[0].grad = tn.Tensor(np.ones(1))
    o.step()  # a learning rate of 0 is allowed


@pytest.mark.parametrize("mode", ["min", "max"])
def test_reduce_on_plateau(mode):
    o = optimizer()
    schedule = optim.ReduceOnPlateau(o, decay=0.5, patience=1, mode=mode, threshold=0.1, smallest=0.2)
    sign = 1 if mode == "min" else -1
    actual = []
    for loss in (5, 4, 3.95, 3.95, 3.95, 3.0, math.nan, 3.0, 9, 9, 9, 9):
        schedule.step(sign * loss)
        actual.append(o.lr)
    # better, better, too little (1 wait), too little (2 > patience: reduce), wait, better, ...
    np.testing.assert_allclose(actual, [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.04, 0.04, 0.04])


def test_an_improvement_of_exactly_the_threshold_is_none_and_patience_is_exact():
    o = optimizer()
    schedule = optim.ReduceOnPlateau(o, decay=0.5, patience=2, threshold=0.25)
    actual = []
    for loss in (5, 4.75, 4.75, 4.75):
        schedule.step(loss)
        actual.append(o.lr)
    assert actual == [0.2, 0.2, 0.2, 0.1]


SCHEDULES = [
    lambda o: optim.StepDecay(o, every=2),
    lambda o: optim.CosineDecay(o, total=8, warmup=3),
    lambda o: optim.OneCycle(o, total=8),
    lambda o: optim.ReduceOnPlateau(o, patience=1),
    lambda o: optim.ReduceOnPlateau(o, patience=2),
    lambda o: optim.ExponentialDecay(o, 0.9),
    lambda o: optim.MultiStepDecay(o, [2, 5]),
]


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 6])
@pytest.mark.parametrize("make", SCHEDULES)
def test_a_resumed_schedule_goes_on(make, cut):
    metrics = [3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5]

    def go(schedule, metrics):
        result = []
        for metric in metrics:
            schedule.step(*([metric] if isinstance(schedule, optim.ReduceOnPlateau) else []))
            result.append(schedule.optimizer.lr)
        return result

    expected = go(make(optimizer()), metrics)
    assert len(set(expected)) > 1
    first = make(optimizer())
    go(first, metrics[:cut])
    # The optimizer is restored first, so the new schedule sees an lr that is no longer the base.
    resumed = make(optimizer(first.optimizer.lr))
    resumed.load_state_dict(first.state_dict())
    assert resumed.optimizer.lr == first.optimizer.lr
    assert go(resumed, metrics[cut:]) == expected[cut:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: optim.StepDecay(o, every=0), "every is 0"),
        (lambda o: optim.StepDecay(o, every=1, decay=2), "decay is 2"),
        (lambda o: optim.ExponentialDecay(o, 0), "ExponentialDecay: decay is 0"),
        (lambda o: optim.MultiStepDecay(o, [3, 0]), "milestones is 0"),
        (lambda o: optim.MultiStepDecay(o, 3), "milestones is 3; a list of steps is needed"),
        (lambda o: optim.MultiStepDecay(o, [3], decay=2), "decay is 2"),
        (lambda o: optim.CosineDecay(o, total=0), "total is 0"),
        (lambda o: optim.CosineDecay(o, total=5, warmup=5), "warmup is 5"),
        (lambda o: optim.CosineDecay(o, total=5, floor=2), "floor is 2"),
        (lambda o: optim.OneCycle(o, total=5, rise=1), "rise is 1"),
        (lambda o: optim.OneCycle(o, total=5, end_div=0.5), "end_div 0.5"),
        (lambda o: optim.ReduceOnPlateau(o, mode="best"), "mode is 'best'"),
        (lambda o: optim.ReduceOnPlateau(o, decay=1), "decay is 1"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(optimizer())


# ---------------------------------------------------------------------------------------- averaged weights
def averaged(decay=0.5, updates=6):
    model = nn.Linear(2, 1)
    average = optim.WeightAverage(model, decay)
    expected = model.weight.data.copy()
    for t in range(1, updates + 1):
        model.weight.data[...] = t
        average.update()
        d = min(decay, t / (t + 9))
        expected = d * expected + (1 - d) * t
    return model, average, expected


def test_weight_average_follows_its_recurrence_and_gives_the_weights_back():
    model, average, expected = averaged()
    bias = model.bias.data
    with pytest.raises(KeyError), average.applied():
        np.testing.assert_allclose(model.weight.data, expected, rtol=1e-6)
        assert model.weight.dtype == np.float32
        raise KeyError
    assert (model.weight.data == 6).all() and model.bias.data is bias


def test_weight_average_goes_on_from_its_state():
    model, average, _ = averaged()
    other, resumed, _ = averaged(updates=2)
    resumed.load_state_dict(average.state_dict())
    for m, a in ((model, average), (other, resumed)):
        m.weight.data[...] = 9
        a.update()
    with average.applied(), resumed.applied():
        np.testing.assert_array_equal(model.weight.data, other.weight.data)
    with pytest.raises(ValueError, match="another model; it differs in weight"):
        optim.WeightAverage(nn.Linear(3, 1)).load_state_dict(average.state_dict())


def test_an_average_of_a_model_that_changed_is_refused():
    model, average, _ = averaged()
    model.extra = nn.Parameter(np.ones(2))
    with pytest.raises(ValueError, match=r"extra of shape \(2,\) is new"):
        average.update()


def test_applying_averaged_weights_between_forward_and_backward_is_noticed():
    model, average, _ = averaged()
    loss = model(tn.Tensor(np.ones((1, 2), np.float32), requires_grad=True)).sum()
    with average.applied():
        pass
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
