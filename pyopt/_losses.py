"""What a loss is given, checked before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays.backend import Array
from .kernels import checks
from .kernels.hyper import Hyper
from .validate import one_of

REDUCTIONS = ("mean", "sum", "none")


def number(hyper: Hyper, value: Any, real: type, above_zero: bool = False) -> float:
    """Return an option in its range, which stays there when it is rounded to the dtype of the prediction."""
    given = hyper.check(value)
    with np.errstate(all="ignore"):
        rounded = real(given)
    if not np.isfinite(rounded) or (above_zero and not rounded > 0):
        allowed = "finite and > 0" if above_zero else hyper.range
        raise ValueError(f"{hyper.name}={value!r}: must be {allowed} as {np.dtype(real)}")
    return float(given)


def weights(given: Any, name: str, dtype: type[Any], shapes: list[tuple[int, ...]]) -> Array:
    """Return weights as a C-contiguous array of ``dtype``, of one of the shapes, finite and >= 0."""
    if checks.masked(given):
        raise TypeError(f"{name} is a masked array: fill it first, with a.filled(value)")
    a = np.asarray(given)
    if a.dtype.kind not in "biuf" and a.dtype.name not in checks.STORED:
        raise TypeError(f"{name} has dtype {a.dtype}: must be real numbers")
    if a.shape not in shapes:
        raise ValueError(f"{name} has shape {a.shape}: must be {' or '.join(map(str, dict.fromkeys(shapes)))}")
    with np.errstate(all="ignore"):
        a = np.ascontiguousarray(a, dtype).reshape(a.shape)
    within(a, name, np.inf, "finite and >= 0")
    return a


def within(a: Array, name: str, high: float, allowed: str) -> None:
    """Raise where an element is below 0, above ``high``, infinite or NaN. NumPy's min and max keep a NaN."""
    least, most = (a.min(), a.max()) if a.size else (0.0, 0.0)
    if not (least >= 0 and most <= high and most < np.inf):
        wrong = ~((a >= 0) & (a <= high) & (a < np.inf))
        first = np.unravel_index(int(wrong.argmax()), a.shape)
        place = f"[{', '.join(map(str, first))}]" if first else ""
        raise ValueError(f"{name}{place} is {a[first]}: must be {allowed}")


def labels(target: Any, rows: int, classes: int, ignore_index: int) -> Array:
    """Return labels as the kernel takes them: -1 stands for one that is ignored."""
    if checks.masked(target):
        raise TypeError("target is a masked array: fill it first, with a.filled(value)")
    given = np.array(target)  # a copy: another thread may write to theirs after the checks
    if given.dtype.kind not in "iu":
        raise TypeError(
            f"target has dtype {given.dtype} and shape {given.shape}: must be integers, the label of each row, or "
            "probabilities in the shape of logits"
        )
    if given.shape != (rows,):
        raise ValueError(f"target has shape {given.shape}: must be ({rows},), the label of each row")
    if rows and given.min() >= 0 and given.max() < classes and not 0 <= ignore_index < classes:
        return np.ascontiguousarray(given, np.int64)  # as nearly always: nothing is wrong and nothing ignored
    ignored = given == ignore_index
    wrong = ((given < 0) | (given >= classes)) & ~ignored
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"target[{first}] is {given[first]}: must be in [0, {classes}) or ignore_index={ignore_index}")
    return np.where(ignored, -1, given.astype(np.int64))  # not sooner: unsigned numbers have no -1


def index(value: Any) -> int:
    """Return ``ignore_index`` as an int."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"ignore_index={value!r}: must be an integer")
    return int(value)


def is_mean(reduction: Any, count: int) -> bool:
    """Say whether the mean is wanted, of so many terms."""
    mean = one_of("reduction", reduction, REDUCTIONS) == "mean"
    if mean and count == 0:
        raise ValueError("the mean of nothing is undefined: the batch is empty (reduction='sum' gives 0.0)")
    return mean
