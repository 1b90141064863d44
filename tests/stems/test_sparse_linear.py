"""The linear layer over a sparse matrix: the bits of its reference, and those of the dense layer."""

import numpy as np
import pytest

import pyopt
from pyopt.kernels.layers import linear
from pyopt.kernels.linear_models import sparse_linear
from support.helpers import same_bits, tame, wild


def problem(rows, inputs, outputs, dtype, make, share=0.4):
    """Return x as CSR and dense, row numbers with repeats, w, b, dz."""
    x = make(rows * inputs, dtype, 1).reshape(rows, inputs)
    keep = (np.random.default_rng(2).uniform(size=x.shape) < share) & (x != 0)
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))]).astype(np.int64)
    csr = x[keep], np.nonzero(keep)[1].astype(np.int32), indptr
    order = np.random.default_rng(3).integers(0, rows, rows)
    w, b = make(inputs * outputs, dtype, 4).reshape(inputs, outputs), make(outputs, dtype, 5)
    return csr, np.where(keep, x, 0), order, w, b, make(rows * outputs, dtype, 6).reshape(rows, outputs)


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_the_reference(isa, dtype, threads):
    pyopt.set_num_threads(threads)
    for shape in ((1, 1, 1), (5, 3, 2), (300, 40, 1), (90, 64, 10), (60, 31, 17), (700, 100, 3)):
        for make in (tame, wild):
            x, _, order, w, b, dz = problem(*shape, dtype, make)
            z = sparse_linear.forward(x, order, w, b)
            same_bits(z, sparse_linear.reference_forward(x, order, w, b), f"z of {shape}")
            got, want = (f(x, order, dz, shape[1]) for f in (sparse_linear.backward, sparse_linear.reference_backward))
            same_bits(got[0], want[0], f"dw of {shape}")
            same_bits(got[1], want[1], f"db of {shape}")


def test_bits_of_the_dense_layer(dtype):
    x, dense, order, w, b, dz = problem(200, 30, 7, dtype, tame)
    same_bits(sparse_linear.forward(x, order, w, b), linear.forward(dense[order], w, b))
    for got, want in zip(sparse_linear.backward(x, order, dz, 30), linear.backward(dense[order], dz), strict=True):
        same_bits(got, want)
