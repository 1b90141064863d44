"""Losses: value and gradient with respect to the prediction."""

import numpy as np
import pytest

import pyopt
from pyopt.kernels import loss
from pyopt.kernels.cpu import isa
from pyopt.kernels.losses import softmax_cross_entropy
from pyopt.kernels.numerics import reductions

from .harness import Contender, faster, race, within
from .limit import limits
from .steps import TOLERANCE, error
from .torch_steps import torch

ROWS, CLASSES = 8192, 1000
ELEMENTS = 8_000_000
BAR = [faster("torch", 4.0), faster("numpy", 5.0)]
LIMIT = [within("limit", 1 / 0.85)]
SMOOTHING = 0.1


@pytest.mark.parametrize("smooth", [False, True], ids=["plain", "smoothing and weights"])
def bench_softmax_cross_entropy(smooth, benchmark):
    """Labels; with ``smooth`` label smoothing and class weights."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((ROWS, CLASSES), dtype=np.float32)
    labels = rng.integers(0, CLASSES, ROWS)
    weights = rng.uniform(0.5, 2, CLASSES).astype(np.float32) if smooth else None
    out = np.empty_like(logits)
    options = {"label_smoothing": SMOOTHING, "class_weights": weights} if smooth else {}
    mine = Contender(
        "pyopt", lambda: pyopt.losses.softmax_cross_entropy(logits, labels, out=out, **options), 8, result="bits"
    )
    best = in_numpy_smooth if smooth else in_numpy
    contenders = [
        mine,
        Contender("numpy", best(logits, labels, out, weights), 4 * 8),
        *in_torch(logits, labels, weights),
        Contender("reference", lambda: by_reference(logits, labels, weights), result="bits"),
    ]
    exact = by_reference(logits.astype(np.float64), labels, weights)
    errors = check(contenders, exact, len(labels), 2 * TOLERANCE if smooth else TOLERANCE)
    title = f"softmax cross-entropy and gradient, {ROWS} x {CLASSES}{', smoothing and weights' * smooth}"
    race(benchmark, title, contenders, BAR, 15, logits.size, errors, isa=isa.active(), threads=pyopt.get_num_threads())


@pytest.mark.parametrize("name", ["squared_error", "binary_cross_entropy"])
def bench_elementwise(name, benchmark):
    """The mean over many elements, beside a loop that reads two arrays and writes a third."""
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal(ELEMENTS, dtype=np.float32)
    y = rng.integers(0, 2, ELEMENTS).astype(np.float32)
    out = np.empty_like(x)
    more = (np.ones((), np.float32),) if name == "binary_cross_entropy" else ()

    def reference(x, y):
        total, _, gradient = loss.reference(name, (x, y, *(a.astype(x.dtype) for a in more)), 1 / x.size, {})
        return total / x.size, gradient

    function = getattr(pyopt.losses, name)
    contenders = [
        Contender("pyopt", lambda: function(x, y, out=out), 12, result="bits"),
        Contender("numpy", ELEMENTWISE[name](x, y, out)),
        *in_torch_elementwise(name, x, y),
        *limits([[out]], [[x, y]]),
        Contender("reference", lambda: reference(x, y), result="bits"),
    ]
    errors = check(contenders, reference(x.astype(np.float64), y.astype(np.float64)), x.size)
    title = f"{name.replace('_', ' ')} and gradient, {ELEMENTS // 10**6} M"
    race(benchmark, title, contenders, LIMIT, 15, x.size, errors, isa=isa.active(), threads=pyopt.get_num_threads())


def by_reference(logits, labels, weights):
    real, smoothing = logits.dtype.type, 0.0 if weights is None else SMOOTHING
    wide = np.ones(CLASSES) if weights is None else weights.astype(np.float64)
    hot, share = ((1 - smoothing) * wide[labels]).astype(real), (smoothing / CLASSES * wide).astype(real)
    count = wide[labels].sum()
    scalars = real(1 / count), real(share.sum(dtype=np.float64)), smoothing > 0
    terms, gradient = softmax_cross_entropy.reference(logits, labels, hot, np.ones(len(labels), real), share, *scalars)
    return reductions.tree_sum(terms) / count, gradient


# ---- the best that ufuncs do in place


def in_numpy(logits, labels, out, weights):
    rows, column = np.arange(len(labels)), np.empty((len(labels), 1), np.float32)

    def call():
        logits.max(axis=1, keepdims=True, out=column)
        np.subtract(logits, column, out=out)
        gap = out[rows, labels]
        np.exp(out, out=out)
        out.sum(axis=1, keepdims=True, out=column)
        value = np.mean(np.log(column[:, 0]) - gap, dtype=np.float64)
        np.multiply(column, len(labels), out=column)
        np.divide(out, column, out=out)
        out[rows, labels] -= np.float32(1 / len(labels))
        return value, out

    return call


def in_numpy_smooth(logits, labels, out, weights):
    rows, column = np.arange(len(labels)), np.empty((len(labels), 1), np.float32)
    share = np.float32(SMOOTHING / CLASSES) * weights

    def call():
        mine = weights[labels]
        count = mine.sum(dtype=np.float64)
        hot = np.float32(1 - SMOOTHING) * mine
        mass = hot + share.sum()
        logits.max(axis=1, keepdims=True, out=column)
        np.subtract(logits, column, out=out)
        gap = hot * out[rows, labels] + out @ share
        np.exp(out, out=out)
        out.sum(axis=1, keepdims=True, out=column)
        value = np.sum(mass * np.log(column[:, 0]) - gap, dtype=np.float64) / count
        np.divide((mass / np.float32(count))[:, None], column, out=column)
        np.multiply(out, column, out=out)
        np.subtract(out, share / np.float32(count), out=out)
        out[rows, labels] -= hot / np.float32(count)
        return value, out

    return call


def squared_error(x, y, out):
    squares = np.empty_like(x)

    def call():
        np.subtract(x, y, out=out)
        np.square(out, out=squares)
        value = squares.sum(dtype=np.float64) / x.size
        np.multiply(out, np.float32(2 / x.size), out=out)
        return value, out

    return call


def binary_cross_entropy(x, y, out):
    e, other, scale = np.empty_like(x), np.empty_like(x), np.float32(1 / x.size)

    def call():
        np.abs(x, out=e)
        np.negative(e, out=e)
        np.exp(e, out=e)
        np.log1p(e, out=out)
        np.maximum(x, 0, out=other)
        np.add(out, other, out=out)
        value = (out.sum(dtype=np.float64) - float(x @ y)) / x.size
        np.add(e, 1, out=other)
        np.divide(e, other, out=e)
        np.reciprocal(other, out=other)
        np.copyto(e, other, where=x > 0)
        np.subtract(e, y, out=out)
        np.multiply(out, scale, out=out)
        return value, out

    return call


ELEMENTWISE = {"squared_error": squared_error, "binary_cross_entropy": binary_cross_entropy}


# ---- forward and backward; the gradient is a new array each time, as autograd has it


def in_torch(logits, labels, weights):
    if torch is None:
        return []
    target, like = torch.from_numpy(labels), None if weights is None else torch.from_numpy(weights)
    smoothing = 0.0 if weights is None else SMOOTHING
    return _autograd(logits, lambda x: torch.nn.functional.cross_entropy(x, target, like, label_smoothing=smoothing))


def in_torch_elementwise(name, x, y):
    if torch is None:
        return []
    function, target = torch.nn.functional.mse_loss, torch.from_numpy(y)
    if name == "binary_cross_entropy":
        function = torch.nn.functional.binary_cross_entropy_with_logits
    return _autograd(x, lambda x: function(x, target))


def _autograd(prediction, function):
    x = torch.from_numpy(prediction).clone().requires_grad_()

    def call():
        loss = function(x)
        (gradient,) = torch.autograd.grad(loss, x)
        return loss.item(), gradient.numpy()

    return [Contender("torch", call)]


def check(contenders, exact, count, tolerance=TOLERANCE):
    """Compare values and gradients with the reference's bits and with float64; smoothing sums over all classes."""
    value, gradient = exact
    want = contenders[-1].call()[1]
    errors = {}
    for c in contenders:
        if c.result == "untouched":
            continue
        mine, got = c.call()
        # the gradient is something like a probability over the number of terms
        errors[c.name] = max(error(got * np.float32(count), gradient * count), error(np.float64(mine), value))
        assert errors[c.name] <= tolerance, f"{c.name} is off by {errors[c.name]:.3g} eps"
        assert c.result != "bits" or np.array_equal(got, want), f"{c.name} differs from the reference"
    return errors
