"""Puts a learner's kernel into the framework, under the name `mine`.

python -m tinynet exercises use conv-05                        the small U-Net learns for a few steps with it
python -m tinynet exercises use conv-05 script.py --epochs 1   a script of your own runs with it

with tinynet.learn.exercises.mine("conv-05"):                        and in Python
    loss(model(x), masks).backward()
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import runpy
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .exercise import Exercise, course_folder, exercise
from .guard import functions_of
from .runner import check_file
from .verdict import EXIT_CODES, RIGHT, WRONG

STEPS, SIZE, BATCH = 4, 32, 2
WITHOUT = {"dilation": (1, 1), "groups": 1, "pos_weight": 1.0}  # the values of parameters that exercises leave out
PROMISES = {"cell"}  # parameters that change nothing but the speed


@contextlib.contextmanager
def mine(id: str, file: str | Path | None = None) -> Iterator[Counter]:
    """Inside `with`, tinynet runs the learner's kernels of this exercise, on the CPU.

    file: the learner's, my_exercises/ID.py by default. They are an implementation of their op named `mine`: what
    `registry.implementations` lists and `use_kernels(op, "mine")` chooses, also outside of the block. Yields a
    Counter of their calls, by name.
    Raises ValueError for an exercise that is no kernel, OSError where there is no file.
    """
    from ...backends import registry as kernels

    this = exercise(id, course_folder())
    path = Path(file or Path("my_exercises", f"{id}.py"))
    learners = functions_of(path.read_text(encoding="utf-8"), str(path), this.imports)
    calls: Counter = Counter()
    op, own = kernels_of_learner(this, learners, calls)
    register(op, own)
    # By function as well: what is fused with other operations runs them apart where one is replaced by a function.
    with kernels.use_kernels(op, "mine", **own):
        yield calls


def kernels_of_learner(this: Exercise, learners: Mapping[str, Any], calls: Counter) -> tuple[str, dict[str, Callable]]:
    """(op, the learner's kernels by the names they have there). Raises ValueError for an exercise that is no kernel."""
    op = getattr(this.module, "OP", None)
    if op is None:
        raise ValueError(f"{this.id} is no kernel of tinynet: there is nothing to put it in place of")
    if hasattr(this.module, "kernels"):
        own = this.module.kernels(learners)
    else:
        own = {name: learners[name] for name in this.functions}
    return op, {name: as_kernel(this.id, name, function, calls) for name, function in own.items()}


def as_kernel(id: str, name: str, function: Callable, calls: Counter) -> Callable:
    """A learner's function as a kernel: with `out`, in the dtype of its arrays, with the parameters that it lacks.

    Such a parameter may only have the value that means "without"; anything else raises ValueError. Counts its calls.
    """
    known = inspect.signature(function).parameters
    positions = sum(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in known.values())

    @functools.wraps(function)
    def kernel(*arrays: Any, out: Any = None, **parameters: Any) -> Any:
        calls[name] += 1
        for p in set(parameters) - set(known) - PROMISES:
            if parameters[p] != WITHOUT[p]:
                raise ValueError(f"{id}: your kernel has no {p}, and {p} = {parameters[p]} is asked for")
        if any(a is not None for a in arrays[positions:]):
            raise ValueError(f"{id}: your kernel takes {positions} arrays, and {len(arrays)} are given")
        given = {p: value for p, value in parameters.items() if p in known}
        result = function(*arrays[:positions], **given)
        dtype = next((a.dtype for a in arrays if hasattr(a, "dtype") and a.dtype.kind == "f"), None)
        return _delivered(result, out, dtype)

    return kernel


def _delivered(result: Any, out: Any, dtype: np.dtype | None) -> Any:
    """The result in `out` if there is one, else as an array; real numbers in the dtype of the arguments."""
    if isinstance(result, tuple):
        return tuple(_delivered(r, o, dtype) for r, o in zip(result, out or (None,) * len(result)))
    if result is None:  # a kernel that works in place
        return None
    result = np.asarray(result)
    result = result.astype(dtype, copy=False) if result.dtype.kind == "f" and dtype is not None else result
    if out is None:
        return result
    out[...] = result
    return out


def register(op: str, own: Mapping[str, Callable]) -> None:
    """Add the implementation `mine` to the CPU tier of an op, or replace the one there is."""
    from ...backends import registry as kernels

    module = kernels.tier_module(op, "cpu")
    if not hasattr(module, "IMPLEMENTATIONS"):
        module.IMPLEMENTATIONS = {"default": {}}
    module.IMPLEMENTATIONS["mine"] = dict(own)
    kernels.implementation_kernel.cache_clear()


# ---------------------------------------------------------------------------------------- the command
def use_in(id: str, file: Path, script: Sequence[str]) -> int:
    """Check the file; if it is right, run the script, or the demonstration, with it. Returns the exit code."""
    verdict = check_file(id, file)
    if verdict.status != RIGHT:
        print(verdict)
        return verdict.exit_code
    with mine(id, file):
        if script:
            sys.argv = list(script)
            sys.path.insert(0, str(Path(script[0]).resolve().parent))
            runpy.run_path(script[0], run_name="__main__")
            return 0
    return demonstrate(id, file)


def demonstrate(id: str, file: Path) -> int:
    """Train a small U-Net for a few steps, with tinynet's kernels and with the learner's, and show both losses."""
    print(f"{id} is right. The U-Net on {BATCH} synthetic images of {SIZE} x {SIZE}, {STEPS} steps:\n")
    print("step   loss with tinynet's kernels   with yours")
    theirs, their_seconds = train()
    with mine(id, file) as calls:
        yours, your_seconds = train()
    for step, (a, b) in enumerate(zip(theirs, yours), 1):
        print(f"{step:4}   {a:27.6f}   {b:10.6f}")
    print(f"\n{their_seconds * 1e3:.0f} ms a step with tinynet's kernels, {your_seconds * 1e3:.0f} ms with yours")
    if not calls:
        print("The net never called your kernel: it has no such layer. Give a script that uses it.")
    print("".join(f"{name} was called {n} times\n" for name, n in calls.items()), end="")
    if not np.allclose(theirs, yours, rtol=1e-3):
        print("The losses differ: your kernel does something else in float32, or at these sizes.")
        return EXIT_CODES[WRONG]
    return 0


def train() -> tuple[list[float], float]:
    """(the loss of each step, seconds of the fastest) of the U-Net of examples/, always from the same weights."""
    import tinynet as tn

    from ...data.maps import binary_map
    from ...data.synthetic import synthetic_nuclei
    from ...tools.bench.examples import load_example

    tn.seed(0)
    net = load_example("segmentation/unet_nuclei.py").UNet()
    adam = tn.optim.Adam(net.parameters(), lr=1e-3)
    samples = [synthetic_nuclei(np.random.default_rng(i), size=SIZE) for i in range(BATCH)]
    images = np.stack([sample.image for sample in samples]).astype("float32") / 255
    masks = np.stack([binary_map(sample.labels) for sample in samples])[..., None].astype("float32")
    losses, seconds = [], []
    for _ in range(STEPS):
        begin = time.perf_counter()
        adam.zero_grad()
        loss = tn.dice_loss(net(tn.tensor(images)), masks)
        loss.backward()
        adam.step()
        losses.append(float(loss.data))
        seconds.append(time.perf_counter() - begin)
    return losses, min(seconds)
