"""The same net on different hardware: plain NumPy, compiled loops on the CPU, a GPU.

    python examples/basics/cpu_vs_gpu.py                     # --batch 16 --size 256 is the size of real training

The bar chart of the lectures, measured on this machine. One training step of the small U-Net (forward, backward, Adam)
on the same images with the same initial weights, in each *tier* of this framework:

- **reference**: the plain NumPy that defines the right result;
- **cpu**: loops compiled by Numba, with vector instructions (SIMD) and all cores;
- **cuda**: hand-written kernels on a GPU, if there is one.

The script prints the loss of each tier: they must be the same, however fast the tier is. Then it takes the step apart
and prints the time of each operation. Convolutions take nearly all of it, because each pixel of each channel is
multiplied by 9 weights for every channel of the next layer; a max-pool or a sigmoid touches each pixel once.

A GPU has thousands of small cores. It needs thousands of pixels at a time to keep them busy, and every kernel takes a
few microseconds to start: try --size 32 --batch 1, where the GPU has not enough to do.

Source: Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, NIPS 2012,
section 3.2: the winning net was trained on two GPUs. `python -m tinynet bench` measures in the same way, and compares
with other frameworks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import viz
from tinynet.backends.registry import kernel_to_run
from tinynet.errors import BackendError
from tinynet.tools.bench import machine
from tinynet.tools.bench.calls import Call, calls_of
from tinynet.tools.bench.examples import check_sizes, new_unet, train_step
from tinynet.tools.bench.peers import wall_clock
from tinynet.tools.bench.peers.tinynet_peer import contestant
from tinynet.tools.cli import ExampleOptions, command_line, option, print_settings, report, run

TIERS = {"reference": "NumPy (reference)", "cpu": "Numba, SIMD (cpu)", "cuda": "CUDA (cuda)"}


# ---------------------------------------------------------------------------------------- measuring
def time_step(tier: str, config: Config) -> tuple[float, float]:
    """(milliseconds of the fastest step, loss of the first step). Raises BackendError if the tier is missing."""
    net = contestant(f"train-{config.batch}x{config.size}", numba.get_num_threads(), backend=tier)
    first_loss, _ = net.timed(net.step)  # compiles, and starts all tiers from the same weights
    return min(net.timed(net.step)[1] for _ in range(config.steps)), first_loss


def time_ops(tier: str, config: Config) -> dict[str, float]:
    """Milliseconds of each operation in one step: the sum over all calls of its kernels, timed one by one."""
    rng = np.random.default_rng(config.seed)
    total: dict[str, float] = defaultdict(float)
    with tn.use_backend(tier):
        calls = calls_of(train_step(new_unet().to(tn.device()), config.batch, config.size))
        for call in tqdm(calls.values(), tier, leave=False, disable=None):
            total[call.op] += call.per_step * time_call(call, rng, config.steps)
    return dict(total)


def time_call(call: Call, rng: np.random.Generator, repeats: int) -> float:
    """Milliseconds of the fastest call of a kernel, after a first one that may compile."""
    arrays, timed = call.arguments(rng), clock()
    function = kernel_to_run(call.op, call.kernel, arrays)
    times = [timed(lambda: function(*arrays, **call.parameters))[1] for _ in range(repeats + 1)]
    return min(times[1:])


def clock() -> Callable:
    """A function that times a call. A GPU needs its own clock: Python goes on before the GPU has finished."""
    if tn.device() == "cuda":
        from tinynet.backends.cuda import gpu

        return gpu.timed
    return wall_clock


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(ExampleOptions):
    out: str = option("out/cpu_vs_gpu", "folder for the figure")
    batch: int = option(4, "images in a step", quick=1)
    size: int = option(128, "their height and width, a multiple of 16", quick=32)
    steps: int = option(5, "steps of each tier; the fastest one counts", quick=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.size, batch=self.batch, steps=self.steps)


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Return step_ms_* and speedup_* (over the reference) of each tier, and the range of their losses."""
    print_settings(config, processor=machine.processor(), threads=numba.get_num_threads())
    steps, losses, ops = {}, [], {}
    for tier in TIERS:
        try:
            steps[tier], loss = time_step(tier, config)
        except BackendError as error:
            print(f"without {tier}: {error}")
            continue
        losses.append(loss)
        print(
            f"{tier:9} {steps[tier]:9.1f} ms a step, {1000 * config.batch / steps[tier]:7.1f} images/s, loss {loss:.6f}"
        )
        ops[tier] = time_ops(tier, config)
    table = sorted(ops["reference"], key=lambda op: -ops["reference"][op])
    print(f"\n{'ms a step':18}" + "".join(f"{tier:>11}" for tier in ops))
    for op in table:
        print(f"{op:18}" + "".join(f"{times.get(op, 0):11.2f}" for times in ops.values()))

    metrics = {f"step_ms_{tier}": ms for tier, ms in steps.items()}
    metrics |= {f"speedup_{tier}": steps["reference"] / ms for tier, ms in steps.items() if tier != "reference"}
    metrics["loss_difference"] = float(np.ptp(losses))
    return report(config, metrics, EXPECTED, {"cpu_vs_gpu.png": draw(steps, ops, config)}, NEXT)


# ---------------------------------------------------------------------------------------- figure
def draw(steps: dict[str, float], ops: dict[str, dict[str, float]], config: Config) -> viz.Figure:
    """A bar for each tier; and a bar for each tier and each of the most expensive operations.

    A tier that did not run, such as the GPU's on a machine without a GPU, has a row that says so.
    """
    colors = {"reference": viz.ORANGE, "cpu": viz.BLUE, "cuda": viz.GREEN}
    figure, (left, right) = viz.subplots(1, 2, figsize=(11, 3.9))
    for row, tier in enumerate(TIERS):
        ms = steps.get(tier, 0)
        left.barh(row, ms, color=viz.mpl(colors[tier]))
        times = f"{ms:,.0f} ms, {steps['reference'] / ms:.1f}x" if tier in steps else "not measured: no GPU here"
        left.text(ms, row, f"  {times}", va="center", color="k" if tier in steps else "0.4")
    left.set_yticks(range(len(TIERS)), list(TIERS.values()))
    left.invert_yaxis()
    left.set(xlabel="milliseconds", xlim=(0, 1.6 * max(steps.values())))
    left.set_title(f"one training step of the U-Net, {config.batch} x {config.size} x {config.size}")
    shown = sorted(ops["reference"], key=lambda op: -ops["reference"][op])[:7]
    height = 0.8 / len(ops)
    for number, (tier, times) in enumerate(ops.items()):
        places = np.arange(len(shown)) + (number - (len(ops) - 1) / 2) * height
        right.barh(places, [times.get(op, np.nan) for op in shown], height, color=viz.mpl(colors[tier]), label=tier)
    right.set_yticks(range(len(shown)), shown)
    right.invert_yaxis()
    right.set_xscale("log")
    right.set(xlabel="milliseconds a step (logarithmic)", title="by operation")
    right.legend()
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "CPU and GPU"
DATA = "random images; the small U-Net"
EXPECTED = {"speedup_cpu": (2, None), "loss_difference": (None, 1e-4)}
PICTURE = "cpu_vs_gpu.png"
NEXT = "python -m tinynet bench unet"


if __name__ == "__main__":
    run(main)
