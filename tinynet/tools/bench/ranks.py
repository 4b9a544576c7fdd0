"""What each rank of `bench distributed` runs: the same training step with and without the other ranks."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet.training.distributed import DataParallel, World, world
from tinynet.training.distributed.buckets import Buckets

from .examples import images_and_masks, new_unet


def measure(batch: int, size: int, turns: int) -> dict[str, Any]:
    """Medians, in seconds, of the slowest rank: a step, the step of this rank alone, the exchange alone.

    batch: images of each rank.
    """
    ranks, model = world(), new_unet()
    model.train()
    images, masks = (tn.tensor(array) for array in images_and_masks(batch, size))
    together, alone = DataParallel(model), DataParallel(model, ranks=World())
    buckets, gradients = Buckets(model.parameters(), ranks), [np.ones(p.shape, p.dtype) for p in model.parameters()]

    def loss(x: tn.Tensor, target: tn.Tensor) -> tn.Tensor:
        return tn.dice_loss(model(x), target)

    def exchange() -> None:
        buckets.start()
        for i in reversed(range(len(gradients))):
            buckets.put(i, gradients[i])
        buckets.collect()

    cases: dict[str, Callable[[], Any]] = {
        "step": lambda: together.backward(loss, [images, masks], batch * ranks.size),
        "alone": lambda: alone.backward(loss, [images, masks], batch),
        "exchange": exchange,
    }
    for run in cases.values():
        run()  # compiles the kernels, connects the ranks
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in tqdm(range(turns), "turns", disable=not sys.stderr.isatty()):
        for name, run in cases.items():
            ranks.gather(None)  # all ranks start at once
            begin = time.perf_counter()
            run()
            seconds[name].append(max(ranks.gather(time.perf_counter() - begin)))
    nbytes = sum(p.size * p.dtype.itemsize for p in model.parameters())
    return {"bytes": nbytes, **{name: statistics.median(times) for name, times in seconds.items()}}


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
