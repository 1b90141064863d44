"""The stages around a loss: its scale, the weights of the samples, the values rounded, the sum.

An elementwise loss ``X`` has three functions. ``scalars(scale, **options)`` returns its scalars, the first of which
multiplies the gradient. ``reference(*arrays, *scalars)`` returns the terms, in float64, and the gradient; the tile of
that name does the same for a tile. Its ``LABELS``, where it has them, are the two targets it knows. Then come, in order

1. terms and gradient times the weight of the sample
2. the terms rounded to the dtype of the prediction, where each of them is wanted
3. the sum of the terms over the tree of ``norms``
4. the gradient rounded to the dtype of the prediction, where that is one of 16 bits: what is above sees float32

all while a tile is in the cache: memory sees one read of the arrays and one write of the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .cpu import engine, isa
from .losses import LOSSES
from .numerics import reductions
from .numerics.codecs import encode, upcast

Array = np.ndarray[Any, np.dtype[Any]]


def elementwise(name: str, arrays: tuple[Array, ...], gradient: Array, scale: float, options: Mapping[str, Any],
                weight: Array | None = None, values: Array | None = None) -> float:  # fmt: skip
    """Fill the gradient, and the values where they are given; return the sum of the terms.

    ``arrays`` are the prediction, the target, and what else the loss takes for each element, in the shape of the last
    axes of the prediction. ``weight`` has the prediction's shape, or that of its first axes.
    """
    strides = (*(_stride(a, gradient) for a in arrays), gradient.itemsize)
    gradient_at, arrays = len(arrays), (*arrays, gradient)
    if weight is not None:
        full = weight.size == gradient.size
        each = 1 if full else gradient.size // max(1, weight.size)
        arrays, strides = (*arrays, weight), (*strides, weight.itemsize if full else (each, max(1, weight.size)))
    return engine.sweep(  # type: ignore[no-any-return]
        isa.tiles(), f"losses.{name}", arrays, strides, (gradient.size,), LOSSES[name].scalars(scale, **options),
        values is None, weight is not None, values, out=gradient_at,
    )  # fmt: skip


def reference(name: str, arrays: tuple[Array, ...], scale: float, options: Mapping[str, Any],
              weight: Array | None = None) -> tuple[float, Array, Array]:  # fmt: skip
    """Return the sum, the values of the elements and the gradient, in NumPy."""
    prediction, stored = upcast(arrays[0]), arrays[0].dtype
    real = prediction.dtype.type
    with np.errstate(all="ignore"):
        scalars = map(real, LOSSES[name].scalars(scale, **options))
        terms, gradient = LOSSES[name].reference(*map(upcast, arrays), *scalars)
        if weight is not None:
            weight = weight.reshape(weight.shape + (1,) * (prediction.ndim - weight.ndim))
            terms, gradient = terms * weight.astype(np.float64), gradient * weight
        return reductions.tree_sum(terms.ravel()), encode(terms, stored), encode(gradient, stored)


def softmax(arrays: tuple[Array, ...], gradient: Array, scalars: tuple[float, ...], smooth: bool,
            values: Array | None = None) -> float:  # fmt: skip
    """Fill the gradient of softmax cross-entropy, and the values; return the sum of the terms.

    ``arrays`` and ``scalars`` are those of its ``reference`` for labels, or of ``reference_soft`` for probabilities.
    """
    rows, classes = gradient.shape
    row = classes * gradient.itemsize
    hard = arrays[1].ndim == 1
    name = "losses.softmax_cross_entropy" if hard else "losses.softmax_cross_entropy_soft"
    item = arrays[2].itemsize  # of the weights of the rows
    strides = (row, 8, item, item, 0, row) if hard else (row, row, item, 0, 0, row)
    sizes = (rows, classes, int(smooth)) if hard else (rows, classes)
    total = values is None
    return engine.sweep(  # type: ignore[no-any-return]
        isa.tiles(), name, (*arrays, gradient), strides, sizes, scalars, total, False, values, out=len(arrays)
    )


def unknown_label(name: str, target: Array) -> int | None:
    """Return the index of the first target that is none of the labels of the loss, or None."""
    labels = getattr(LOSSES[name], "LABELS", None)
    if labels is None:
        return None
    strides = (target.itemsize,)
    if engine.sweep(isa.tiles(), "loss.not_a_label", (target,), strides, (target.size,), labels, True) == 0:
        return None
    return int(((target != labels[0]) & (target != labels[1])).argmax())


def _stride(a: Array, gradient: Array) -> int | tuple[int, int]:
    if a.size == gradient.size:
        return a.itemsize
    return (1, a.size) if a.size > 1 else (max(1, gradient.size), 1)
