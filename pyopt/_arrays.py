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


def beside(p: Array, start: float | Array) -> Array:
    """Return a new array of p's shape, dtype and strides that holds ``start``.

    Its address has p's offset within a cache line, so that one short first tile aligns both.
    """
    raw = np.empty(p.nbytes + 64, np.uint8)
    offset = (p.__array_interface__["data"][0] - raw.__array_interface__["data"][0]) % 64
    state: Array = np.ndarray(p.shape, p.dtype, raw, offset, p.strides)
    state[...] = start
    return state
