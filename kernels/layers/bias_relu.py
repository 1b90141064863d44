"""Bias and ReLU: y = max(x + bias, 0), and its gradients, each in one pass.

.. math::

    y &= z if z > 0 else 0,    z = x + bias

    dx &= dy if z > 0 else 0,    dbias = sum dx over rows

x is (rows, columns), bias (columns,); dbias is summed in float64 over the tree of a batch (``norms.py``).

Ranges: arrays of one dtype, float32 or float64, C-contiguous, with shapes that fit. TypeError or ValueError else.
Deviations: none; a NaN in x + bias stays one in y, and lets dy through, as in torch.
Source: V. Nair, G. Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010,
https://icml.cc/Conferences/2010/papers/432.pdf

>>> import numpy as np, pyopt
>>> x, bias = np.array([[1.0, -3.0], [2.0, 4.0]]), np.array([0.5, 1.0])
>>> print(pyopt.layers.bias_relu(x, bias))
[[1.5 0. ]
 [2.5 5. ]]
>>> print(pyopt.layers.bias_relu_backward(np.ones((2, 2)), x, bias)[1])
[2. 1.]
"""

import numpy as np

from .. import engine, isa, norms
from ..numerics import ieee


def reference_forward(x, bias):
    with np.errstate(all="ignore"):
        z = x + bias
        return np.where(z <= 0, x.dtype.type(0), z)


def reference_backward(dy, x, bias):
    """Return dx and dbias."""
    with np.errstate(all="ignore"):
        dx = np.where(x + bias <= 0, x.dtype.type(0), dy)
        return dx, norms.batch_sum(dx.astype(np.float64)[:, :, None]).astype(x.dtype)


def forward(x, bias, y):
    """Fill y. All arrays are checked, and x is (rows, columns)."""
    sweep_rows("layers.bias_relu_forward", x, bias, y)


def backward(dy, x, bias, dx):
    """Fill dx; return dbias. All arrays are checked, and x is (rows, columns)."""
    return sweep_leaves("layers.bias_relu_backward", dy, x, bias, dx)


def sweep_rows(name, x, bias, y):
    """Run the forward tile of a layer that adds a bias."""
    rows, columns = x.shape
    strides = (columns * x.itemsize, 0, columns * x.itemsize)
    engine.sweep(isa.tiles(), name, (x, bias, y), strides, (rows, columns))


def sweep_leaves(name, dy, x, bias, dx):
    """Run the backward tile of a layer that adds a bias; return the sum of dx over rows."""
    rows, columns = x.shape
    leaves = -(-rows // norms.SAMPLES)
    sums = np.zeros((max(leaves, 1), columns))
    arrays, sizes = (dy, x, bias, dx, sums), (leaves, 0, rows, columns)
    engine.sweep(isa.tiles(), name, arrays, (0,) * 5, sizes, block=1, first=1)
    engine.sweep(isa.tiles(), "norms.fold_rows", (sums,), (8,), (columns, leaves, columns), block=512)
    with ieee():
        return sums[0].astype(x.dtype)
