"""How long a training step of the U-Net takes: the cpu tier, textbook NumPy (`textbook.py`), PyTorch if installed.

    python -m tests.bench_unet_step                       # 4 images of 128 x 128
    python -m tests.bench_unet_step --batch 16 --size 256 --steps 5

A step is what training does: forward with dropout, Dice loss, backward, AdamW. Every contestant has a process of its
own, so that its memory is its own; they take turns, step by step, so that whatever else the machine does meets all of
them; the median counts. The same images and initial weights for all. Nothing is asserted: a test of speed would fail
on a busy machine and pass on a fast one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

CONTESTANTS = {"cpu": "tinynet, cpu tier", "textbook": "textbook NumPy (im2col)", "torch": "PyTorch, channels last"}


# ---------------------------------------------------------------------------------------- the contestants
def problem(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) and masks (N, H, W, 1), float32."""
    rng = np.random.default_rng(0)
    images = rng.random((batch, size, size, 3), dtype=np.float32)
    return images, (rng.random((batch, size, size, 1)) < 0.2).astype(np.float32)


def new_net():
    """The U-Net of the example, with the same weights each time."""
    import tinynet as tn

    from .load_example import load_example

    tn.seed(0)
    return load_example("segmentation/unet_nuclei.py").UNet()


def tinynet_step(batch: int, size: int) -> Callable[[], float]:
    """A function that does one step and returns the loss."""
    import tinynet as tn
    from tinynet.optim import AdamW

    model = new_net()
    optimizer = AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    images, masks = problem(batch, size)

    def step() -> float:
        optimizer.zero_grad()
        loss = tn.dice_loss(model(tn.tensor(images)), masks)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_step(batch: int, size: int) -> Callable[[], float]:
    import torch

    from .torch_unet import dice_loss, images_to_torch, to_torch, unet

    weights = {
        name: to_torch(p.numpy()).contiguous(
            memory_format=torch.channels_last if p.ndim == 4 else torch.preserve_format
        )
        for name, p in new_net().named_parameters()
    }
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-3, weight_decay=1e-4)
    images, masks = (images_to_torch(array) for array in problem(batch, size))

    def step() -> float:
        optimizer.zero_grad()
        loss = dice_loss(unet(weights, images, training=True), masks)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---------------------------------------------------------------------------------------- one process each
def work(contestant: str, batch: int, size: int) -> None:
    """One step for each line on stdin, answered by `milliseconds loss`; at the end the peak memory in MB."""
    if contestant == "textbook":
        from .textbook import textbook as backend
    else:
        backend = contextlib.nullcontext
    with backend():
        step = torch_step(batch, size) if contestant == "torch" else tinynet_step(batch, size)
        for _ in sys.stdin:
            start = time.perf_counter()
            loss = step()
            print(1000 * (time.perf_counter() - start), loss, flush=True)
    print(peak_memory(), flush=True)


def peak_memory() -> float:
    """The most memory this process has held, MB; NaN where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kB elsewhere


def run(contestants: list[str], batch: int, size: int, steps: int) -> dict[str, tuple[list[float], float, float]]:
    """{contestant: (milliseconds of each step, peak MB, last loss)}, after one step to warm up."""
    flags = ["--batch", str(batch), "--size", str(size)]
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--worker", name, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in contestants
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    losses = dict.fromkeys(contestants, float("nan"))
    for i in range(steps + 1):
        for name, worker in workers.items():
            worker.stdin.write("step\n")
            worker.stdin.flush()
            milliseconds, losses[name] = map(float, worker.stdout.readline().split())
            if i > 0:
                times[name].append(milliseconds)
    peaks = {name: float(worker.communicate()[0]) for name, worker in workers.items()}
    return {name: (times[name], peaks[name], losses[name]) for name in contestants}


def processor() -> str:
    """The name of the machine's processor, as well as the system knows it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="images per step")
    parser.add_argument("--size", type=int, default=128, help="their height and width")
    parser.add_argument("--steps", type=int, default=7, help="steps measured")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.batch, options.size)
        return

    contestants = [name for name in CONTESTANTS if name != "torch" or importlib.util.find_spec("torch")]
    print(f"one training step of the U-Net, {options.batch} x {options.size} x {options.size} x 3, float32")
    print(f"{processor()}, {os.cpu_count()} threads; {platform.system()}, Python {platform.python_version()}")
    print(f"median of {options.steps} steps, in turn\n")
    found = run(contestants, options.batch, options.size, options.steps)
    fastest = statistics.median(found["cpu"][0])
    print(f"{'':26} {'ms':>8} {'least':>8} {'ratio':>7} {'peak MB':>8} {'loss':>7}")
    for name, (times, peak, loss) in found.items():
        median = statistics.median(times)
        row = f"{median:8.1f} {min(times):8.1f} {median / fastest:7.2f} {peak:8.0f} {loss:7.4f}"
        print(f"{CONTESTANTS[name]:26} {row}")


if __name__ == "__main__":
    main()
