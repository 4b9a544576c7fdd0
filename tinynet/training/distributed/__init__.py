"""Data-parallel training over several processes (MPI), and gradient accumulation; docs/distributed.md explains both.

    parallel = DataParallel(model)
    for total, batch in parallel.batches(loader, epoch):
        value = parallel.backward(loss, batch, total).loss   # sets the gradients of the global batch on every rank
        optimizer.step()

`Trainer` does this by itself, so a script needs no change: `mpiexec -n 4 python script.py` trains on four processes.
"""

import lazy_loader

# Every script asks whether mpiexec started it, and must not import all operations for that.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
