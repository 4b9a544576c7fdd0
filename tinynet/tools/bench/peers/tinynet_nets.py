"""tinynet: nets of the lectures, those that students read in examples/, through the ordinary API."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import tinynet as tn
from tinynet.nn.optim import AdamW

from ..examples import load_example
from ..problem import LEARNING_RATE, SEED, batch_of
from . import Contestant
from .child import serving

Loss = Callable[[Any, Any], tn.Tensor]


def lenet() -> tuple[tn.nn.Module, Loss]:
    model = load_example("convnets/lenet_mnist.py").lenet()
    return model, lambda x, target: tn.softmax_cross_entropy(model(x), target)


def alexnet() -> tuple[tn.nn.Module, Loss]:
    model = load_example("convnets/alexnet.py").small_alexnet()
    return model, lambda x, target: tn.bce_with_logits(model(x), target)


def autoencoder() -> tuple[tn.nn.Module, Loss]:
    model = load_example("unsupervised/autoencoder.py").Autoencoder(784, (256, 64), 30)
    return model, lambda x, target: tn.bce_with_logits(model(x), target)


def lstm() -> tuple[tn.nn.Module, Loss]:
    module = load_example("sequences/lstm_ecg.py")
    model = module.Listener(2, 64)
    return model, lambda x, target: module.loss_of(model, x, target)


NETS = {"lenet": lenet, "alexnet": alexnet, "autoencoder": autoencoder, "lstm": lstm}


def new_net(net: str) -> tuple[tn.nn.Module, Loss]:
    """(the net with the initial weights that all contestants start from, its loss on a batch)."""
    tn.seed(SEED)
    return NETS[net]()


def net_step(model: tn.nn.Module, loss_of: Loss, net: str) -> Callable[[], float]:
    """A function that does one step of training on the net's batch and returns the loss."""
    optimizer = AdamW(model.parameters(), LEARNING_RATE)
    x, target = batch_of(net)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(tn.tensor(x), tn.tensor(target) if target.dtype.kind == "f" else target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def contestant(net: str, threads: int) -> Contestant:
    """A training step of a net; Numba knows the threads."""
    model, loss_of = new_net(net)
    parameters = sum(p.size for p in model.parameters())
    versions = {name: version(name) for name in ("numpy", "numba")}
    return Contestant(net_step(model, loss_of, net), parameters, versions)


def start(net: str, threads: str) -> tuple[dict[str, Any], Callable]:
    """What a process of its own serves."""
    return serving(lambda: contestant(net, int(threads)))
