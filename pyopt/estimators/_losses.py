"""The losses of the estimators: what they take as targets, and their value and gradient for weighted rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import losses
from ..arrays.backend import Array

REGRESSION = ("squared_error", "absolute_error", "huber", "poisson")
CLASSIFICATION = ("log_loss", "hinge", "squared_hinge", "focal")


class Loss:
    """A loss by name, for so many outputs of the model.

    Called with outputs, targets and weights of some rows, it returns the sum of weight times loss, over rows and
    outputs, and the gradient of ``scale`` times that.
    """

    def __init__(self, name: str, outputs: int, options: dict[str, Any] | None) -> None:
        self.name, self.outputs, self.options = name, outputs, options or {}
        self.scale = 2.0 if name == "squared_error" else 1.0  # half the square, as scikit-learn has it
        self.soft = name == "log_loss" and outputs > 1
        kinds = {"log_loss": "softmax_cross_entropy" if self.soft else "binary_cross_entropy"}
        self.function = kinds.get(name, name)

    def encode(self, labels: Array, dtype: Any) -> Array:
        """Return the numbers of classes as the loss takes them: so, or for each output whether it is its class."""
        if self.soft:
            return labels.astype(np.int64)
        yes = labels[:, None] == (1 if self.outputs == 1 else np.arange(self.outputs))
        found = yes.astype(dtype)
        return 2 * found - 1 if "hinge" in self.name else found

    def __call__(self, z: Array, target: Array, weight: Array) -> tuple[float, Array]:
        """Return value and gradient."""
        value, dz = getattr(losses, self.function)(z, target, "sum", sample_weight=weight, **self.options)
        return value / self.scale, dz
