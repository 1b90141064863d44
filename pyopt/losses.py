"""Losses: value and gradient in one call, and in one trip through memory.

Every function takes ``reduction``, ``out`` and ``sample_weight`` and returns ``(value, gradient)``:

reduction : "mean", "sum" or "none"
    "mean" divides by the number of elements, as in torch; weights of samples do not change the divisor. For softmax
    cross-entropy it divides by the number of rows, or by the sum of the class weights of the labels, without the rows
    that are ignored. The mean of nothing is an error. With "none" the value is an array of the loss of each element or
    row, in the dtype of the prediction, and the gradient is that of their sum.
out : array like the prediction, optional
    Takes the gradient; it must not share memory with another argument.
sample_weight : array, optional
    Finite and >= 0, of the shape of the prediction or of its first axes: a weight for each element, or for each row.
    Loss and gradient are multiplied by it; a weight of 0 does not hide an infinite loss: 0 times inf is NaN.
value : float
    Summed in float64 in an order that does not depend on threads or instruction set; or an array with "none".
gradient : array like the prediction

Arrays are C-contiguous, float64, float32, bfloat16 (of ml_dtypes) or float16, all of one dtype and, where nothing else
is said, of one shape. 16 bits are computed with in float32; the gradient, and values with "none", are rounded once, to
the nearest. TypeError or ValueError is raised before anything is written where one does not fit or an option is out of
range. Weights are converted to what is computed in.
``pyopt.kernels.losses`` has the equations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _losses, validate
from .arrays.backend import Array
from .arrays.gpu import by_view
from .kernels import checks, loss
from .kernels.hyper import Hyper
from .kernels.losses import LOSSES
from .kernels.numerics import codecs

__all__ = [*LOSSES]  # noqa: PLE0604

Value = float | Array


def __dir__() -> list[str]:
    """Return what users call."""
    return __all__


@by_view("out")
def squared_error(prediction: Array, target: Array, reduction: str = "mean", out: Array | None = None, *,
                  sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the squared error (prediction - target)^2 and its gradient, as ``torch.nn.functional.mse_loss``."""
    return _elementwise("squared_error", {"prediction": prediction, "target": target}, reduction, out, sample_weight)


