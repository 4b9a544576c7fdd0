"""The contestants of `bench unet` and `bench nets`: tinynet and the frameworks that it is compared with.

The module of a peer has `contestant(case, threads, **options)`, with `backend` among the options where it is not the
CPU. A process of its own imports it, with the environment of the peer, so that no framework shares its threads or its
memory with another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Memory that is freed stays in the process, on huge pages: no page is zeroed twice (glibc 2.35 and later).
TUNED_MALLOC = {
    "GLIBC_TUNABLES": ":".join(
        ("glibc.malloc.hugetlb=1", f"glibc.malloc.mmap_threshold={2**32}", f"glibc.malloc.trim_threshold={2**33}")
    )
}
# Numba compiles for this CPU instead of the one it finds: 8 float32 in a vector instead of 16.
AVX2_ONLY = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}


def wall_clock(step: Callable[[], float]) -> tuple[float, float]:
    """(what a step returns, the milliseconds that it took)."""
    begin = time.perf_counter()
    value = step()
    return value, 1000 * (time.perf_counter() - begin)


@dataclass(frozen=True)
class Peer:
    """One contestant, before it is built.

    title: for tables and charts. module: its file in this folder. options: further arguments of `contestant`.
    environment: further variables of its process. system: the only one it runs on ("linux"), as in sys.platform.
    machine: the kinds of processor it runs on, as in platform.machine(); empty for all. backends: those it has.
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
    """What the module of a peer builds.

    step: does one step and returns the loss (training) or the mean of the predictions; both show that all contestants
    compute the same. parameters: their number. versions: of the libraries it uses.
    timed: runs a step and returns (its value, milliseconds), by the wall clock or by the events of a GPU.
    peak_mb: the most memory held on the GPU so far, in MB; None: the memory of the process counts.
    """

    step: Callable[[], float]
    parameters: int
    versions: dict[str, str]
    timed: Callable[[Callable[[], float]], tuple[float, float]] = wall_clock
    peak_mb: Callable[[], float] | None = None


EVERYWHERE, CUDA = ("cpu", "cuda", "cuda-sim"), ("cuda", "cuda-sim")
PEERS = {
    "tinynet": Peer("tinynet", "tinynet_peer", backends=EVERYWHERE),
    "tinynet-tf32": Peer("tinynet, TF32", "tinynet_peer", {"precision": "tf32"}, backends=CUDA),
    "tinynet-direct": Peer("tinynet, no Winograd", "tinynet_peer", {"implementation": "blocked"}),
    "tinynet-avx2": Peer(
        "tinynet, AVX2 only", "tinynet_peer", environment=AVX2_ONLY, machine=("x86_64", "AMD64", "amd64")
    ),
    "textbook": Peer("textbook NumPy (im2col)", "textbook"),
    "torch": Peer("PyTorch, channels last", "torch_peer", backends=EVERYWHERE),
    "torch-tf32": Peer("PyTorch, TF32", "torch_peer", {"tf32": True}, backends=("cuda",)),
    "torch-tuned": Peer("PyTorch, tuned malloc", "torch_peer", environment=TUNED_MALLOC, system="linux"),
    "torch-compile": Peer("PyTorch, torch.compile", "torch_peer", {"compiled": True}, backends=("cpu", "cuda")),
    "keras": Peer("Keras on TensorFlow", "keras_unet"),
}
