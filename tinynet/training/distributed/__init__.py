"""Data-parallel training over several processes (MPI), and gradient accumulation; docs/distributed.md explains both.

    parallel = DataParallel(model)
    for total, batch in parallel.batches(loader, epoch):
        value = parallel.backward(loss, batch, total).loss   # sets the gradients of the global batch on every rank
        optimizer.step()

`Trainer` does this by itself, so a script needs no change: `mpiexec -n 4 python script.py` trains on four processes.
"""

from ...engine.share import sum_over_batch
from .parallel import DataParallel
from .ranks import World
from .world import world

__all__ = ["DataParallel", "World", "sum_over_batch", "world"]
