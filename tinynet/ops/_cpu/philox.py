"""Philox 4x32-10 for Numba kernels: random numbers without a state, computed from a key and a counter.

Source: Salmon, Moraes, Dror, Shaw, *Parallel Random Numbers: As Easy as 1, 2, 3*, SC 2011, sections 3.2 and 4.
What key and counter mean here: ops/dropout/derivation.md.

A 32-bit word is kept in a 64-bit variable whose upper half is zero: Numba makes every sum or product of 32-bit integers
64 bits wide, and Philox needs the full product of two 32-bit words.
"""

from __future__ import annotations

import numpy as np
from numba import njit

U = np.uint64

LOWER_HALF = U(0xFFFFFFFF)
MULTIPLIER_0, MULTIPLIER_1 = U(0xD2511F53), U(0xCD9E8D57)
# Added to the key between the rounds: the golden ratio and the square root of 3, minus 1, times 2^32.
WEYL_0, WEYL_1 = U(0x9E3779B9), U(0xBB67AE85)
ROUNDS = 10


@njit(inline="always")
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Four random 32-bit words from a counter of four words and a key of two; uint64 below 2^32, all of them."""
    for _ in range(ROUNDS):
        product_0 = MULTIPLIER_0 * c0
        product_1 = MULTIPLIER_1 * c2
        c0 = (product_1 >> U(32)) ^ c1 ^ k0
        c1 = product_1 & LOWER_HALF
        c2 = (product_0 >> U(32)) ^ c3 ^ k1
        c3 = product_0 & LOWER_HALF
        k0 = (k0 + WEYL_0) & LOWER_HALF
        k1 = (k1 + WEYL_1) & LOWER_HALF
    return c0, c1, c2, c3


@njit
def draw_words(first_block, step, seed, stream, words):
    """Fill `words` (uint32, its length a multiple of four) with the words of the elements from 4 first_block on.

    step is below 2^64, seed and stream below 2^32; all are uint64. The loop has no branches and its iterations are
    independent, so LLVM computes eight blocks at once, one in each 64-bit lane of an AVX-512 register.
    """
    for b in range(words.size // 4):
        block = U(first_block + b)
        w0, w1, w2, w3 = philox4x32(block & LOWER_HALF, block >> U(32), step & LOWER_HALF, step >> U(32), seed, stream)
        words[4 * b] = w0
        words[4 * b + 1] = w1
        words[4 * b + 2] = w2
        words[4 * b + 3] = w3
