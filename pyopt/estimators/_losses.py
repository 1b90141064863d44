"""The losses of the estimators: what they take as targets, and their value and gradient for weighted rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import losses
from .._arrays import Array
from ..kernels.epochs import linear_sgd

REGRESSION = ("squared_error",)
CLASSIFICATION = ("log_loss",)


class Loss:
    """A loss by name, for so many outputs of the model.

    Called with outputs, targets and weights of some rows, it returns the mean over rows of weight times loss, and its
    gradient times ``scale``.
    """

    def __init__(self, name: str, outputs: int) -> None:
        self.name, self.outputs = name, outputs
        self.scale = 2.0 if name == "squared_error" else 1.0  # half the square, as scikit-learn has it

    def encode(self, labels: Array, dtype: Any) -> Array:
        """Return class numbers as the loss takes them."""
        return labels.astype(dtype)[:, None] if self.outputs == 1 else labels

    def __call__(self, z: Array, target: Array, weight: Array) -> tuple[float, Array]:
        """Return value and gradient."""
        n = len(z)
        if self.name == "squared_error":
            d = weight[:, None] * (z - target)
            return float((d * (z - target)).sum() / 2 / n), d * z.dtype.type(2 / n)
        if self.outputs == 1:
            value = linear_sgd.losses("logistic", z[:, 0], target[:, 0], weight).sum() / n
            return float(value), linear_sgd.coefficients("logistic", z, target, weight[:, None]) / z.dtype.type(n)
        terms, g = losses.LOSSES["softmax_cross_entropy"].reference(z, target, z.dtype.type(1 / n))
        return float((terms * weight).sum() / n), g * weight[:, None]
