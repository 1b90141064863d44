"""Random bits from a counter, Philox 4x32 with 7 rounds: any element's bits at any time, in any order, on any device.

The key is a seed of 64 bits, the counter (block low, block high, t, stream * 2^24 + tensor). A block of 4 words serves
8 elements: element i has block i // 8, and word j holds 16 bits for element 2j of the block, then 16 for 2j + 1.
``stream`` names the use, so that no two uses share bits.

The arrays of a step are rounded with the bits of one block: array number a takes for element i what i XOR a has. So no
two arrays share the bits of an element, and up to eight of them cost no more than one.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
https://doi.org/10.1145/2063384.2063405
"""

from __future__ import annotations

from typing import Any

import numpy as np

WEIGHTS = 0  # numbers of arrays: p, state k at STATES + k, and the average
STATES = 1
EMA = 7
ROUNDING = 0  # streams
DROPOUT = 64
AUGMENT = 65
SHUFFLE = 66


def words(seed: int, first: int, n: int, t: int = 0, stream: int = 0, tensor: int = 0) -> np.ndarray[Any, Any]:
    """Return the words of ``n`` blocks from block ``first`` on, uint32 of shape (n, 4)."""
    return words_at(np.arange(first, first + n, dtype=np.uint64), seed, t, stream, tensor)


def words_at(
    block: np.ndarray[Any, Any], seed: int, t: int = 0, stream: int = 0, tensor: int = 0
) -> np.ndarray[Any, Any]:
    """Return the words of the blocks with these numbers, an array of uint64, as uint32 of shape (len(block), 4)."""
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1 = block & mask, block >> shift
    x2, x3 = (np.full(len(block), x, np.uint64) for x in (t, (stream << 24) + tensor))
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(7):
        a, b = np.uint64(0xD2511F53) * x0, np.uint64(0xCD9E8D57) * x2
        x0, x1, x2, x3 = (b >> shift) ^ x1 ^ np.uint64(k0), b & mask, (a >> shift) ^ x3 ^ np.uint64(k1), a & mask
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=1).astype(np.uint32)


def bits16(
    seed: int, first: int, n: int, t: int = 0, stream: int = 0, tensor: int = 0, array: int = 0
) -> np.ndarray[Any, Any]:
    """Return the 16 bits of ``n`` elements from element ``first`` on for array number ``array``, as uint32."""
    block = first // 8
    given = words(seed, block, (first + n + 7) // 8 - block, t, stream, tensor)
    halves = np.stack([given & np.uint32(0xFFFF), given >> np.uint32(16)], axis=2).reshape(-1, 8)
    return halves[:, np.arange(8) ^ array].ravel()[first - 8 * block :][:n]
