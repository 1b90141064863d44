"""Which engine steps an array, and the memory that pyopt puts beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import _device
from .kernels import engine, isa, step

Array = np.ndarray[Any, np.dtype[Any]]

_reference = False


def make_plan(*args: Any) -> Any:
    """Return the plan of the engine that steps these arrays; see ``engine.Plan`` for the arguments after the table."""
    if any(map(_device.on_gpu, args[2])):
        return _device.make_plan(make_plan, *args)
    return step.Plan(*args) if _reference else engine.Plan(isa.tiles(), *args)


def check_parameters(names: Sequence[str], params: Sequence[Any]) -> None:
    """Raise where a parameter cannot be updated in place."""
    here = [(name, p) for name, p in zip(names, params, strict=True) if not _device.on_gpu(p)]
    if len(here) < len(params):
        _device.check_parameters(names, params)
    if here or not params:
        engine.check_parameters([name for name, _ in here], [p for _, p in here])


def copied(a: Any) -> Any:
    """Return a copy of an array in NumPy's, and anything else as it is: what a state_dict holds."""
    return a.copy(order="K") if isinstance(a, np.ndarray) else a.get() if _device.on_gpu(a) else a


def swap(p: Any, ema: Any) -> None:
    """Exchange the contents of two arrays."""
    if _device.on_gpu(p):
        _device.swap(p, ema)
        return
    kept = p.copy(order="K")
    p[...] = ema
    ema[...] = kept


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

    Its address has p's offset within a cache line, so that one short first tile aligns both. Beside an array on a GPU
    it is one there.
    """
    if _device.on_gpu(p):
        return _device.beside(p, start)  # type: ignore[no-any-return]
    raw = np.empty(p.nbytes + 64, np.uint8)
    offset = (p.__array_interface__["data"][0] - raw.__array_interface__["data"][0]) % 64
    state: Array = np.ndarray(p.shape, p.dtype, raw, offset, p.strides)
    state[...] = start
    return state
