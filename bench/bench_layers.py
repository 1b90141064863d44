"""Layers, forward and backward together: batch norm, layer norm, dropout, bias with GELU."""

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import isa
from pyopt.kernels.layers import batch_norm, bias_gelu, dropout, layer_norm

from .harness import Contender, faster, race
from .steps import TOLERANCE, error, same_bits
from .torch_steps import torch

IMAGES = (256, 64, 32, 32)
ROWS = (4096, 4096)
P = 0.1


class Memory:
    """The arrays that the contenders of a case share."""

    def __init__(self, shape, channels):
        rng = np.random.default_rng(0)
        self.x, self.dy = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
        self.weight, self.bias = (rng.standard_normal(channels, dtype=np.float32) for _ in range(2))
        self.y, self.dx = np.zeros_like(self.x), np.zeros_like(self.x)

    @property
    def wide(self):
        """x, dy, weight and bias in float64."""
        return [a.astype(np.float64) for a in (self.x, self.dy, self.weight, self.bias)]


def pyopt_batch_norm(m):
    y, *kept = pyopt.layers.batch_norm(m.x, None, None, m.weight, m.bias, True, out=m.y)
    return y, *pyopt.layers.batch_norm_backward(m.dy, m.x, *kept, m.weight, training=True, out=m.dx)


def reference_batch_norm(x, dy, weight, bias):
    planes = x.reshape(*x.shape[:2], -1)
    y, mean, _, inv_std = batch_norm.reference_forward(planes, weight, bias, 1e-5)
    dx, *more = batch_norm.reference_backward(dy.reshape(planes.shape), planes, weight, mean, inv_std)
    return y.reshape(x.shape), dx.reshape(x.shape), *more


def torch_batch_norm(x, weight, bias):
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, True)


def pyopt_layer_norm(m):
    y, *kept = pyopt.layers.layer_norm(m.x, m.weight, m.bias, out=m.y)
    return y, *pyopt.layers.layer_norm_backward(m.dy, m.x, *kept, m.weight, out=m.dx)


def reference_layer_norm(x, dy, weight, bias):
    y, mean, inv_std = layer_norm.reference_forward(x, weight, bias, 1e-5)
    return y, *layer_norm.reference_backward(dy, x, weight, mean, inv_std)


def torch_layer_norm(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def pyopt_bias_gelu(m):
    return pyopt.layers.bias_gelu(m.x, m.bias, out=m.y), *pyopt.layers.bias_gelu_backward(m.dy, m.x, m.bias, out=m.dx)


def reference_bias_gelu(x, dy, weight, bias):
    return bias_gelu.reference_forward(x, bias), *bias_gelu.reference_backward(dy, x, bias)


def torch_bias_gelu(x, bias):
    return torch.nn.functional.gelu(x + bias)


def pyopt_dropout(m):
    y = pyopt.layers.dropout(m.x, P, seed=1, step=2, out=m.y)
    return y, pyopt.layers.dropout(m.dy, P, seed=1, step=2, out=m.dx)


def reference_dropout(x, dy, weight, bias):
    return dropout.reference(x, P, 1, 2), dropout.reference(dy, P, 1, 2)


def torch_dropout(x):
    return torch.nn.functional.dropout(x, P)


# shape, numbers read and written for each element in forward and backward, what torch differentiates, bar if any
CASES = {
    "batch_norm": (IMAGES, 8, ("x", "weight", "bias"), 3.0),  # x twice, y; x and dy twice, dx
    "layer_norm": (ROWS, 5, ("x", "weight", "bias"), None),
    "bias_gelu": (ROWS, 5, ("x", "bias"), None),
    "dropout": (ROWS, 4, ("x",), 15.0),
}


@pytest.mark.parametrize("layer", CASES)
def bench_layer(benchmark, layer):
    shape, trips, inputs, bar = CASES[layer]
    m = Memory(shape, shape[1])
    by_reference = globals()[f"reference_{layer}"]
    contenders = [
        Contender("pyopt", lambda: globals()[f"pyopt_{layer}"](m), 4 * trips, result="bits"),
        *in_torch(m, globals()[f"torch_{layer}"], inputs),
        Contender("reference", lambda: by_reference(m.x, m.dy, m.weight, m.bias), result="bits"),
    ]
    errors = check(contenders, by_reference, m, random=layer == "dropout")
    title = f"{layer.replace('_', ' ')} forward and backward, {' x '.join(map(str, shape))}"
    race(benchmark, title, contenders, [faster("torch", bar)] if bar else [], 15, m.x.size, errors,
         isa=isa.active(), threads=pyopt.get_num_threads())  # fmt: skip


def in_torch(m, forward, inputs):
    """Return forward and backward by autograd, which makes new arrays each time."""
    if torch is None:
        return []
    given = [torch.from_numpy(getattr(m, name)).requires_grad_() for name in inputs]
    slope = torch.from_numpy(m.dy)

    def call():
        y = forward(*given)
        return y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, given, slope))

    return [Contender("torch", call)]


def check(contenders, by_reference, m, random):
    """Compare results with the reference's bits and with float64; what is random in torch has no error."""
    want, exact = by_reference(m.x, m.dy, m.weight, m.bias), by_reference(*m.wide)
    errors = {}
    for c in contenders:
        got = c.call()
        if c.result == "bits":
            assert all(map(same_bits, got, want)), f"{c.name} differs from the reference"
        elif random:
            continue
        scale = [max(1.0, float(np.abs(b).max())) for b in exact]
        errors[c.name] = max(error(a / s, b / s) for a, b, s in zip(got, exact, scale, strict=False))
        assert errors[c.name] <= 4 * TOLERANCE, f"{c.name} is off by {errors[c.name]:.3g} eps"
    return errors
