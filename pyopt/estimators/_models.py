"""The linear model, over dense rows or sparse ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays import Array
from ..kernels.layers import linear, sparse_linear


class Linear:
    """z = x w + b; w (inputs, outputs) starts at 0, b (outputs,) at ``start``, where it stays without intercept."""

    def __init__(self, inputs: int, outputs: int, dtype: Any, start: Array | None) -> None:
        self.w = np.zeros((inputs, outputs), dtype)
        self.b = np.zeros(outputs, dtype) if start is None else np.ascontiguousarray(start, dtype)
        self.weights = [self.w]
        self.intercepts = [] if start is None else [self.b]

    @property
    def params(self) -> list[Array]:
        """All arrays that training changes."""
        return [*self.weights, *self.intercepts]

    @staticmethod
    def input(X: Any) -> Any:
        """Return X as the layer takes it: an array, or the three arrays of CSR."""
        if isinstance(X, np.ndarray):
            return X
        return X.data, X.indices.astype(np.int32, copy=False), X.indptr.astype(np.int64, copy=False)

    def forward(self, x: Any, rows: Array | None = None) -> tuple[Array, Any]:
        """Return z of some rows, or of all, and what ``backward`` needs."""
        if isinstance(x, tuple):
            seen: Any = x, np.arange(len(x[2]) - 1) if rows is None else rows
            return sparse_linear.forward(*seen, self.w, self.b), seen
        seen = x if rows is None else x[rows]
        return linear.forward(seen, self.w, self.b), seen

    def backward(self, seen: Any, dz: Array) -> list[Array]:
        """Return the gradients of ``params`` from that of z."""
        grads = sparse_linear.backward(*seen, dz, len(self.w)) if isinstance(seen, tuple) else linear.backward(seen, dz)
        return list(grads[: len(self.params)])
