"""What is trained: a linear model over dense rows or sparse ones, and a network of layers over dense ones.

Both have ``groups``, arrays by role, in the order in which ``backward`` returns their gradients, and ``state``, all
arrays that training changes.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..kernels.layers import batch_norm, bias_gelu, bias_relu, dropout, linear
from ..kernels.linear_models import sparse_linear

ACTIVATIONS = {"relu": (bias_relu, ()), "gelu": (bias_gelu, ("none",))}
EPS, MOMENTUM = 1e-5, 0.1  # of batch norm, as in torch


class Model:
    """What both have in common."""

    groups: dict[str, list[Array]]
    state: list[Array]

    def group(self) -> None:
        """Set ``groups`` and ``state`` by the arrays that are computed with."""
        raise NotImplementedError

    @property
    def trainable(self) -> bool:
        """Whether they are those still, and can be written to: files may be mapped read-only, and make two of one."""
        other = copy.copy(self)
        other.group()
        given, own = ([*itertools.chain(*model.groups.values()), *model.state] for model in (self, other))
        return all(a is b and a.flags.writeable for a, b in zip(given, own, strict=True))


class Linear(Model):
    """z = x w + b; w (inputs, outputs) starts at 0, b (outputs,) at ``start``, and stays at 0 where that is None."""

    least = 1  # rows of a step, at the least

    def __init__(self, inputs: int, outputs: int, dtype: Any, start: Array | None) -> None:
        self.w = np.zeros((inputs, outputs), dtype)
        self.b = np.zeros(outputs, dtype) if start is None else np.ascontiguousarray(start, dtype)
        self.intercept = start is not None
        self.group()

    def group(self) -> None:
        """Set ``groups`` and ``state``."""
        self.groups = {"weights": [self.w]} | ({"intercepts": [self.b]} if self.intercept else {})
        self.state = [array for arrays in self.groups.values() for array in arrays]

    def owned(self) -> Linear:
        """Return the same over copies of the arrays."""
        made = copy.copy(self)
        made.w, made.b = np.array(self.w), np.array(self.b)
        made.group()
        return made

    @staticmethod
    def input(X: Any) -> Any:
        """Return X as the layer takes it: an array, or the three arrays of CSR."""
        if isinstance(X, np.ndarray):
            return X
        return X.data, X.indices.astype(np.int32, copy=False), X.indptr.astype(np.int64, copy=False)

    def forward(self, x: Any, rows: Array | None, t: int = 0) -> tuple[Array, Any]:
        """Return z of some rows, or of all, and what ``backward`` needs."""
        if isinstance(x, tuple):
            seen: Any = x, np.arange(len(x[2]) - 1) if rows is None else rows
            return sparse_linear.forward(x, seen[1], self.w, self.b), seen
        seen = x if rows is None else x[rows]
        return linear.forward(seen, self.w, self.b), seen

    def infer(self, x: Any, rows: Array | None = None) -> Array:
        """Return z of some rows, or of all."""
        return self.forward(x, rows)[0]

    def backward(self, seen: Any, dz: Array) -> list[Array]:
        """Return the gradients from that of z."""
        grads = (
            sparse_linear.backward(seen[0], seen[1], dz, len(self.w))
            if isinstance(seen, tuple)
            else linear.backward(seen, dz)
        )
        return list(grads[: len(self.state)])


class Hidden:
    """A hidden layer: product, batch norm, bias and activation, dropout."""

    def __init__(self, w: Array, activation: str, norm: bool) -> None:
        self.w, self.b = w, np.zeros(w.shape[1], w.dtype)
        self.none = np.zeros_like(self.b)
        self.activation = activation
        self.scale = np.ones_like(self.b) if norm else None
        self.running = [np.zeros_like(self.b), np.ones_like(self.b)] if norm else []

    def owned(self) -> Hidden:
        """Return the same over copies of the arrays."""
        made = copy.copy(self)
        made.w, made.b, made.running = np.array(self.w), np.array(self.b), [np.array(a) for a in self.running]
        made.scale = None if self.scale is None else np.array(self.scale)
        return made

    @property
    def intercepts(self) -> list[Array]:
        """The arrays that no penalty pulls at."""
        return [self.b] if self.scale is None else [self.b, self.scale]

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Return the activations, and what ``backward`` needs."""
        z = linear.forward(x, self.w, self.none)
        moments: Any = None
        if self.scale is not None:
            y = np.empty_like(z)
            mean, variance, inv_std = batch_norm.forward(z[:, :, None], self.scale, self.none, EPS, y[:, :, None])
            batch_norm.running(z[:, :, None], self.running[0], self.running[1], MOMENTUM, mean, variance)
            moments, z = (z, mean, inv_std), y
        return self._activate(z), (x, z, moments)

    def infer(self, x: Array) -> Array:
        """Return the activations of rows, with the running moments."""
        z = linear.forward(x, self.w, self.none)
        if self.scale is not None:
            y = np.empty_like(z)
            given = (a.astype(np.float64) for a in self.running)
            batch_norm.forward(z[:, :, None], self.scale, self.none, EPS, y[:, :, None], *given)
            z = y
        return self._activate(z)

    def backward(self, tape: Any, da: Array, first: bool) -> tuple[Array | None, Array, list[Array]]:
        """Return the gradients of x (None for the first layer), of the weights and of the intercepts."""
        x, z, moments = tape
        layer, form = ACTIVATIONS[self.activation]
        dz = np.empty_like(z)
        grads = [layer.backward(da, z, self.b, dz, *form)]
        if moments is not None:
            product, mean, inv_std = moments
            dy, dz = dz, np.empty_like(dz)
            scale, _ = batch_norm.backward(
                dy[:, :, None], product[:, :, None], self.scale, mean, inv_std, dz[:, :, None], False
            )
            grads.append(scale)
        return (None if first else _back(dz, self.w)), linear.backward(x, dz, bias=False)[0], grads

    def _activate(self, z: Array) -> Array:
        layer, form = ACTIVATIONS[self.activation]
        y = np.empty_like(z)
        layer.forward(z, self.b, y, *form)
        return y


