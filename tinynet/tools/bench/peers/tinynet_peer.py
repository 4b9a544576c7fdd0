"""tinynet: the nets of examples/, through the ordinary API."""

from __future__ import annotations

import contextlib
from importlib.metadata import version

import tinynet as tn

from ..examples import case_net
from . import Contestant


def contestant(
    case: str, threads: int, backend: str = "cpu", implementation: str | None = None, precision: str = "float32"
) -> Contestant:
    """A case by the default kernels, or by another implementation of conv2d. Numba has its threads already."""
    with tn.use_backend(backend, precision):
        model, step = case_net(case)

    def step_as_asked() -> float:
        chosen = tn.use_kernels("conv2d", implementation) if implementation else contextlib.nullcontext()
        with tn.use_backend(backend, precision), chosen:
            return step()

    parameters = sum(p.size for p in model.parameters())
    if backend == "cuda":
        from tinynet.backends.cuda import gpu

        return Contestant(step_as_asked, parameters, {"cupy": gpu.version()}, gpu.timed, gpu.peak_mb)
    libraries = ("numpy", "numba") if backend == "cpu" else ("numpy",)
    return Contestant(step_as_asked, parameters, {name: version(name) for name in libraries})
