"""Sums over weighted rows: sum_i weight_i sum_j x_ij, and sum_i weight_i sum_j (x_ij - centre_j)^2.

A row's sum is float64: in the order of its columns, or over the 16 lanes of linear_sgd where they are squared, but that
the last columns go to the first lanes. The rows go over the tree of ``norms``. Estimators take the
scale of their data from it.

Ranges: x (rows, columns), centre (columns,) and weight (rows,) float32 or float64 of one dtype, C-contiguous. The
caller checks them: this is the inside of ``pyopt.estimators``.
Source: K. Pearson, "Contributions to the mathematical theory of evolution", 1894,
https://doi.org/10.1098/rsta.1894.0003

>>> import numpy as np
>>> from pyopt.kernels.linear_models import moments
>>> x, weight = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0])
>>> moments.first(x, weight), moments.second(x, np.ones(2), weight)
(73.0, 131.0)
"""

import numpy as np

from ..cpu import engine, isa
from ..numerics import reductions


def reference_first(x, weight):
    with np.errstate(all="ignore"):
        return reductions.tree_sum(weight.astype(np.float64) * _along(x.astype(np.float64)))


def reference_second(x, centre, weight):
    with np.errstate(all="ignore"):
        d = (x - centre).astype(np.float64)
        lanes = np.zeros((16, len(x)))
        for j in range(x.shape[1]):
            lanes[j % 16] += d[:, j] * d[:, j]
        return reductions.tree_sum(weight.astype(np.float64) * reductions.fold_lanes(lanes))


def _along(x):
    total = np.zeros(len(x))
    for j in range(x.shape[1]):
        total = total + x[:, j]
    return total


def first(x, weight):
    """Return the weighted sum of the elements of x."""
    strides = (x.shape[1] * x.itemsize, weight.itemsize)
    return engine.sweep(isa.tiles(), "linear_models.weighted_sums", (x, weight), strides, x.shape, (), True)


def second(x, centre, weight):
    """Return the weighted sum of the squares of the elements of x, as they differ from the centre of their column."""
    strides = (x.shape[1] * x.itemsize, 0, weight.itemsize)
    return engine.sweep(isa.tiles(), "linear_models.weighted_squares", (x, centre, weight), strides, x.shape, (), True)
