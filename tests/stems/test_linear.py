"""The linear layer: the bits of its reference everywhere, and the values of an ordinary product."""

import doctest

import numpy as np
import pytest

import pyopt
from pyopt.kernels.layers import linear
from support.helpers import refused, same_bits, tame, wild

SHAPES = (
    (0, 3, 2),
    (1, 1, 1),
    (5, 3, 2),
    (4, 256, 16),
    (6, 257, 17),
    (33, 64, 10),
    (700, 64, 33),
    (2049, 17, 1),
    (3, 5, 0),
)


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_the_reference(isa, dtype, threads):
    pyopt.set_num_threads(threads)
    for rows, inputs, outputs in SHAPES:
        for make in (tame, wild):
            x, w = make((rows * inputs), dtype, 1).reshape(rows, inputs), make(inputs * outputs, dtype, 2)
            w, b = w.reshape(inputs, outputs), make(outputs, dtype, 3)
            dz = make(rows * outputs, dtype, 4).reshape(rows, outputs)
            label = f"{make.__name__} {rows, inputs, outputs}"
            same_bits(linear.forward(x, w, b), linear.reference_forward(x, w, b), f"z of {label}")
            for got, want in zip(linear.backward(x, dz), linear.reference_backward(x, dz), strict=True):
                same_bits(got, want, f"gradient of {label}")


def test_values_of_a_product(dtype):
    x, w, b, dz = (tame(shape, dtype, seed) for seed, shape in enumerate([(50, 30), (30, 20), (20,), (50, 20)]))
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(linear.forward(x, w, b), x @ w + b, **tolerance)
    dw, db = linear.backward(x, dz)
    np.testing.assert_allclose(dw, x.T @ dz, **tolerance)
    np.testing.assert_allclose(db, dz.sum(axis=0), **tolerance)


def test_out_and_doctest():
    x, w, b = tame((5, 3), np.float32), tame((3, 2), np.float32), tame(2, np.float32)
    out = np.full((5, 2), np.nan, np.float32)
    assert linear.forward(x, w, b, out) is out
    same_bits(out, linear.forward(x, w, b))
    assert doctest.testmod(linear) == (0, 5)


X, W, B = tame((5, 3), np.float32), tame((3, 2), np.float32), tame(2, np.float32)


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, ("(5, 3)", "(2, 2)", "(inputs, outputs)"), {"w": W[:2]}),
        (ValueError, ("b (3,)",), {"b": X[0]}),
        (TypeError, ("w has dtype float64", "x float32"), {"w": W.astype(np.float64)}),
        (ValueError, ("x has strides",), {"x": np.asfortranarray(X)}),
        (TypeError, ("x is list",), {"x": [[1.0]]}),
        (ValueError, ("out has shape (5, 3)", "(5, 2)"), {"out": np.zeros((5, 3), np.float32)}),
        (ValueError, ("out shares memory",), {"x": X[:, :2].copy(), "w": W[:2], "out": None}),
    ],
)
def test_bad_arguments(error, words, change):
    given = {"x": X, "w": W, "b": B, **change}
    if "out" in change and change["out"] is None:
        given["out"] = given["x"]
    with refused(error, *words, arrays=list(given.values())):
        linear.forward(**given)


def test_backward_refuses_other_rows():
    with refused(ValueError, "(5, 3)", "(4, 2)", arrays=[X]):
        linear.backward(X, np.zeros((4, 2), np.float32))
