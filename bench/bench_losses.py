"""Softmax cross-entropy: value and gradient with respect to the logits."""

import numpy as np

import pyopt
from pyopt.kernels import isa
from pyopt.kernels.losses import softmax_cross_entropy

from .harness import Contender, faster, race
from .steps import TOLERANCE, error
from .torch_steps import torch

ROWS, CLASSES = 8192, 1000
BAR = [faster("torch", 4.0), faster("numpy", 5.0)]


def bench_softmax_cross_entropy(benchmark):
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((ROWS, CLASSES), dtype=np.float32)
    labels = rng.integers(0, CLASSES, ROWS)
    out = np.empty_like(logits)
    contenders = [
        Contender("pyopt", lambda: pyopt.losses.softmax_cross_entropy(logits, labels, out=out), 8, result="bits"),
        Contender("numpy", in_numpy(logits, labels, out), 4 * 8),
        *in_torch(logits, labels),
        Contender("reference", lambda: by_reference(logits, labels), result="bits"),
    ]
    errors = check(contenders, logits, labels)
    title = f"softmax cross-entropy and gradient, {ROWS} x {CLASSES}"
    race(benchmark, title, contenders, BAR, 15, logits.size, errors, isa=isa.active(), threads=pyopt.get_num_threads())


def by_reference(logits, labels):
    terms, gradient = softmax_cross_entropy.reference(logits, labels, logits.dtype.type(1 / len(labels)))
    return terms.mean(), gradient


def in_numpy(logits, labels, out):
    """Return the best that ufuncs do in place."""
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


def in_torch(logits, labels):
    """Return forward and backward; the gradient is a new array each time, as autograd has it."""
    if torch is None:
        return []
    x, target = torch.from_numpy(logits).clone().requires_grad_(), torch.from_numpy(labels)

    def call():
        loss = torch.nn.functional.cross_entropy(x, target)
        (gradient,) = torch.autograd.grad(loss, x)
        return loss.item(), gradient.numpy()

    return [Contender("torch", call)]


def check(contenders, logits, labels):
    """Compare values and gradients with the reference's bits and with float64."""
    value, gradient = by_reference(logits.astype(np.float64), labels)
    _, want = by_reference(logits, labels)
    errors = {}
    for c in contenders:
        mine, got = c.call()
        # the gradient is a probability over the number of rows
        errors[c.name] = max(error(got * np.float32(ROWS), gradient * ROWS), error(np.float64(mine), value))
        assert errors[c.name] <= TOLERANCE, f"{c.name} is off by {errors[c.name]:.3g} eps"
        assert c.result != "bits" or np.array_equal(got, want), f"{c.name} differs from the reference"
    return errors
