"""What is wrong with an array, in words. The engines find out that something is; these functions say what and raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def masked(array: Any) -> bool:
    """Whether ``array`` hides some of its elements, which a kernel on raw memory would not see."""
    return isinstance(array, np.ma.MaskedArray)


def parameters(names: Sequence[str], params: Sequence[Any]) -> None:
    """Raise where one of ``params`` cannot be updated in place."""
    if not params:
        raise ValueError("the list of parameters is empty: at least one array is needed")
    for name, p in zip(names, params, strict=True):
        dense_array(p, name)
        if p.dtype != params[0].dtype:
            raise TypeError(
                f"{name} is {p.dtype} and {names[0]} is {params[0].dtype}: all parameters of an optimizer share one"
            )
        if not p.flags.writeable:
            raise ValueError(f"{name} is read-only: parameters are updated in place")


def plain_array(a: Any, name: str) -> None:
    """Raise where ``a`` is no aligned NumPy array of float32 or float64 in the machine's byte order."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} is {type(a).__name__} {_short(a)}: a NumPy array is needed")
    if masked(a):
        raise TypeError(f"{name} is a masked array: fill it first, with a.filled(value)")
    if a.dtype not in DTYPES or not a.dtype.isnative:
        raise TypeError(f"{name} has dtype {a.dtype.str!r} ({a.dtype}): native float32 or float64 is needed")
    if not a.flags.aligned:
        raise ValueError(
            f"{name} is not aligned to its element size ({a.itemsize} bytes): copy it first, with a.copy()"
        )


def dense_array(a: Any, name: str) -> None:
    """Raise where the memory of ``a`` has gaps or repeats, besides what ``plain_array`` refuses."""
    plain_array(a, name)
    want = a.itemsize
    for stride, length in sorted((s, n) for s, n in zip(a.strides, a.shape, strict=True) if n != 1):
        if stride != want and a.size:
            raise ValueError(
                f"{name} has strides {a.strides} for shape {a.shape}: its elements must fill their memory without gaps "
                "(np.ascontiguousarray makes such a copy)"
            )
        want *= length


def rows_array(a: Any, name: str) -> None:
    """Raise where ``a`` is not C-contiguous, besides what ``plain_array`` refuses."""
    plain_array(a, name)
    if not a.flags.c_contiguous:
        raise ValueError(f"{name} has strides {a.strides} for shape {a.shape}: np.ascontiguousarray is needed")


def reject(a: Any, p: np.ndarray[Any, Any], name: str, zero: bool = False) -> NoReturn:
    """Raise the error that says why ``a`` does not go with the parameter ``p``."""
    plain_array(a, name)
    if a.dtype != p.dtype:
        raise TypeError(f"{name} has dtype {a.dtype}, the parameter {p.dtype}: they must agree")
    if a.shape != p.shape:
        raise ValueError(f"{name} has shape {a.shape}, the parameter {p.shape}: they must agree")
    if a.strides != p.strides:
        raise ValueError(
            f"{name} has strides {a.strides}, the parameter {p.strides}: both must lie in memory in the same order "
            "(np.ascontiguousarray or np.asfortranarray makes such a copy)"
        )
    if zero and not a.flags.writeable:
        raise ValueError(f"{name} is read-only: this step writes to it")
    raise ValueError(f"{name} does not go with the parameter: {a.__array_interface__}, {p.__array_interface__}")


def changed(a: np.ndarray[Any, Any], name: str) -> NoReturn:
    """Raise the error for an array that is no longer what it was when the optimizer was made."""
    if not a.flags.writeable:
        raise ValueError(f"{name} has become read-only since the optimizer was made: it is updated in place")
    raise ValueError(
        f"{name} was resized, moved or given another dtype since the optimizer was made (now {a.shape}, {a.dtype}): "
        "make a new optimizer"
    )


def _short(a: Any) -> str:
    text = repr(a)
    return text if len(text) <= 60 else text[:57] + "..."
