"""Train a linear model on data that scikit-learn brings along, step by step beside the NumPy reference.

The model is x w + b: multinomial logistic regression for the digits, linear regression for diabetes; a penalty makes it
ridge or lasso. Every sum is taken in a fixed order, so that a seed gives the same weights, bit for bit, on every
instruction set and thread count.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np

from . import losses
from ._arrays import Array, reference
from .kernels import norms
from .kernels.layers import linear
from .kernels.spec import Penalty
from .optim import Optimizer

RATES = {
    "digits": {"sgd": 1.0, "momentum": 0.1, "adagrad": 0.3, "rmsprop": 0.01, "adam": 0.01, "adamw": 0.01, "lion": 3e-3},
    "diabetes": {"sgd": 0.01, "momentum": 1e-3, "adagrad": 0.03, "rmsprop": 3e-3, "adam": 3e-3, "adamw": 3e-3,
                 "lion": 1e-3},
}  # fmt: skip
"""Learning rates that do well in 30 epochs of batches of 32, by data and rule."""

OPTIMIZERS = {cls.rule.name: cls for cls in Optimizer.__subclasses__()}


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows held out, with the loss and the score that belong to them."""

    x: Array
    y: Array
    held_x: Array
    held_y: Array
    outputs: int
    loss: Callable[[Array, Array], tuple[float, Array]]
    score: Callable[[Array, Array], float]
    score_name: str


@dataclass
class Result:
    """What a run leaves: curves with a value for each epoch, times of a step, and the weights."""

    weights: Array
    bias: Array
    train_loss: list[float] = field(default_factory=list)
    held_loss: list[float] = field(default_factory=list)
    held_score: list[float] = field(default_factory=list)
    penalty: float = 0.0
    step_us: float = 0.0
    reference_us: float = 0.0
    identical: bool = False

    @property
    def sha256(self) -> str:
        """The hash of weights and bias."""
        return hashlib.sha256(self.weights.tobytes() + self.bias.tobytes()).hexdigest()


def load(name: str, seed: int) -> Data:
    """Return the data called ``name``, digits or diabetes: four fifths to train on, chosen by ``seed``.

    Pixels are scaled to [0, 1]; features and target of diabetes have mean 0 and variance 1 on the training rows.
    """
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = _generator(seed, 0).permutation(len(x))
    train, held = order[len(x) // 5 :], order[: len(x) // 5]
    if name == "digits":
        x = (x / 16.0).astype(np.float32)
        y = y.astype(np.int64)
        kind: tuple[Any, ...] = (10, losses.softmax_cross_entropy, _accuracy, "accuracy")
    else:
        x, y = _standard(x, train), _standard(y[:, None], train)
        kind = (1, losses.squared_error, _r2, "R^2")
    return Data(x[train], y[train], x[held], y[held], *kind)


def fit(data: Data, optimizer: str, hypers: Mapping[str, Any], penalties: Sequence[Penalty] = (), epochs: int = 30,
        batch_size: int = 32, seed: int = 0) -> Iterator[Result]:  # fmt: skip
    """Train from zero weights; the iterator trains an epoch at a time and returns the same growing result after each.

    ``optimizer`` is the name of a rule, ``hypers`` are its hyper-parameters. Penalties and weight decay apply to the
    weights, not to the bias. Raises ValueError or TypeError at once where a hyper-parameter is out of range.
    """
    result = Result(np.zeros((data.x.shape[1], data.outputs), np.float32), np.zeros(data.outputs, np.float32))
    copies = [result.weights.copy(), result.bias.copy()]
    fast = _optimizer(optimizer, [result.weights, result.bias], hypers, penalties)
    with reference():
        slow = _optimizer(optimizer, copies, hypers, penalties)
    return _epochs(data, result, copies, fast, slow, penalties, epochs, batch_size, _generator(seed, 1))


def _epochs(data: Data, result: Result, copies: Sequence[Array], fast: Optimizer, slow: Optimizer,
            penalties: Sequence[Penalty], epochs: int, batch_size: int, rng: np.random.Generator,
            ) -> Iterator[Result]:  # fmt: skip
    w, b = result.weights, result.bias
    times: tuple[list[int], list[int]] = [], []
    contenders = [(fast, times[0]), (slow, times[1])]
    for _ in range(epochs):
        order = rng.permutation(len(data.x))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            x = data.x[rows]
            _, dz = data.loss(linear.forward(x, w, b), data.y[rows])
            grads = linear.backward(x, dz)
            for opt, spent in contenders:
                before = perf_counter_ns()
                opt.step(grads)
                spent.append(perf_counter_ns() - before)
            contenders.reverse()  # neither always finds the gradient in cache
        result.train_loss.append(data.loss(linear.forward(data.x, w, b), data.y)[0])
        z = linear.forward(data.held_x, w, b)
        result.held_loss.append(data.loss(z, data.held_y)[0])
        result.held_score.append(data.score(z, data.held_y))
        result.penalty = sum(penalty.value(w) for penalty in penalties)
        result.step_us, result.reference_us = (statistics.median(spent) / 1e3 for spent in times)
        result.identical = [w.tobytes(), b.tobytes()] == [copy.tobytes() for copy in copies]
        yield result


def _optimizer(name: str, params: list[Array], hypers: Mapping[str, Any], penalties: Sequence[Penalty]) -> Optimizer:
    weights: dict[str, Any] = {"params": [("weights", params[0])], "penalty": list(penalties)}
    return OPTIMIZERS[name]([weights, {"params": [("bias", params[1])], "weight_decay": 0.0}], **hypers)


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, stream]))


def _standard(x: Array, train: Array) -> Array:
    """Return float32 columns with mean 0 and variance 1 over the rows ``train``."""
    mean = np.array([norms.tree_sum(column) for column in x[train].T]) / len(train)
    variance = np.array([norms.tree_sum(column**2) for column in (x[train] - mean).T]) / len(train)
    return np.ascontiguousarray((x - mean) / np.sqrt(variance), np.float32)


def _accuracy(z: Array, y: Array) -> float:
    return float(np.count_nonzero(z.argmax(axis=1) == y) / len(y))


def _r2(z: Array, y: Array) -> float:
    y64 = y[:, 0].astype(np.float64)
    mean = norms.tree_sum(y64) / len(y64)
    rest, total = norms.tree_sum((z[:, 0] - y64) ** 2), norms.tree_sum((y64 - mean) ** 2)
    return 1.0 - rest / total
