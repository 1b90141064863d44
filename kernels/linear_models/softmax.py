"""Softmax of the rows of z; of a single column, the probabilities of no and yes by the logistic function.

.. math::

    p_{ij} = e^{z_{ij} - top_i} / sum_j e^{z_{ij} - top_i}

with top_i the largest of the row; 1 / (1 + e^{-|z|}) is the larger one of two. A row's sum runs in the order of its
columns.

Ranges: z (rows, columns) float32 or float64, C-contiguous, columns >= 1. A NaN makes its row NaN.
Source: J. Bridle, "Probabilistic interpretation of feedforward classification network outputs, with relationships to
statistical pattern recognition", 1990, https://doi.org/10.1007/978-3-642-76153-9_28

>>> import numpy as np
>>> from pyopt.kernels.linear_models import softmax
>>> print(softmax.forward(np.array([[0.0, 0.0, 0.0, 0.0]])))
[[0.25 0.25 0.25 0.25]]
>>> print(softmax.forward(np.array([[0.0]])))
[[0.5 0.5]]
"""

import numpy as np

from .. import checks
from ..cpu import engine, isa
from ..numerics.elementary import exp


def reference_forward(z):
    one = z.dtype.type(1.0)
    with np.errstate(all="ignore"):
        if z.shape[1] == 1:
            x = z[:, 0]
            e = exp(np.where(x > 0, -x, x))
            likely = one / (one + e)
            rare = e * likely
            return np.stack([np.where(x > 0, rare, likely), np.where(x > 0, likely, rare)], axis=1)
        top = z[:, 0]
        for j in range(1, z.shape[1]):
            top = np.where(z[:, j] > top, z[:, j], top)
        p = exp(z - top[:, None])
        total = p[:, 0]
        for j in range(1, z.shape[1]):
            total = total + p[:, j]
        return p / total[:, None]


def forward(z):
    """Return the probabilities, (rows, columns), or (rows, 2) of a single column."""
    checks.rows_array(z, "z")
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"z has shape {z.shape}: must be (rows, columns) with at least one column")
    p = np.empty((len(z), max(2, z.shape[1])), z.dtype)
    strides = z.shape[1] * z.itemsize, p.shape[1] * p.itemsize
    engine.sweep(isa.tiles(), "linear_models.softmax_forward", (z, p), strides, z.shape)
    return p
