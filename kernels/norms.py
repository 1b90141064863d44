"""Sums over one tree, so that no bit depends on threads, chunks or instruction sets.

A leaf is 4096 terms in float64: term i goes to lane i mod 32, lanes fold by halves. Leaves fold in pairs, in order; an
odd one is carried up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LEAF = 4096


def tree_sum(terms: np.ndarray[Any, Any]) -> float:
    """Return the sum of a float64 vector over the tree."""
    leaves = [_leaf(terms[i : i + LEAF]) for i in range(0, len(terms), LEAF)] or [0.0]
    while len(leaves) > 1:
        pairs = [a + b for a, b in zip(leaves[::2], leaves[1::2], strict=False)]
        leaves = pairs + leaves[len(leaves) & ~1 :]
    return float(leaves[0])


def _leaf(terms: np.ndarray[Any, Any]) -> np.float64:
    lanes = np.zeros(32)
    for i in range(0, len(terms), 32):
        lanes[: len(terms[i : i + 32])] += terms[i : i + 32]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    return lanes[0]  # type: ignore[no-any-return]
