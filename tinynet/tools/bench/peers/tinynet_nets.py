"""tinynet: nets of the lectures, those that students read in examples/, through the ordinary API."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from ..examples import net_step, new_net
from . import Contestant
from .child import serving


def contestant(net: str, threads: int) -> Contestant:
    """A training step of a net; Numba knows the threads."""
    model, loss_of = new_net(net)
    parameters = sum(p.size for p in model.parameters())
    versions = {name: version(name) for name in ("numpy", "numba")}
    return Contestant(net_step(model, loss_of, net), parameters, versions)


def start(net: str, threads: str) -> tuple[dict[str, Any], Callable]:
    """What a process of its own serves."""
    return serving(lambda: contestant(net, int(threads)))