@by_view("out")
def absolute_error(prediction: Array, target: Array, reduction: str = "mean", out: Array | None = None, *,
                   sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the absolute error |prediction - target| and its gradient, as ``torch.nn.functional.l1_loss``."""
    return _elementwise("absolute_error", {"prediction": prediction, "target": target}, reduction, out, sample_weight)


@by_view("out")
def huber(prediction: Array, target: Array, reduction: str = "mean", out: Array | None = None, *, delta: float = 1.0,
          sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the Huber loss and its gradient, as ``torch.nn.functional.huber_loss``.

    It is half the squared error for errors up to ``delta`` > 0, and a straight line beyond.
    """
    checks.plain_array(prediction, "prediction", checks.STORED)
    real = codecs.compute(prediction.dtype)
    options = {"delta": _losses.number(Hyper("delta", 1.0), delta, real, above_zero=True)}
    arrays = {"prediction": prediction, "target": target}
    return _elementwise("huber", arrays, reduction, out, sample_weight, options)


@by_view("out")
def binary_cross_entropy(logits: Array, target: Array, reduction: str = "mean", out: Array | None = None, *,
                         pos_weight: Any = None, sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the binary cross-entropy of targets in [0, 1] under sigmoid(logits), and its gradient.

    It is ``torch.nn.functional.binary_cross_entropy_with_logits``. ``pos_weight`` >= 0, a number or an array of the
    shape of the last axes of the logits, multiplies the part of the positive targets. Targets are not looked at before
    the pass; where one is not in [0, 1], the equation is what counts.
    """
    checks.rows_array(logits, "logits", checks.STORED)
    shapes = [(), *(logits.shape[k:] for k in range(logits.ndim))]
    real = codecs.compute(logits.dtype)
    weight = _losses.weights(1.0 if pos_weight is None else pos_weight, "pos_weight", real, shapes)
    arrays = {"logits": logits, "target": target}
    return _elementwise("binary_cross_entropy", arrays, reduction, out, sample_weight, {}, {"pos_weight": weight})


@by_view("out")
def focal(logits: Array, target: Array, reduction: str = "mean", out: Array | None = None, *,
          alpha: float | None = 0.25, gamma: float = 2.0,
          sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the focal loss of targets 0 or 1 under sigmoid(logits), and its gradient.

    It is binary cross-entropy times (1 - p)^gamma, where p is the probability of the right class, and times ``alpha``
    in [0, 1] for a target of 1 and 1 - alpha for 0; 1 for both where alpha is None. ``gamma`` >= 0.
    """
    checks.plain_array(logits, "logits", checks.STORED)
    share = Hyper("alpha", None, high=1.0, closed=True).check(alpha)
    options = {"alpha": share, "gamma": _losses.number(Hyper("gamma", 2.0), gamma, codecs.compute(logits.dtype))}
    return _elementwise("focal", {"logits": logits, "target": target}, reduction, out, sample_weight, options)


@by_view("out")
def hinge(prediction: Array, target: Array, reduction: str = "mean", out: Array | None = None, *,
          sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the hinge loss max(0, 1 - target * prediction) of targets -1 or 1, and its gradient."""
    return _elementwise("hinge", {"prediction": prediction, "target": target}, reduction, out, sample_weight)


@by_view("out")
def squared_hinge(prediction: Array, target: Array, reduction: str = "mean", out: Array | None = None, *,
                  sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the squared hinge loss max(0, 1 - target * prediction)^2 of targets -1 or 1, and its gradient."""
    return _elementwise("squared_hinge", {"prediction": prediction, "target": target}, reduction, out, sample_weight)


@by_view("out")
def poisson(log_rate: Array, target: Array, reduction: str = "mean", out: Array | None = None, *,
            sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the Poisson loss exp(log_rate) - target * log_rate and its gradient.

    It is ``torch.nn.functional.poisson_nll_loss`` with its defaults log_input=True and full=False.
    """
    return _elementwise("poisson", {"log_rate": log_rate, "target": target}, reduction, out, sample_weight)


@by_view("out")
def softmax_cross_entropy(logits: Array, target: Array, reduction: str = "mean", out: Array | None = None, *,
                          label_smoothing: float = 0.0, class_weights: Any = None, ignore_index: int = -100,
                          sample_weight: Any = None) -> tuple[Value, Array]:  # fmt: skip
    """Return the cross-entropy under softmax(logits), and its gradient, as ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    logits : array of shape (rows, classes), C-contiguous
    target : array of shape (rows,) of any integer dtype, or array like logits
        The label of each row, in [0, classes) or ``ignore_index``; or the probability of each class, in [0, 1].
    reduction : "mean", "sum" or "none"
        Over rows. The mean divides by the number of rows that are not ignored; with class weights and labels, by the
        sum of the weights of their labels; with probabilities, by the number of rows.
    out : array like logits, optional
    label_smoothing : float in [0, 1]
        This share of the target is spread evenly over all classes.
    class_weights : array of shape (classes,), optional
        Finite and >= 0.
    ignore_index : int
        Rows with this label have loss and gradient 0. Only for labels: with probabilities it must be the default.
    sample_weight : array of shape (rows,), optional

    Returns
    -------
    value : float, or array of shape (rows,)
    gradient : array like logits

    Raises
    ------
    TypeError, ValueError
        Before anything is written, where an argument does not fit, a label is out of range, or the mean has no weight.
    """
    checks.rows_array(logits, "logits", checks.STORED)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits has shape {logits.shape}: must be (rows, classes) with at least one class")
    (rows, classes), real = logits.shape, codecs.compute(logits.dtype)
    smoothing = Hyper("label_smoothing", 0.0, high=1.0, closed=True).check(label_smoothing)
    ignored = _losses.index(ignore_index)
    per_class = None if class_weights is None else _losses.weights(class_weights, "class_weights", real, [(classes,)])
    weight = None if sample_weight is None else _losses.weights(sample_weight, "sample_weight", real, [(rows,)])
    soft = isinstance(target, np.ndarray) and target.dtype.name in checks.STORED and target.ndim == 2
    mean = _losses.is_mean(reduction, rows)
    if soft:
        validate.like(target, logits, "target", "logits")
        _losses.within(target, "target", 1.0, "in [0, 1]")
        if ignored != -100:
            raise ValueError(f"ignore_index={ignored}: only for labels, and target has probabilities")
        count = float(rows)
    else:
        target = _losses.labels(target, rows, classes, ignored)
        count = _divisor(target, per_class, classes) if mean else 1.0
    inputs = {"logits": logits, "target": target, "class_weights": class_weights, "sample_weight": sample_weight}
    gradient = validate.out(out, **{name: a for name, a in inputs.items() if isinstance(a, np.ndarray)})
    values = np.empty(rows, logits.dtype) if reduction == "none" else None
    arrays, scalars = _softmax_arrays(logits, target, smoothing, per_class, weight, 1.0 / count if mean else 1.0)
    total = loss.softmax(arrays, gradient, scalars, smoothing > 0, values)
    return (total / (count if mean else 1.0) if values is None else values), gradient


def _softmax_arrays(logits: Array, target: Array, smoothing: float, per_class: Array | None, weight: Array | None,
                    factor: float) -> tuple[tuple[Array, ...], tuple[float, ...]]:  # fmt: skip
    """Return the arrays and the scalars of the kernel; what is computed here is rounded once."""
    (rows, classes), dtype = logits.shape, codecs.compute(logits.dtype)
    if target.ndim == 1 and smoothing == 0 and per_class is None and weight is None:
        ones = np.ones(rows, dtype)
        return (logits, target, ones, ones, ones), (factor, 0.0)  # the kernel sees no share, and no ignored row
    wide = np.ones(classes) if per_class is None else per_class.astype(np.float64)
    keep, share = (1.0 - smoothing) * wide, (smoothing / classes * wide).astype(dtype)
    weight = np.ones(rows, dtype) if weight is None else weight
    if target.ndim == 2:
        return (logits, target, weight, keep.astype(dtype), share), (factor,)
    hot = np.where(target < 0, 0.0, keep[target] * weight).astype(dtype)
    return (logits, target, hot, weight, share), (factor, math.fsum(share.tolist()) if smoothing else 0.0)


def _divisor(labels: Array, per_class: Array | None, classes: int) -> float:
    """Return what the mean over labels divides by; the sum over classes is exact: its order does not matter."""
    known = labels >= 0
    count = float(np.count_nonzero(known))
    if per_class is not None and count:
        counts = np.bincount(labels[known], minlength=classes)
        count = math.fsum((counts * per_class.astype(np.float64)).tolist())
    if count == 0:
        why = "the class weights of all labels are 0" if known.any() else "every row is ignored"
        raise ValueError(f"the mean of nothing is undefined: {why} (reduction='sum' gives 0.0)")
    return count


def _elementwise(name: str, arrays: dict[str, Array], reduction: str, out: Array | None, sample_weight: Any,
                 options: dict[str, Any] | None = None, more: dict[str, Array] | None = None,
                 ) -> tuple[Value, Array]:  # fmt: skip
    """Check the arguments of an elementwise loss and run it; ``more`` are arrays for the last axes."""
    (first, prediction), (second, target) = arrays.items()
    checks.rows_array(prediction, first, checks.STORED)
    validate.like(target, prediction, second, first)
    mean = _losses.is_mean(reduction, prediction.size)
    weight = None
    if sample_weight is not None:
        shapes = [prediction.shape[:k] for k in range(prediction.ndim, 0, -1)] or [()]
        weight = _losses.weights(sample_weight, "sample_weight", codecs.compute(prediction.dtype), shapes)
    wrong = loss.unknown_label(name, target)
    if wrong is not None:
        place = np.unravel_index(wrong, target.shape)
        low, high = LOSSES[name].LABELS
        raise ValueError(f"target[{', '.join(map(str, place))}] is {target[place]}: must be {low:g} or {high:g}")
    gradient = validate.out(out, **arrays, **(more or {}), sample_weight=weight)
    values = np.empty_like(prediction, subok=False) if reduction == "none" else None
    count = prediction.size if mean else 1
    given = (*arrays.values(), *(more or {}).values())
    total = loss.elementwise(name, given, gradient, 1.0 / count, options or {}, weight, values)
    return (total / count if values is None else values), gradient
