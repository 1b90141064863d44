"""Sums over one tree, so that no bit depends on threads, chunks or instruction sets.

A leaf is 4096 terms in float64: term i goes to lane i mod 32, lanes fold by halves. Leaves fold in pairs, in order; an
odd one is carried up.

Sums over a batch have leaves of 64 samples instead: term j of each sample goes to lane j mod 32, one sample after
another. Where a sample has one term, these are plain sums of 64 numbers, which need not lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LEAF = 4096
SAMPLES = 64
LIFT = 2.0**64


def tree_sum(terms: np.ndarray[Any, Any]) -> float:
    """Return the sum of a float64 vector over the tree."""
    return float(pairwise_sum(leaves(terms)))


def squares(x: np.ndarray[Any, Any]) -> list[float]:
    """Return the leaves of the sum of squares of ``x``, in the order of its memory; exact in float64 for float32."""
    y = x.ravel(order="K").astype(np.float64)
    return leaves(y * y)


def leaves(terms: np.ndarray[Any, Any]) -> list[float]:
    """Return the sums of the leaves of a float64 vector."""
    return [float(row_sum(terms[None, i : i + LEAF])[0]) for i in range(0, len(terms), LEAF)]


def batch_sum(terms: np.ndarray[Any, Any]) -> Any:
    """Return the sums over samples and pixels of float64 terms (samples, channels, pixels), one for each channel."""
    sums: list[Any] = []
    for i in range(0, len(terms), SAMPLES):
        lanes = np.zeros((terms.shape[1], 32))
        for sample in terms[i : i + SAMPLES]:
            for j in range(0, sample.shape[1], 32):
                lanes[:, : sample[:, j : j + 32].shape[1]] += sample[:, j : j + 32]
        sums.append(fold_lanes(lanes.T))
    return pairwise_sum(sums) if sums else np.zeros(terms.shape[1])


def row_sum(terms: np.ndarray[Any, Any]) -> Any:
    """Return the sum of each row of float64 terms (rows, n): term j goes to lane j mod 32, lanes fold by halves."""
    lanes = np.zeros((len(terms), 32))
    for j in range(0, terms.shape[1], 32):
        lanes[:, : terms[:, j : j + 32].shape[1]] += terms[:, j : j + 32]
    return fold_lanes(lanes.T)


def pairwise_sum(leaves: list[Any]) -> Any:
    """Add leaves in pairs until one is left."""
    while len(leaves) > 1:
        pairs = [a + b for a, b in zip(leaves[::2], leaves[1::2], strict=False)]
        leaves = pairs + leaves[len(leaves) & ~1 :]
    return leaves[0] if leaves else 0.0


def clip_factor(norm: float, largest: float) -> float:
    """Return what a gradient of this norm is multiplied by to have a norm of at most ``largest``, as in torch."""
    factor = largest / (norm + 1e-6)
    return 1.0 if largest == math.inf or factor > 1.0 else factor


def by_row(p: np.ndarray[Any, Any], function: Callable[..., float], scalars: Sequence[float]) -> np.ndarray[Any, Any]:
    """Return ``function(squares, size, *scalars)`` of each row, in p's dtype and shaped to multiply with ``p``.

    ``squares`` is the sum of the squares of a row of ``size`` elements; a row is what the first index selects. The
    scalars are rounded to p's dtype and given as Python's floats: beside those, NumPy's would round to float32.
    """
    real = p.dtype.type
    rounded = [float(real(x)) for x in scalars]
    count = len(p) if p.ndim else 1
    size = max(1, p.size // max(1, count))
    sums = [pairwise_sum(squares(row)) for row in p.reshape(count, -1)] if p.size else [0.0] * count
    factors = [real(function(x, size, *rounded)) for x in sums]
    return np.array(factors, real).reshape(count, *[1] * (p.ndim - 1)) if p.ndim else np.array(factors[0])


def row_gradient(p: np.ndarray[Any, Any], slope: Callable[..., float], scalars: Sequence[float]) -> Any:
    """Return ``slope(squares, size, *scalars) * p`` of each row.

    The slope of a short row may overflow where the gradient does not: that row is multiplied by LIFT first.
    """
    factor, lift = by_row(p, slope, scalars), p.dtype.type(1)
    large = factor == np.inf
    if large.any():
        lifted = by_row(p, lambda squares, *more: slope(squares * LIFT * LIFT, *more), scalars)
        factor, lift = np.where(large, lifted, factor), np.where(large, p.dtype.type(LIFT), lift)
    return factor * (p * lift)


def fold_lanes(lanes: np.ndarray[Any, Any]) -> Any:
    """Add the upper half to the lower one until one lane is left."""
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    return lanes[0]
