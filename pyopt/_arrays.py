"""Which engine steps an array, and the memory that pyopt puts beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .kernels import engine, isa, step

Array = np.ndarray[Any, np.dtype[Any]]

_reference = False


def make_plan(*args: Any) -> Any:
    """Return the plan of the engine that steps these arrays; see ``engine.Plan`` for the arguments after the table."""
    return step.Plan(*args) if _reference else engine.Plan(isa.tiles(), *args)


@contextlib.contextmanager
def reference() -> Iterator[None]:
    """Let NumPy step the optimizers that are made inside the ``with`` block."""
    global _reference
    before, _reference = _reference, True
    try:
        yield
    finally:
        _reference = before


def beside(p: Array, start: Any, dtype: np.dtype[Any]) -> Array:
    """Return a new array of p's shape and order in memory that holds ``start``.

    It lies as many elements behind a cache line as p does, so that one short first tile aligns both.
    """
    raw = np.empty(p.size * dtype.itemsize + 64, np.uint8)
    first = p.__array_interface__["data"][0] // p.itemsize * dtype.itemsize
    offset = (first - raw.__array_interface__["data"][0]) % 64
    strides = [stride // p.itemsize * dtype.itemsize for stride in p.strides]
    state: Array = np.ndarray(p.shape, dtype, raw, offset, strides)
    state[...] = start
    return state
