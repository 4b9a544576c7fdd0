"""Checks of the flags that the commands share."""

from __future__ import annotations


def check_counts(**counts: int) -> None:
    """Check flags that must be at least 1. Raises ValueError, which names the flag."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name} is {count}; at least 1 is needed")


def check_sizes(size: int, **counts: int) -> None:
    """Check flags. size: of the images, which the U-Net must be able to take; counts: what must be at least 1.

    Raises ValueError, which names the flag.
    """
    check_counts(**counts)
    if size < 16 or size % 16:
        raise ValueError(f"--size is {size}; the U-Net halves it four times: a multiple of 16 is needed")
