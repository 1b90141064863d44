"""Which engine steps an array, and the memory that pyopt puts beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..kernels.backend import Plan
from ..kernels.cpu import engine, isa
from ..kernels.native import write
from ..kernels.numerics import codecs
from ..kernels.reference import plan as reference_plan
from . import gpu, multi_device

Array = np.ndarray[Any, np.dtype[Any]]

_reference = False


def make_plan(names: Sequence[str], params: Sequence[Any], *args: Any) -> Plan:
    """Return the plan of the engine that steps these arrays; see ``backend.Plan`` for the arguments."""
    if any(map(gpu.on_gpu, params)):
        return multi_device.make_plan(make_plan, names, params, *args)
    if _reference:
        return reference_plan.Plan(names, params, *args)
    return engine.Plan(isa.tiles(), names, params, *args)  # type: ignore[no-any-return]


def check_parameters(names: Sequence[str], params: Sequence[Any]) -> None:
    """Raise where a parameter cannot be updated in place."""
    here = [(name, p) for name, p in zip(names, params, strict=True) if not gpu.on_gpu(p)]
    if len(here) < len(params):
        gpu.check_parameters(names, params)
    if here or not params:
        engine.check_parameters([name for name, _ in here], [p for _, p in here])


def described(a: Any) -> tuple[tuple[int, ...], Any]:
    """Return shape and dtype in NumPy's terms, None for what has none."""
    if gpu.on_gpu(a):
        return gpu.described(a)
    return getattr(a, "shape", None), getattr(a, "dtype", None)  # type: ignore[return-value]


def copied(a: Any) -> Any:
    """Return the values of an array in a new one of NumPy's, and anything else as it is."""
    if isinstance(a, np.ndarray):
        return a.copy(order="K")
    return gpu.fetched(a) if gpu.on_gpu(a) else a


def kept(p: Any) -> Any:
    """Return a copy of an array where it is."""
    return gpu.kept(p) if gpu.on_gpu(p) else p.copy(order="K")


def stored(a: Any, p: Any) -> Any:
    """Return what of the numbers of ``a`` the dtype of ``p`` can hold, where both are."""
    if gpu.on_gpu(p):
        return gpu.stored(a, p)
    return a if a.dtype == p.dtype else codecs.encode(codecs.decode(a, codecs.compute(p.dtype)), p.dtype)


def put(params: Sequence[Any], values: Sequence[Any]) -> None:
    """Write values into parameters of their shapes and dtypes."""
    pairs = list(zip(params, values, strict=True))
    for p, value in pairs:
        if gpu.on_gpu(p):
            gpu.put(p, value)
    write(pair for pair in pairs if not gpu.on_gpu(pair[0]))


@contextlib.contextmanager
def reference() -> Iterator[None]:
    """Let NumPy step the optimizers that are made inside the ``with`` block."""
    global _reference
    before, _reference = _reference, True
    try:
        yield
    finally:
        _reference = before


def placed_like(p: Any, start: Any, dtype: np.dtype[Any]) -> Array:
    """Return a new array of p's shape and order in memory that holds ``start``, where p is.

    It lies as many elements behind a multiple of 512 bytes as p does: one short first tile aligns both to cache lines,
    and no two are a little apart modulo 4096. A processor takes a read for one of what it has just written where the
    last 12 bits of the addresses agree, and waits: AdamW in a cache takes twice as long where p and a state are 64
    bytes apart by these bits.
    """
    if gpu.on_gpu(p):
        return gpu.placed_like(p, start, dtype)  # type: ignore[no-any-return]
    raw = np.empty(p.size * dtype.itemsize + 512, np.uint8)
    first = p.__array_interface__["data"][0] // p.itemsize * dtype.itemsize
    offset = (first - raw.__array_interface__["data"][0]) % 512
    strides = [stride // p.itemsize * dtype.itemsize for stride in p.strides]
    state: Array = np.ndarray(p.shape, dtype, raw, offset, strides)
    with np.errstate(all="ignore"):
        state[...] = start
    return state


def copy_like(p: Any, values: Array) -> Array:
    """Return a copy of an array of any shape, where p is."""
    return gpu.copy_like(p, values) if gpu.on_gpu(p) else values.copy().view()  # which nobody can resize


def is_list(given: Any) -> bool:
    """Return whether ``given`` can be gone through for arrays, and is no array, text or dict itself."""
    if type(given) is list:
        return True
    return isinstance(given, Iterable) and not isinstance(given, (str, Mapping)) and not gpu.is_array(given)


def named(params: Any, first: int) -> list[tuple[str, Any]]:
    """Return (name, array or tensor) pairs, with a name made up where none is given."""
    if not is_list(params):
        raise TypeError(f"params is {type(params).__name__}: a list of arrays is needed, such as [w, b]")
    pairs = []
    for i, item in enumerate(params, first):
        named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        name, array = item if named else (f"params[{i}]", item)
        pairs.append((name, array))
    if not pairs:
        raise ValueError("the list of parameters is empty: at least one array is needed")
    return pairs
