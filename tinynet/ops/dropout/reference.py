"""Dropout by its definition, and Philox in NumPy. The other tiers must agree, mask included."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, *, p: float, seed: int, stream: int, step: int, first: int = 0) -> np.ndarray:
    """y[i] = x[i] / (1 - p) where word number first + i is at least p 2^32, else 0; any shape.

    x: i is the index of an element in C order, for (N, H, W, C) the order in which channels vary fastest.
    p: 0 <= p < 1. seed, stream: below 2^32. step: below 2^64. first: below 2^63.
    The gradient is this kernel applied to gy.
    """
    keep = _words(x.size, seed, stream, step, first).reshape(x.shape) >= round(p * 2**32)
    return np.where(keep, x * (1 / (1 - p)), 0)


def _words(size: int, seed: int, stream: int, step: int, first: int = 0) -> np.ndarray:
    """`size` 32-bit words from word number `first` on: word n is word n % 4 of the four of counter block n // 4."""
    skipped = first % 4  # words of the first block that no element needs
    block = np.uint64(first // 4) + np.arange(-(-(skipped + size) // 4), dtype=np.uint64)
    counter = [block & 0xFFFFFFFF, block >> 32, np.uint64(step & 0xFFFFFFFF), np.uint64(step >> 32)]
    return np.stack(_philox4x32(counter, (seed, stream)), axis=-1).reshape(-1)[skipped : skipped + size]


def _philox4x32(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Philox 4x32-10: four random words for each counter of four words; uint64 arrays of numbers below 2^32."""
    c0, c1, c2, c3 = np.broadcast_arrays(*counter)
    for i in range(10):
        k0 = np.uint64((key[0] + i * 0x9E3779B9) % 2**32)
        k1 = np.uint64((key[1] + i * 0xBB67AE85) % 2**32)
        product_0 = np.uint64(0xD2511F53) * c0
        product_1 = np.uint64(0xCD9E8D57) * c2
        c0, c1 = (product_1 >> 32) ^ c1 ^ k0, product_1 & 0xFFFFFFFF
        c2, c3 = (product_0 >> 32) ^ c3 ^ k1, product_0 & 0xFFFFFFFF
    return [c0, c1, c2, c3]