class Network(Model):
    """Hidden layers, and a linear one at the end; its weights start as Glorot and Bengio say, its biases at 0."""

    def __init__(self, sizes: Sequence[int], dtype: Any, activation: str, norm: bool, drop: float,
                 start: Array, spread: float, rng: np.random.Generator) -> None:  # fmt: skip
        first = [_glorot(rng, *pair).astype(dtype) for pair in itertools.pairwise(sizes)]
        self.hidden = [Hidden(w, activation, norm) for w in first[:-1]]
        self.w, self.b = first[-1] * first[-1].dtype.type(spread), np.ascontiguousarray(start, dtype)
        self.drop, self.least = drop, 2 if norm and self.hidden else 1
        self.seed = int(rng.integers(2**63))
        self.group()

    def group(self) -> None:
        """Set ``groups`` and ``state``."""
        self.groups = {
            "weights": [layer.w for layer in self.hidden],
            "last": [self.w],
            "intercepts": [a for layer in self.hidden for a in layer.intercepts],
            "last_intercepts": [self.b],
        }
        self.state = [array for arrays in self.groups.values() for array in arrays]
        self.state += [a for layer in self.hidden for a in layer.running]

    def owned(self) -> Network:
        """Return the same over copies of the arrays."""
        made = copy.copy(self)
        made.w, made.b, made.hidden = np.array(self.w), np.array(self.b), [layer.owned() for layer in self.hidden]
        made.group()
        return made

    @staticmethod
    def input(X: Array) -> Array:
        """Return X."""
        return X

    def forward(self, x: Array, rows: Array | None, t: int = 0) -> tuple[Array, Any]:
        """Return z of some rows, or of all, in step ``t``, and what ``backward`` needs."""
        a = x if rows is None else x[rows]
        tapes = []
        for i, layer in enumerate(self.hidden):
            a, tape = layer.forward(a)
            tapes.append(tape)
            a = self._dropped(a, t, i)
        return linear.forward(a, self.w, self.b), (tapes, a, t)

    def infer(self, x: Array, rows: Array | None = None) -> Array:
        """Return z of some rows, or of all, as it is after training."""
        a = x if rows is None else x[rows]
        for layer in self.hidden:
            a = layer.infer(a)
        return linear.forward(a, self.w, self.b)

    def backward(self, tape: Any, dz: Array) -> list[Array]:
        """Return the gradients from that of z."""
        tapes, a, t = tape
        last = linear.backward(a, dz)
        da = _back(dz, self.w) if self.hidden else None
        weights: list[Array] = []
        intercepts: list[Array] = []
        for i in range(len(self.hidden) - 1, -1, -1):
            da, dw, others = self.hidden[i].backward(tapes[i], self._dropped(da, t, i), first=i == 0)
            weights, intercepts = [dw, *weights], [*others, *intercepts]
        return [*weights, last[0], *intercepts, last[1]]

    def _dropped(self, a: Any, t: int, layer: int) -> Array:
        if self.drop == 0:
            return a
        y = np.empty_like(a)
        dropout.compute(a, y, self.drop, self.seed, t, layer)
        return y


def _back(dz: Array, w: Array) -> Array:
    """Return the gradient of x from that of z = x w."""
    return linear.forward(dz, np.ascontiguousarray(w.T), np.zeros(len(w), w.dtype))


def _glorot(rng: np.random.Generator, inputs: int, outputs: int) -> Array:
    bound = math.sqrt(6.0 / (inputs + outputs))
    return rng.uniform(-bound, bound, (inputs, outputs))
