"""Bias with ReLU or GELU: the bits of the references, exact values, slopes, clear errors."""

import math

import numpy as np
import pytest

import pyopt
from pyopt import layers
from pyopt.kernels.layers import bias_gelu, bias_relu
from pyopt.kernels.numerics.normal import normal
from support.helpers import refused, same_bits, tame, wild

SHAPES = ((0, 3), (1, 1), (3, 0), (65, 1), (64, 7), (130, 31), (5, 4, 33), (67, 997), (7,), (1, 40_000))
FORMS = [(bias_relu, (), layers.bias_relu, layers.bias_relu_backward)] + [
    (bias_gelu, (form,), layers.bias_gelu, layers.bias_gelu_backward) for form in ("none", "tanh")
]


@pytest.fixture(params=FORMS, ids=["relu", "gelu", "gelu tanh"])
def layer(request):
    """The module of a layer, its further arguments, forward and backward."""
    return request.param


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_the_reference(isa, storage, threads, layer):
    module, form, forward, backward = layer
    pyopt.set_num_threads(threads)
    for shape in SHAPES:
        for make in (tame, wild):
            x, dy = (make(int(np.prod(shape)), storage, i).reshape(shape) for i in (1, 2))
            bias = make(shape[-1], storage, 3)
            flat = [a.reshape(math.prod(shape[:-1]), shape[-1]) for a in (dy, x)]
            label = f"{make.__name__} {shape}"
            want = module.reference_forward(flat[1], bias, *form)
            same_bits(forward(x, bias, *form).reshape(want.shape), want, f"forward of {label}")
            dx, dbias = backward(dy, x, bias, *form)
            want = module.reference_backward(*flat, bias, *form)
            same_bits(dx.reshape(want[0].shape), want[0], f"dx of {label}")
            same_bits(dbias, want[1], f"dbias of {label}")


def test_torch_agrees(dtype, layer, torch):
    module, form, forward, backward = layer
    for shape in ((37, 5), (6, 3, 67)):
        x, dy = (tame(shape, dtype, i) * dtype(3) for i in (1, 2))
        bias = tame(shape[-1], dtype, 3)
        tx, tb, slope = (torch.from_numpy(a.astype(np.float64)) for a in (x, bias, dy))
        tx.requires_grad_(), tb.requires_grad_()
        z = tx + tb
        ty = torch.relu(z) if module is bias_relu else torch.nn.functional.gelu(z, approximate=form[0])
        ty.backward(slope)
        tolerance = {"rtol": 2e-6, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}
        np.testing.assert_allclose(forward(x, bias, *form), ty.detach().numpy(), **tolerance)
        for got, want in zip(backward(dy, x, bias, *form), (tx.grad, tb.grad), strict=True):
            np.testing.assert_allclose(got, want.numpy(), **tolerance)


def test_gradients_are_slopes(layer):
    _, form, forward, backward = layer
    x, dy, bias, step = tame((5, 3), np.float64, 1), tame((5, 3), np.float64, 2), tame(3, np.float64, 3), 1e-6
    assert np.abs(x + bias).min() > 1e-3  # no kink within a step
    dx, dbias = backward(dy, x, bias, *form)
    slope = dy * (forward(x + step, bias, *form) - forward(x - step, bias, *form)) / (2 * step)
    np.testing.assert_allclose(dx, slope, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dbias, slope.sum(axis=0), rtol=1e-6, atol=1e-8)


def exact_normal(z):
    """Return share and density in more digits than the kernels have."""
    wide = z.astype(np.float64)
    share = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in wide])
    return share, np.exp(-wide * wide / 2) / math.sqrt(2 * math.pi)


def test_the_normal_distribution_is_as_close_as_it_says():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=100_000) * 3, np.linspace(-13, 13, 100_001), [0.0, -0.0, 1e-30]])
    for dtype, limit in ((np.float32, 4), (np.float64, 6)):  # math.erfc itself is good for 2 eps
        x, eps = z.astype(dtype), np.finfo(dtype).eps
        (share, density), (want, slope) = normal(x), exact_normal(x)
        assert np.abs(share - want).max() <= limit * eps
        assert np.abs(density - slope).max() <= limit * eps
        bound = (8 + x.astype(float) ** 2) * eps
        tiny = np.finfo(dtype).tiny
        assert (np.abs(share / want - 1) / bound)[(want > tiny) & (x < 0)].max() <= 1
        assert (np.abs(density / slope - 1) / bound)[slope > tiny].max() <= 1


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu_is_as_close_as_it_says(form):
    x = np.concatenate([np.linspace(-14, 14, 100_001), [0.0, 1e-30, 200.0, -200.0]]).astype(np.float32)[:, None]
    wide, eps = x.astype(np.float64), np.finfo(np.float32).eps
    if form == "none":
        share, density = (a[:, None] for a in exact_normal(wide[:, 0]))
        slope = share + wide * density
    else:
        t = np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
        share = 0.5 * (1 + t)
        slope = share + 0.5 * wide * (1 - t * t) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * wide * wide)
    zero, scale = np.zeros(1, np.float32), np.maximum(1, np.abs(wide))
    assert (np.abs(layers.bias_gelu(x, zero, form) - wide * share) / scale).max() <= 6 * eps
    assert (np.abs(layers.bias_gelu_backward(np.ones_like(x), x, zero, form)[0] - slope) / scale).max() <= 6 * eps


