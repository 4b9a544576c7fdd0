"""The contestants of `bench unet`: who they are, and what each has to offer.

The module of a peer has `contestant(mode, batch, size, threads, **options)`, with `backend` among the options where it
is not the CPU. It is imported in a process of its own, with the environment of the peer, so that every framework has
its threads and its memory to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..serve import peak_memory

# Memory that is freed stays in the process, on huge pages: no page is zeroed twice (glibc 2.35 and later).
TUNED_MALLOC = {
    "GLIBC_TUNABLES": ":".join(
        ("glibc.malloc.hugetlb=1", f"glibc.malloc.mmap_threshold={2**32}", f"glibc.malloc.trim_threshold={2**33}")
    )
}
# Numba compiles for this CPU instead of the one it finds: 8 float32 in a vector instead of 16.
AVX2_ONLY = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}


def wall_clock(step: Callable[[], float]) -> tuple[float, float]:
    """What a step returns, and how many milliseconds it took."""
    begin = time.perf_counter()
    value = step()
    return value, 1000 * (time.perf_counter() - begin)


@dataclass(frozen=True)
class Peer:
    """One contestant.

    title: for tables and charts. module: its file in this folder. options: further arguments of `contestant`.
    environment: further variables of its process. system: where it runs only ("linux"), as in sys.platform.
    machine: the kinds of processor it runs on, as in platform.machine(); none for all. backends: those it is for.
    """

    title: str
    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    system: str = ""
    machine: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("cpu",)


@dataclass
class Contestant:
    """What the module of a peer makes.

    step: does one step and returns the loss (train) or the mean of what it predicts (infer); both show that all
    contestants compute the same. parameters: how many numbers the net learns. versions: of what it stands on.
    timed: runs a step, returns what it returns and the milliseconds: of the wall clock, or of a GPU by its events.
    peak_mb: the most memory held so far, in MB: of the process, or on the GPU.
    """

    step: Callable[[], float]
    parameters: int
    versions: dict[str, str]
    timed: Callable[[Callable[[], float]], tuple[float, float]] = wall_clock
    peak_mb: Callable[[], float] = peak_memory


EVERYWHERE, CUDA = ("cpu", "cuda", "cuda-sim"), ("cuda", "cuda-sim")
PEERS = {
    "tinynet": Peer("tinynet", "tinynet_unet", backends=EVERYWHERE),
    "tinynet-tf32": Peer("tinynet, TF32", "tinynet_unet", {"precision": "tf32"}, backends=CUDA),
    "tinynet-fast": Peer("tinynet, F(4x4)", "tinynet_unet", {"implementation": "fast"}),
    "tinynet-avx2": Peer(
        "tinynet, AVX2 only", "tinynet_unet", environment=AVX2_ONLY, machine=("x86_64", "AMD64", "amd64")
    ),
    "textbook": Peer("textbook NumPy (im2col)", "textbook"),
    "torch": Peer("PyTorch, channels last", "torch_unet", backends=EVERYWHERE),
    "torch-tf32": Peer("PyTorch, TF32", "torch_unet", {"tf32": True}, backends=("cuda",)),
    "torch-tuned": Peer("PyTorch, tuned malloc", "torch_unet", environment=TUNED_MALLOC, system="linux"),
    "torch-compile": Peer("PyTorch, torch.compile", "torch_unet", {"compiled": True}, backends=("cpu", "cuda")),
    "keras": Peer("Keras on TensorFlow", "keras_unet"),
}
