"""What is wrong with an array, in words. The engines find out that something is; these functions say what and raise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NoReturn

import numpy as np

from . import view
from .numerics import codecs
from .view import View

REALS = ("float32", "float64")  # what is computed in
_REALS = tuple(map(np.dtype, REALS))
STORED = tuple(row.name for row in codecs.allowed("param"))  # of parameters, and of what losses and layers take


def either(names: Sequence[str]) -> str:
    """Return names as a sentence has them: a, b or c."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def masked(array: Any) -> bool:
    """Whether ``array`` hides some of its elements, which a kernel on raw memory would not see."""
    return isinstance(array, np.ma.MaskedArray)


@cache
def disguised(kind: Any) -> bool:
    """Whether arrays of a class may say something else about themselves than what NumPy knows of their memory."""
    facts = ("shape", "strides", "dtype", "flags", "ndim", "size", "itemsize", "nbytes", "__getattribute__", "__len__")
    return kind is not np.ndarray and any(getattr(kind, name) is not getattr(np.ndarray, name) for name in facts)


def parameters(names: Sequence[str], params: Sequence[Any]) -> None:
    """Raise where one of ``params`` cannot be updated in place."""
    if not params:
        raise ValueError("the list of parameters is empty: at least one array is needed")
    for name, p in zip(names, params, strict=True):
        dense_array(p, name, STORED)
        if not p.flags.writeable:
            raise ValueError(f"{name} is read-only: parameters are updated in place")


def plain_array(a: Any, name: str, dtypes: Sequence[str] = REALS) -> None:
    """Raise where ``a`` is no aligned NumPy array of one of ``dtypes`` in the machine's byte order."""
    if type(a) is np.ndarray and a.dtype in _REALS and dtypes in (REALS, STORED) and a.flags.aligned:
        return  # what nearly all are, without building the name of a dtype
    if not isinstance(a, np.ndarray):
        tensor = "; a tensor on the CPU has one, t.detach().numpy()" if hasattr(type(a), "detach") else ""
        raise TypeError(f"{name} is {type(a).__name__} {_short(a)}: a NumPy array is needed{tensor}")
    if masked(a):
        raise TypeError(f"{name} is a masked array: fill it first, with a.filled(value)")
    if disguised(type(a)):  # type: ignore[arg-type]
        raise TypeError(f"{name} is {type(a).__name__}, a class with attributes of its own in the place of NumPy's: "
                        "a.view(np.ndarray) is needed")  # fmt: skip
    if a.dtype.name not in dtypes or not a.dtype.isnative:
        raise TypeError(f"{name} has dtype {a.dtype.str!r} ({a.dtype}): native {either(dtypes)} is needed")
    if not a.flags.aligned:
        raise ValueError(
            f"{name} is not aligned to its element size ({a.itemsize} bytes): copy it first, with a.copy()"
        )


def dense_array(a: Any, name: str, dtypes: Sequence[str] = REALS) -> None:
    """Raise where the memory of ``a`` has gaps or repeats, besides what ``plain_array`` refuses."""
    plain_array(a, name, dtypes)
    want = a.itemsize
    for stride, length in sorted((s, n) for s, n in zip(a.strides, a.shape, strict=True) if n != 1):
        if stride != want and a.size:
            raise ValueError(
                f"{name} has strides {a.strides} for shape {a.shape}: its elements must fill their memory without gaps "
                "(np.ascontiguousarray makes such a copy)"
            )
        want *= length


def rows_array(a: Any, name: str, dtypes: Sequence[str] = REALS) -> None:
    """Raise where ``a`` is not C-contiguous, besides what ``plain_array`` refuses."""
    plain_array(a, name, dtypes)
    if not a.flags.c_contiguous:
        raise ValueError(f"{name} has strides {a.strides} for shape {a.shape}: np.ascontiguousarray is needed")


def like(a: Any, p: np.ndarray[Any, Any], name: str, dtypes: Sequence[str]) -> None:
    """Raise where ``a`` is not of one of ``dtypes``, or does not lie in memory as ``p`` does."""
    order = "C" if p.flags.c_contiguous else "F" if p.flags.f_contiguous else "K"
    mend = f"np.asarray(g, np.{dtypes[0]}, order={order!r})"  # of the dtype, too: einsum, say, changes both
    if isinstance(a, np.ndarray) and not masked(a) and a.dtype.kind == "f" and a.dtype.name not in dtypes:
        raise TypeError(f"{name} has dtype {a.dtype}: native {either(dtypes)} is needed ({mend} makes such a copy)")
    plain_array(a, name, dtypes)
    if a.shape != p.shape:
        raise ValueError(f"{name} has shape {a.shape}, the parameter {p.shape}: they must agree")
    steps = [s * p.itemsize for s, n in zip(a.strides, a.shape, strict=True) if n > 1]
    if steps != [s * a.itemsize for s, n in zip(p.strides, p.shape, strict=True) if n > 1] and p.size:
        hint = mend if order != "K" else "np.copyto into np.empty_like of the parameter"
        raise ValueError(
            f"{name} has strides {a.strides}, the parameter {p.strides}: both must lie in memory in the same order "
            f"({hint} makes such a copy)"
        )


