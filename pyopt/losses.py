"""Losses: value and gradient in one call."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import Array
from .kernels import checks
from .kernels.losses import LOSSES


def squared_error(
    prediction: Array, target: Array, reduction: str = "mean", out: Array | None = None
) -> tuple[float, Array]:
    """Return the squared error and its gradient with respect to the prediction.

    Parameters
    ----------
    prediction, target : arrays of one shape and dtype, float32 or float64, C-contiguous
    reduction : "mean" or "sum"
        Over all elements, as in ``torch.nn.MSELoss``.
    out : array like prediction, optional
        Takes the gradient; it must not share memory with the others.

    Returns
    -------
    value : float
    gradient : array like prediction

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit, or for the mean of nothing.

    See ``pyopt.kernels.losses.squared_error`` for the equations.
    """
    checks.rows_array(prediction, "prediction")
    _like(target, prediction, "target", "prediction")
    mean = _is_mean(reduction, prediction.size)
    gradient = _gradient(out, prediction, target, "prediction")
    return LOSSES["squared_error"].compute(prediction, target, gradient, mean), gradient


def softmax_cross_entropy(
    logits: Array, target: Array, reduction: str = "mean", out: Array | None = None
) -> tuple[float, Array]:
    """Return the cross-entropy of integer labels under softmax(logits), and its gradient with respect to the logits.

    Parameters
    ----------
    logits : array of shape (rows, classes), float32 or float64, C-contiguous
    target : array of shape (rows,) of any integer dtype
        The label of each row, in [0, classes).
    reduction : "mean" or "sum"
        Over rows, as in ``torch.nn.CrossEntropyLoss``.
    out : array like logits, optional
        Takes the gradient; it must not share memory with the others.

    Returns
    -------
    value : float
    gradient : array like logits

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an array does not fit, a label is out of range, or for the mean of nothing.

    See ``pyopt.kernels.losses.softmax_cross_entropy`` for the equations.
    """
    checks.rows_array(logits, "logits")
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits has shape {logits.shape}: must be (rows, classes) with at least one class")
    labels = _labels(target, *logits.shape)
    mean = _is_mean(reduction, len(logits))
    gradient = _gradient(out, logits, labels, "logits")
    return LOSSES["softmax_cross_entropy"].compute(logits, labels, gradient, mean), gradient


def _labels(target: Any, rows: int, classes: int) -> Array:
    """Return checked labels as the kernel takes them."""
    if checks.masked(target):
        raise TypeError("target is a masked array: fill it first, with a.filled(value)")
    labels = np.asarray(target)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"target has dtype {labels.dtype}: must be integers, the label of each row")
    if labels.shape != (rows,):
        raise ValueError(f"target has shape {labels.shape}: must be ({rows},), the label of each row")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"target[{first}] is {labels[first]}: must be in [0, {classes})")
    return np.ascontiguousarray(labels, np.int64)


def _is_mean(reduction: str, count: int) -> bool:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r}: must be 'mean' or 'sum'")
    if reduction == "mean" and count == 0:
        raise ValueError("the mean of nothing is undefined: the batch is empty (reduction='sum' gives 0.0)")
    return reduction == "mean"


def _gradient(out: Array | None, inputs: Array, target: Array, name: str) -> Array:
    """Return the array that takes the gradient."""
    if out is None:
        return np.empty_like(inputs, subok=False)
    _like(out, inputs, "out", name)
    if not out.flags.writeable:
        raise ValueError("out is read-only: it takes the gradient")
    if np.may_share_memory(out, inputs) or np.may_share_memory(out, target):
        raise ValueError(f"out shares memory with {name} or target: the gradient would overwrite it")
    return out


def _like(a: Any, other: Array, name: str, other_name: str) -> None:
    checks.rows_array(a, name)
    if a.dtype != other.dtype:
        raise TypeError(f"{name} has dtype {a.dtype}, {other_name} {other.dtype}: they must agree")
    if a.shape != other.shape:
        raise ValueError(f"{name} has shape {a.shape}, {other_name} {other.shape}: they must agree")
