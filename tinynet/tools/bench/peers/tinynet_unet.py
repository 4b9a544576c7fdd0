"""tinynet: the example's U-Net, through the ordinary API."""

from __future__ import annotations

import contextlib
from importlib.metadata import version

import tinynet as tn

from ..examples import infer_step, new_unet, train_step
from . import Contestant


def contestant(
    mode: str,
    batch: int,
    size: int,
    threads: int,
    backend: str = "cpu",
    implementation: str | None = None,
    precision: str = "float32",
) -> Contestant:
    """The U-Net by the default kernels, or with an implementation of conv2d by name; Numba knows the threads."""

    with tn.use_backend(backend, precision):
        model = new_unet().to(tn.device())
        step = train_step(model, batch, size) if mode == "train" else infer_step(model, batch, size)

    def step_as_asked() -> float:
        chosen = tn.use_kernels("conv2d", implementation) if implementation else contextlib.nullcontext()
        with tn.use_backend(backend, precision), chosen:
            return step()

    parameters = sum(p.size for p in model.parameters())
    if backend == "cuda":
        from tinynet.backends.cuda import gpu

        return Contestant(step_as_asked, parameters, {"cupy": gpu.version()}, gpu.timed, gpu.peak_mb)
    numba = ("numba",) if backend == "cpu" else ()
    return Contestant(step_as_asked, parameters, {name: version(name) for name in ("numpy", *numba)})
