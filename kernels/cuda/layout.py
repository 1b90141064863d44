"""Layout of the tables that kernels read, written on the host: which tensor, which elements, which addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .device.grad_norm import LEAF
from .device.pipeline import THREADS
from .device.sparse_rows import TEAMS
from .variant import Operand, Variant

CHUNK = 65536  # elements that a block takes at most
LEAST = 8 * THREADS  # and at least, where there are so many
WAVES = 8  # blocks for each multiprocessor to aim at

Words = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


def chunk_size(total: int, multiprocessors: int) -> int:
    """Return how many elements a block takes: no bit depends on it."""
    even = -(-total // (multiprocessors * WAVES * LEAST)) * LEAST
    return min(CHUNK, max(LEAST, even))


def chunks(sizes: Sequence[int], size: int) -> Words:
    """Return two words for each piece of ``size`` elements of some tensors: start, and tensor * 2^32 + length."""
    n = np.asarray(sizes, np.uint64)
    counts = -(-n.astype(np.int64) // size)
    tensor = np.repeat(np.arange(len(n), dtype=np.uint64), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    start = (np.arange(len(tensor)) - before).astype(np.uint64) * np.uint64(size)
    length = np.minimum(np.uint64(size), n[tensor.astype(np.int64)] - start)
    return np.stack([start, (tensor << np.uint64(32)) + length], axis=1) if len(tensor) else np.zeros((0, 2), np.uint64)


def leaves(sizes: Sequence[int]) -> int:
    """Return the number of leaves of some tensors."""
    return sum(-(-n // LEAF) for n in sizes)


def heads(c: Variant, addresses: Sequence[int], g: int | None = None) -> list[int]:
    """Return the numbers of elements, below a vector's, after which all arrays of a tensor are aligned for vectors.

    ``addresses`` are those of the operands in the order that ``pipeline.addresses_of`` expects, without g; with ``g``,
    its alignment counts too. Random bits come in blocks of 8 from element 0 on, so that only 0 will do there.
    """
    operands: list[Operand] = [c.p, *c.read[2:], *([c.shadow] if c.shadow else [])]
    pairs = [*zip(addresses, (*operands, c.p), strict=False), *([(g, c.g)] if g is not None else [])]
    choices = (0,) if c.stochastic else range(c.width)
    return [h for h in choices if all((a + h * x.size) % min(16, c.width * x.size) == 0 for a, x in pairs)]


def table(c: Variant, tensors: Sequence[int], rows: Sequence[int], addresses: Sequence[Sequence[int]]) -> Words:
    """Return the static words of the tensors of a variant: ``addresses`` also has what rows need."""
    found = np.zeros((len(tensors), c.record), np.uint64)
    found[:, 0] = tensors
    found[:, 1] = rows
    found[:, 2 : 2 + len(addresses[0])] = addresses
    return found


def rows_of_a_block(total: int, multiprocessors: int) -> int:
    """Return how many rows a block takes."""
    return -(-total // (multiprocessors * WAVES * TEAMS)) * TEAMS


def bytes_of(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the bytes of a contiguous array."""
    return np.ascontiguousarray(a).reshape(-1).view(np.uint8)
