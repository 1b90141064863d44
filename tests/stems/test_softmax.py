"""Softmax: the bits of its reference, torch's values, clear errors."""

import numpy as np
import pytest

from pyopt.kernels.linear_models import softmax
from support.helpers import refused, same_bits, tame, wild


def test_bits_of_the_reference(isa, dtype):
    for shape in ((0, 3), (1, 1), (1009, 1), (5, 2), (700, 10), (3, 33)):
        for make in (tame, wild):
            z = make(shape[0] * shape[1], dtype).reshape(shape)
            same_bits(softmax.forward(z), softmax.reference_forward(z), f"{make.__name__} {shape}")


def test_values(dtype):
    z = tame((40, 6), dtype) * dtype(9)
    wide = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(softmax.forward(z), wide / wide.sum(axis=1, keepdims=True), rtol=tolerance, atol=1e-30)
    yes = 1 / (1 + np.exp(-z[:, :1].astype(np.float64)))
    np.testing.assert_allclose(softmax.forward(z[:, :1].copy())[:, 1:], yes, rtol=tolerance)
    np.testing.assert_allclose(softmax.forward(-z[:, :1])[:, :1], yes, rtol=tolerance)


@pytest.mark.parametrize("shape", [(3,), (3, 0)])
def test_bad_shapes(shape):
    with refused(ValueError, str(shape), "(rows, columns)"):
        softmax.forward(np.zeros(shape))
