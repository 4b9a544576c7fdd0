"""`bench against`: the same steps by this tinynet and by the tinynet of another checkout, in turn.

Each of the two runs in a process of its own. A turn of the one and the turn of the other that follows it make a pair;
the ratio of a case is the median over the pairs, so that what slows the machine down for a while slows down both.
"""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cli import option
from . import examples, machine
from .processes import Child, progress, wait_until_idle

CASES = ("train-16x256", "train-4x128", "infer-1x256", "infer-1x512", "lenet", "lstm")
SECONDS_PER_TURN = 0.4  # shorter steps are done several at a time
MOST_STEPS_PER_TURN = 200


@dataclass
class AgainstConfig:
    """The flags of `bench against`."""

    checkout: str = option(help="folder of the other checkout, which holds tinynet/ and examples/", positional=True)
    cases: tuple[str, ...] = option(
        CASES,
        f"of {', '.join(examples.BATCHES)}, and steps of the U-Net with sizes of your own, as in the default",
        nargs="+",
    )
    threads: int = option(len(machine.cores()), "threads for each of the two")
    turns: int = option(9, "turns of each")

    def __post_init__(self) -> None:
        if not Path(self.checkout, "tinynet", "__init__.py").is_file():
            raise ValueError(f"{self.checkout} is no checkout of tinynet: it needs the file tinynet/__init__.py")
        examples.check_counts(threads=self.threads, turns=self.turns)
        for case in self.cases:
            if case not in examples.BATCHES:
                _, batch, size = examples.unet_sizes(case)
                examples.check_sizes(size, batch=batch)


def against(config: AgainstConfig) -> dict[str, dict[str, float]]:
    """Steps of this tinynet beside those of another checkout: ratios of time and memory.

    Returns the columns of the table by case.
    """
    print(
        f"new: {examples.PACKAGE.parent}; old: {config.checkout}; {config.threads} threads, {config.turns} turns each\n"
        "ms of a step: medians; ratio: new / old, the median over the turns; MB: the peak of the process\n\n"
        f"{'case':14} {'new ms':>8} {'old ms':>8} {'wall':>6} {'CPU':>6} {'new MB':>7} {'old MB':>7} {'ratio':>6} "
        f"{'new value':>10} {'old value':>10}"
    )
    table = {}
    for case in progress(config.cases, "measuring"):
        row = table[case] = measure(case, config)
        print(
            f"{case:14} {row['new_ms']:8.2f} {row['old_ms']:8.2f} {row['wall']:6.3f} {row['cpu']:6.3f} "
            f"{row['new_mb']:7.0f} {row['old_mb']:7.0f} {row['new_mb'] / row['old_mb']:6.2f} "
            f"{row['new_value']:10.6f} {row['old_value']:10.6f}",
            flush=True,
        )
    return table


def measure(case: str, config: AgainstConfig) -> dict[str, float]:
    """One row of the table. The value is the loss, or the mean of the predictions, after the last step."""
    checkouts = (examples.PACKAGE.parent, Path(config.checkout).resolve())
    for checkout in checkouts:  # these children compile, which takes memory; those that are measured find the result
        with contextlib.closing(start(case, checkout, config.threads)) as child:
            child.ask(1)
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(contextlib.closing(start(case, c, config.threads))) for c in checkouts]
        steps = [child.ask(1)["ms"] for _ in range(2) for child in children]
        count = max(1, min(MOST_STEPS_PER_TURN, int(1000 * SECONDS_PER_TURN / steps[-1])))
        pairs = []
        for turn in range(config.turns):
            pair: dict[int, dict[str, Any]] = {}
            for who in (0, 1) if turn % 2 else (1, 0):
                wait_until_idle([children[1 - who]])
                pair[who] = children[who].ask(count)
            pairs.append((pair[0], pair[1]))
    new, old = pairs[-1]
    return {
        "new_ms": statistics.median(new["ms"] for new, _ in pairs),
        "old_ms": statistics.median(old["ms"] for _, old in pairs),
        "wall": statistics.median(new["ms"] / old["ms"] for new, old in pairs),
        "cpu": statistics.median(new["cpu_seconds"] / old["cpu_seconds"] for new, old in pairs),
        **{"new_mb": new["peak_mb"], "old_mb": old["peak_mb"]},
        **{"new_value": new["value"], "old_value": old["value"]},
    }


def start(case: str, checkout: Path, threads: int) -> Child:
    """The process that does the steps of a case with the tinynet of a checkout."""
    return Child(examples.__file__, case, threads=threads, checkout=checkout)
