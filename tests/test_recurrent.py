"""nn.RNN, nn.LSTM and the op below it: against a cell written out, lengths, bad input, PyTorch.

That every tier of the op agrees with the reference and that its derivatives agree with differences is in test_ops.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_nn_gradients import as_function, parameter_values
from test_ops import cases_of

import tinynet as tn
from tinynet import nn
from tinynet.learn.gradcheck import GradientError, gradcheck
from tinynet.ops.lstm import cpu as lstm_cpu
from tinynet.ops.lstm import reference

RNG = np.random.default_rng(11)
LAYERS = pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
DIRECTIONS = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.fixture(autouse=True)
def seed():
    tn.seed(4)


def last(layer, x, lengths=None):
    """(outputs, [last states]) in NumPy."""
    outputs, state = layer(tn.tensor(x), lengths)
    return outputs.numpy(), [s.numpy() for s in (state if isinstance(state, tuple) else (state,))]


# ------------------------------------------------------------------------------------- what they compute
def test_an_lstm_step_by_step():
    layer = nn.LSTM(3, 4).astype(np.float64)
    x = RNG.standard_normal((2, 5, 3))
    (w, u, b) = (p.numpy() for p in layer.parameters())
    h, c, wanted = np.zeros((2, 4)), np.zeros((2, 4)), []
    for t in range(5):
        i, f, g, o = np.split(x[:, t] @ w + h @ u + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        wanted.append(h)
    outputs, state = last(layer, x)
    np.testing.assert_allclose(outputs, np.stack(wanted, axis=1), rtol=1e-12)
    np.testing.assert_allclose(state, [h, c], rtol=1e-12)


def test_an_rnn_of_two_layers_step_by_step():
    layer = nn.RNN(3, 4, layers=2).astype(np.float64)
    x = RNG.standard_normal((2, 5, 3))
    outputs, state = last(layer, x)
    for cell in layer.cells:
        w, u, b = (p.numpy() for p in cell.parameters())
        h, below = np.zeros((2, 4)), []
        for t in range(5):
            h = np.tanh(x[:, t] @ w + h @ u + b)
            below.append(h)
        x = np.stack(below, axis=1)
    np.testing.assert_allclose(outputs, x, rtol=1e-12)
    np.testing.assert_allclose(state[0], h, rtol=1e-12)


def test_a_gru_step_by_step():
    layer = nn.GRU(3, 4).astype(np.float64)
    for p in layer.parameters():
        p.data[...] = RNG.standard_normal(p.shape)
    x, h, wanted = RNG.standard_normal((2, 5, 3)), np.zeros((2, 4)), []
    w, u, b, c = (p.numpy() for p in layer.parameters())
    for t in range(5):
        (a_r, a_z, a_n), (u_r, u_z, u_n) = (np.split(m, 3, axis=1) for m in (x[:, t] @ w + b, h @ u))
        r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
        h = (1 - z) * np.tanh(a_n + r * (u_n + c)) + z * h
        wanted.append(h)
    outputs, state = last(layer, x)
    np.testing.assert_allclose(outputs, np.stack(wanted, axis=1), rtol=1e-12)
    np.testing.assert_allclose(state[0], h, rtol=1e-12)


@LAYERS
def test_a_sequence_in_two_pieces(kind):
    """The state after the first piece is the state to start the second one from."""
    layer = kind(3, 4)
    x = tn.tensor(RNG.standard_normal((2, 5, 3)).astype(np.float32))
    outputs, state = layer(x)
    first, between = layer(x[:, :2])
    second, end = layer(x[:, 2:], state=between)
    np.testing.assert_allclose(tn.concat([first, second], axis=1).numpy(), outputs.numpy(), rtol=1e-5)
    for a, b in zip(*((s if isinstance(s, tuple) else (s,)) for s in (state, end))):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5)


@LAYERS
def test_both_directions(kind):
    """The second net reads each sequence from its own end, not from the end of the padding."""
    layer, alone = kind(3, 4, bidirectional=True), kind(3, 4)
    alone.cells = layer.reverse_cells
    x = RNG.standard_normal((2, 5, 3)).astype(np.float32)
    for lengths in (None, np.array([5, 3])):
        outputs, state = last(layer, x, lengths)
        assert outputs.shape == (2, 5, 8) and state[0].shape == (2, 8)
        for n, length in enumerate((5, 5) if lengths is None else lengths):
            expected, end = last(alone, x[n : n + 1, :length][:, ::-1])
            np.testing.assert_allclose(outputs[n, :length, 4:], expected[0, ::-1], atol=1e-6)
            np.testing.assert_allclose(state[0][n, 4:], end[0][0], atol=1e-6)


def test_initial_weights():
    layer = nn.LSTM(3, 8)
    bias = layer.cells[0].bias.numpy().reshape(4, 8)
    np.testing.assert_array_equal(bias, np.repeat([[0], [1], [0], [0]], 8, axis=1))
    for u in np.split(layer.cells[0].recurrent_weight.numpy(), 4, axis=1):
        np.testing.assert_allclose(u.T @ u, np.eye(8), atol=1e-6)
    with pytest.raises(ValueError, match="a square matrix is needed"):
        nn.init.orthogonal((3, 4))


# ------------------------------------------------------------------------------------- lengths
@LAYERS
@DIRECTIONS
@pytest.mark.parametrize("padding", [0, np.nan, np.inf, -np.inf])
def test_a_padding_that_is_not_finite_reaches_nothing(kind, bidirectional, padding):
    layer = kind(3, 4, layers=2, bidirectional=bidirectional)
    x = np.ones((3, 5, 3), np.float32)
    x[0, 2:], x[1] = padding, padding
    x = tn.tensor(x, requires_grad=True)
    outputs, state = layer(x, [2, 0, 5])
    assert np.isfinite(outputs.numpy()).all()
    (outputs.sum() + (state[0] if isinstance(state, tuple) else state).sum()).backward()
    for name, p in [("x", x), *layer.named_parameters()]:
        assert np.isfinite(p.grad.numpy()).all(), name


def test_second_derivatives_of_an_lstm_with_nan_in_its_padding():
    a = np.ones((3, 2, 4))
    a[1:, 0] = np.nan
    a, weight, h = (tn.tensor(array, requires_grad=True) for array in (a, np.ones((1, 4)), np.ones((2, 1))))
    states = tn.lstm(a, weight, h, h, np.array([1, 3]))
    gradients = tn.grad(states.sum(), [a, weight, h], create_graph=True)
    sum((g * g).sum() for g in gradients).backward()
    assert all(np.isfinite(t.grad.numpy()).all() for t in (a, weight, h))


@LAYERS
def test_padding_changes_nothing(kind):
    """Each sequence alone, without padding, gives the same; so do other numbers in the padding."""
    layer = kind(3, 5, layers=2)
    x, lengths = RNG.standard_normal((4, 7, 3)).astype(np.float32), np.array([7, 2, 5, 1])
    outputs, state = last(layer, x, lengths)
    for n, length in enumerate(lengths):
        alone, state_alone = last(layer, x[n : n + 1, :length])
        np.testing.assert_allclose(outputs[n, :length], alone[0], atol=1e-6)
        np.testing.assert_array_equal(outputs[n, length:], np.repeat(outputs[n, length - 1 : length], 7 - length, 0))
        np.testing.assert_allclose([s[n] for s in state], [s[0] for s in state_alone], atol=1e-6)
    x[1, 2:] = 1e6
    np.testing.assert_array_equal(last(layer, x, list(lengths))[0], outputs)


@LAYERS
def test_no_gradient_reaches_the_padding(kind):
    layer = kind(2, 3)
    x = tn.tensor(RNG.standard_normal((2, 4, 2)), requires_grad=True)
    layer.astype(np.float64)
    outputs, _ = layer(x, np.array([4, 2]))
    (outputs * outputs).sum().backward()
    assert np.all(x.grad.numpy()[1, 2:] == 0)
    assert np.all(x.grad.numpy()[1, :2] != 0)


# ------------------------------------------------------------------------------------- gradients
@LAYERS
@pytest.mark.parametrize("lengths", [None, np.array([3, 1])], ids=["whole", "lengths"])
def test_gradients_of_a_layer(kind, lengths):
    layer = kind(2, 2, layers=1 if kind is nn.GRU else 2)  # a GRU is many small operations
    values = parameter_values(layer, RNG)
    gradcheck(as_function(Joined(layer, lengths)), [RNG.standard_normal((2, 3, 2)), *values])


@LAYERS
def test_gradients_of_both_directions_and_of_the_state_to_start_from(kind):
    layer = kind(1, 2, bidirectional=True).astype(np.float64)
    lengths = np.array([2, 1], np.uint8)

    def outputs(x, *state):
        return layer(x, lengths, state if kind is nn.LSTM else state[0])[0]

    gradcheck(outputs, [RNG.standard_normal(s) for s in ((2, 2, 1), (2, 2, 2), (2, 2, 2))[: 2 + (kind is nn.LSTM)]])


class Joined(nn.Module):
    """A recurrent layer with one result: its outputs, and the last state behind them."""

    def __init__(self, layer, lengths):
        self.layer, self.lengths = layer, lengths

    def forward(self, x):
        outputs, state = self.layer(x, self.lengths)
        states = state if isinstance(state, tuple) else (state,)
        return tn.concat([outputs, *(tn.expand_dims(s, 1) for s in states)], axis=1)


def test_a_cell_without_its_forget_gate_in_backward_is_caught():
    def wrong(gstates, states, gates, weight, h0, c0, lengths=None):
        open_gates = gates.copy()
        open_gates[..., len(weight) : 2 * len(weight)] = 0.999
        return reference.backward(gstates, states, open_gates, weight, h0, c0, lengths)

    case = cases_of("lstm", large=False)[1]
    with tn.use_kernels("lstm", backward=wrong), pytest.raises(GradientError):
        gradcheck(case.function, case.inputs)


# ------------------------------------------------------------------------------------- bad input
A, U, H = np.ones((5, 2, 12), np.float32), np.ones((3, 12), np.float32), np.ones((2, 3), np.float32)
X = tn.tensor(np.ones((2, 5, 3), np.float32))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: tn.lstm(A[..., :11], U, H, H), ValueError, "lstm: a has shape (5, 2, 11); (T, N, 4 H) with at least"),
        (lambda: tn.lstm(A[:0], U, H, H), ValueError, "lstm: a has shape (0, 2, 12)"),
        (lambda: tn.lstm(A, U.T, H, H), ValueError, "lstm: weight has shape (12, 3); a (5, 2, 12) needs (3, 12)"),
        (lambda: tn.lstm(A, U, H[:1], H), ValueError, "lstm: h has shape (1, 3); a (5, 2, 12) needs (2, 3)"),
        (lambda: tn.lstm(A, U, H, H, np.ones(2)), TypeError, "lstm: lengths is float64; integers are needed"),
        (lambda: tn.lstm(A, U, H, H, np.array([1, 6])), ValueError, "lstm: lengths go from 1 to 6; there are 5 steps"),
        (lambda: tn.lstm(A, U, H, H, np.array([1])), ValueError, "lstm: lengths has shape (1,); one for each of 2"),
        (lambda: nn.LSTM(4, 2)(X), ValueError, "LSTM: x has shape (2, 5, 3); (N, T, 4) with at least one step"),
        (lambda: nn.RNN(3, 2)(X, [1, 9]), ValueError, "RNN: lengths go from 1 to 9; x has 5 steps"),
        (
            lambda: nn.RNN(3, 2)(X, [1.5, 2]),
            ValueError,
            "RNN: lengths is float64 of shape (2,); integers (2,)",
        ),
        (lambda: nn.LSTM(3, 2)(X, state=H), ValueError, "LSTM: state has the shapes []; (h, c), each of shape (2, 2)"),
        (lambda: nn.GRU(3, 2)(X, state=H), ValueError, "GRU: state has the shapes [(2, 3)]; h of shape (2, 2) is"),
        (lambda: nn.RNN(3, 3, layers=2)(X, state=H), ValueError, "[(2, 3)]; h of shape (2, 2, 3) is needed"),
        (lambda: nn.LSTM(3, 0), ValueError, "LSTM: 3 features in, 0 hidden units, 1 layers; each must be at least 1"),
    ],
)
def test_error_sentences(call, error, sentence):
    with pytest.raises(error) as caught:
        call()
    assert sentence in str(caught.value)


# ------------------------------------------------------------------------------------- PyTorch
@pytest.mark.bench
@LAYERS
@DIRECTIONS
def test_torch_agrees(kind, bidirectional):
    torch = pytest.importorskip("torch")
    mine = kind(3, 4, layers=2, bidirectional=bidirectional).astype(np.float64)
    theirs = getattr(torch.nn, kind.__name__)(3, 4, num_layers=2, batch_first=True, bidirectional=bidirectional)
    theirs = theirs.double()
    cells = {f"_l{i}": cell for i, cell in enumerate(mine.cells)}
    cells |= {f"_l{i}_reverse": cell for i, cell in enumerate(mine.reverse_cells)}
    for suffix, cell in cells.items():
        for p in cell.parameters():
            p.data[...] = RNG.standard_normal(p.shape)
        getattr(theirs, f"weight_ih{suffix}").data[...] = torch.tensor(cell.input_weight.numpy().T)
        getattr(theirs, f"weight_hh{suffix}").data[...] = torch.tensor(cell.recurrent_weight.numpy().T)
        getattr(theirs, f"bias_ih{suffix}").data[...] = torch.tensor(cell.bias.numpy())
        getattr(theirs, f"bias_hh{suffix}").data[...] = 0
        if kind is nn.GRU:
            getattr(theirs, f"bias_hh{suffix}").data[8:] = torch.tensor(cell.recurrent_bias.numpy())
    x, width = RNG.standard_normal((3, 6, 3)), 8 if bidirectional else 4
    start = [RNG.standard_normal((len(cells), 3, 4)) for _ in range(mine.arrays)]
    a, b = tn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    gy = RNG.standard_normal((3, 6, width))
    outputs, state = mine(a, state=start if kind is nn.LSTM else start[0])
    tensors = tuple(torch.tensor(s) for s in start)
    their_outputs, their_state = theirs(b, tensors if kind is nn.LSTM else tensors[0])
    outputs.backward(gy)
    their_outputs.backward(torch.tensor(gy))
    np.testing.assert_allclose(outputs.numpy(), their_outputs.detach(), rtol=1e-10, atol=1e-12)
    states, their_states = (s if isinstance(s, tuple) else (s,) for s in (state, their_state))
    for s, t in zip(states, their_states, strict=True):
        last_layer = np.concatenate(list(t.detach().numpy()[-width // 4 :]), axis=1)
        np.testing.assert_allclose(s.numpy(), last_layer, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(a.grad.numpy(), b.grad, rtol=1e-9, atol=1e-12)
    for suffix, cell in cells.items():
        wanted = getattr(theirs, f"weight_hh{suffix}").grad.T
        np.testing.assert_allclose(cell.recurrent_weight.grad.numpy(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("samples", [1, 5])
def test_threads_that_share_the_samples_give_what_one_gives(monkeypatch, samples):
    rng = np.random.default_rng(6)
    steps, hidden = 4, 19
    a, weight, h, c, gstates = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in (
            *((steps, samples, 4 * hidden), (hidden, 4 * hidden), (samples, hidden), (samples, hidden)),
            (2, steps, samples, hidden),
        )
    )
    lengths = np.array([4, 2, 0, 3, 4])[:samples]
    results = []
    for alone in (0, np.inf):
        monkeypatch.setattr(lstm_cpu, "ALONE", alone)
        states, gates = lstm_cpu.forward(a, weight, h, c, lengths)
        results.append((states, gates, *lstm_cpu.backward(gstates, states, gates, weight, h, c, lengths)))
    for shared, by_one in zip(*results):
        np.testing.assert_array_equal(shared, by_one)