def test_known_values():
    x, zero = np.array([-np.inf, -200.0, -1.0, -0.0, 0.0, 1.0, 200.0, np.inf, np.nan]), np.zeros(9)
    same_bits(layers.bias_relu(x, zero), np.array([0.0, 0, 0, 0, 0, 1, 200, np.inf, np.nan]))
    dy = np.arange(1.0, 10)
    same_bits(layers.bias_relu_backward(dy, x, zero)[0], np.array([0.0, 0, 0, 0, 0, 6, 7, 8, 9]))
    for form, one in (("none", 0.8413447460685429), ("tanh", 0.8411919906082768)):
        y = layers.bias_gelu(x, zero, form)
        same_bits(y[[1, 3, 4, 6, 7]], np.array([-0.0, 0.0, 0.0, 200.0, np.inf]))  # -0 + 0 is +0
        assert y[5] == pytest.approx(one, rel=1e-15)
        assert y[2] == pytest.approx(one - 1, rel=1e-15)
        assert np.isnan(y[[0, 8]]).all()
        slope = layers.bias_gelu_backward(np.ones(9), x, zero, form)[0]
        assert slope[[1, 3, 4, 6]] == pytest.approx([0.0, 0.5, 0.5, 1.0], abs=1e-15)


def test_out_takes_the_result(dtype, layer):
    _, form, forward, backward = layer
    x, dy, bias = tame((9, 4), dtype, 1), tame((9, 4), dtype, 2), tame(4, dtype, 3)
    out = np.full_like(x, np.nan)
    assert forward(x, bias, *form, out=out) is out
    same_bits(out, forward(x, bias, *form))
    assert backward(dy, x, bias, *form, out=out)[0] is out
    same_bits(out, backward(dy, x, bias, *form)[0])


X = tame((6, 4), np.float32)
B = tame(4, np.float32, 1)
READ_ONLY = np.zeros_like(X)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (TypeError, ("x is list",), {"x": [1.0]}),
        (ValueError, ("x has shape ()",), {"x": np.ones((), np.float32)}),
        (ValueError, ("x has strides",), {"x": np.asfortranarray(X)}),
        (ValueError, ("bias has shape (3,)", "(4,)"), {"bias": B[:3].copy()}),
        (TypeError, ("bias has dtype float64",), {"bias": B.astype(np.float64)}),
        (TypeError, ("bias is NoneType",), {"bias": None}),
        (ValueError, ("out has shape (6, 3)",), {"out": np.zeros((6, 3), np.float32)}),
        (ValueError, ("out is read-only",), {"out": READ_ONLY}),
        (ValueError, ("out shares memory with x",), {"x": X, "out": X}),
        (ValueError, ("out shares memory with bias",), {"bias": X[1], "out": X}),
    ],
)
def test_bad_arguments(error, words, change, layer):
    _, form, forward, backward = layer
    given = {"x": X + 1, "bias": B, **change}
    more = {"approximate": form[0]} if form else {}
    with refused(error, *words, arrays=[X, B, *given.values()]):
        forward(**given, **more)
    with refused(error, *words, arrays=[X, B, *given.values()]):
        backward(dy=X + 2, **given, **more)


def test_bad_arguments_of_backward(layer):
    _, form, _, backward = layer
    with refused(ValueError, "dy has shape (6, 3)", "(6, 4)", arrays=[X]):
        backward(np.zeros((6, 3), np.float32), X, B, *form)
    with refused(TypeError, "dy has dtype float64", arrays=[X]):
        backward(np.zeros((6, 4)), X, B, *form)
    with refused(ValueError, "out shares memory with dy", arrays=[X]):
        backward(X, X + 1, B, *form, out=X)


def test_unknown_form():
    for form in ("erf", None, True):
        with refused(ValueError, f"approximate={form!r}", "none, tanh"):
            layers.bias_gelu(X, B, form)
        with refused(ValueError, f"approximate={form!r}", "none, tanh"):
            layers.bias_gelu_backward(X, X, B, form)
