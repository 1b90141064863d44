"""Where an array lies, whatever library made it: what the engines take in the place of an array.

A view keeps nothing alive: whoever hands one over holds the memory until the work on it is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .numerics import codecs

KINDS = {row.name: row.short for row in codecs.TYPES}
SIZES = {row.short: row.size for row in codecs.TYPES}


class View(NamedTuple):
    """Where an array lies; strides in elements."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    kind: str
    readonly: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dense(self) -> bool:
        """Whether the elements fill their memory without gaps."""
        want = 1
        for stride, length in sorted((s, n) for s, n in zip(self.strides, self.shape, strict=True) if n != 1):
            if stride != want:
                return self.size == 0
            want *= length
        return True


def of(a: np.ndarray[Any, Any]) -> View:
    """Return where an array of NumPy's lies, of a dtype that is stored."""
    steps = tuple(s // a.itemsize for s in a.strides)
    return View(a.ctypes.data, a.shape, steps, KINDS[a.dtype.name], not a.flags.writeable)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a C-contiguous array, in elements."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def in_order(v: View) -> bool:
    """Whether an array is C-contiguous."""
    steps = contiguous(v.shape)
    return v.size == 0 or all(n <= 1 or a == b for n, a, b in zip(v.shape, v.strides, steps, strict=True))


def check(v: View, name: str) -> None:
    """Raise where an array cannot be stepped in place."""
    size = SIZES[v.kind]
    if v.address % size:
        raise ValueError(f"{name} is not aligned to its element size ({size} bytes): copy it first")
    if not v.dense:
        raise ValueError(f"{name} has strides {v.strides} for shape {v.shape}: its elements must fill their memory "
                         "without gaps (a contiguous copy does)")  # fmt: skip
    if v.readonly:
        raise ValueError(f"{name} is read-only: this step writes to it")


def agree(v: View, p: View, name: str) -> None:
    """Raise where an array does not lie in memory as its parameter does."""
    if v.shape != p.shape:
        raise ValueError(f"{name} has shape {v.shape}, the parameter {p.shape}: they must agree")
    if v.strides != p.strides and any(
        n != 1 and a != b for n, a, b in zip(p.shape, v.strides, p.strides, strict=True)
    ):  # fmt: skip
        raise ValueError(f"{name} has strides {v.strides}, the parameter {p.strides} (in elements): both must lie in "
                         "memory in the same order")  # fmt: skip