def overlap(arrays: Iterable[tuple[str, Any]], others: Iterable[tuple[str, Any]] = ()) -> tuple[str, str] | None:
    """Return two names whose arrays share memory, one of ``arrays`` first, or None; ``others`` may do so in pairs."""
    spans = sorted(
        (start, start + a.nbytes, (i, name))
        for i, given in enumerate((arrays, others))
        for name, a in given
        if isinstance(a, np.ndarray) and a.size
        for start in [a.__array_interface__["data"][0]]
    )
    end, last = 0, (0, "")  # of the one that reaches furthest
    for start, stop, own in spans:
        if start < end and not last[0] == own[0] == 1:
            first, second = (own, last) if own[0] < last[0] else (last, own)
            return first[1], second[1]
        end, last = max((end, last), (stop, own))
    return None


def count(grads: Sequence[Any], params: int) -> None:
    """Raise where there is not one gradient, or None, for each parameter."""
    if len(grads) != params:
        raise ValueError(f"{len(grads)} gradients for {params} parameters: give one each, or None to skip one")


def gradients_of(p: np.ndarray[Any, Any]) -> tuple[str, ...]:
    """Return the names of the types that gradients of ``p`` may be stored in."""
    return tuple(row.name for row in codecs.allowed("grad", codecs.BY_NAME[p.dtype.name].real))


def reject(a: Any, p: np.ndarray[Any, Any], name: str, dtypes: Sequence[str], zero: bool = False) -> NoReturn:
    """Raise the error that says why ``a``, to be of one of ``dtypes``, does not go with the parameter ``p``."""
    like(a, p, name, dtypes)
    if zero and not a.flags.writeable:
        raise ValueError(f"{name} is read-only: this step writes to it")
    raise ValueError(f"{name} does not go with the parameter: {a.__array_interface__}, {p.__array_interface__}")


def reject_view(v: View, p: np.ndarray[Any, Any], name: str, dtypes: Sequence[str], zero: bool) -> NoReturn:
    """Raise the error that says why a view, of one of ``dtypes``, does not go with the parameter ``p``."""
    kinds = [view.KINDS[dtype] for dtype in dtypes]
    if v.kind not in kinds:
        raise TypeError(f"{name} is {v.kind}, the parameter {p.dtype}: {' or '.join(kinds)} is needed")
    view.check(v if zero else v._replace(readonly=False), name)
    view.agree(v, view.of(p), name)
    raise ValueError(f"{name} does not go with the parameter: {v}, {p.__array_interface__}")


def changed(a: np.ndarray[Any, Any], name: str) -> NoReturn:
    """Raise the error for an array that is no longer what it was when the optimizer was made."""
    if not a.flags.writeable:
        raise ValueError(f"{name} has become read-only since the optimizer was made: it is updated in place")
    raise ValueError(
        f"{name} was reshaped, resized, moved or given another dtype since the optimizer was made "
        f"(now {a.shape}, {a.dtype}): make a new optimizer"
    )


def _short(a: Any) -> str:
    text = repr(a)
    return text if len(text) <= 60 else text[:57] + "..."


def row_gradient(indices: Any, values: Any, p: np.ndarray[Any, Any], name: str, dtypes: Sequence[str]) -> None:
    """Raise where ``values`` are no gradients of the rows ``indices`` of the parameter ``p``."""
    rows_array(p, name, STORED)
    if p.ndim == 0:
        raise ValueError(f"{name} has no rows: it is a single number")
    row_indices(indices, len(p), name)
    rows_array(values, "values", dtypes)
    if values.shape != (len(indices), *p.shape[1:]):
        raise ValueError(
            f"values have shape {values.shape}: must be {(len(indices), *p.shape[1:])}, a row for each index"
        )


def row_indices(indices: Any, rows: int, name: str) -> None:
    """Raise where ``indices`` are no vector of int64 in [0, rows)."""
    if not isinstance(indices, np.ndarray) or indices.dtype not in (np.int64, np.uint64) or indices.ndim != 1:
        raise TypeError(f"indices are {_short(indices)}: a vector of integers is needed")
    if len(indices) and not (indices.min() >= 0 and indices.max() < rows):  # as those of uint64 that do not fit
        raise ValueError(f"indices from {indices.min()} to {indices.max()}: must be in [0, {rows}), the rows of {name}")


def beside(own: Any, states: int, name: str) -> None:
    """Raise where there is not one state beside a parameter for each of its rule's, or a scale, which none has yet."""
    if len(own.states) != states or any(scale is not None for scale in own.scales):
        have = f"{len(own.states)} states, scales {own.scales}"
        raise ValueError(f"{have} for {name}: {states} states without scales are needed")


def row_decay(a: Any, rows: int, name: str) -> None:
    """Raise where ``a`` is not what an optimizer keeps for rows that lag."""
    dense_array(a, name, ("float64",))
    if a.shape != (rows + 1,) or not a.flags.writeable:
        raise ValueError(f"{name} has shape {a.shape}: must be {(rows + 1,)}, writeable")
