"""Bias and ReLU: y = max(x + bias, 0), and its gradients, each in one pass.

.. math::

    y &= z if z > 0 else 0,    z = x + bias

    dx &= dy if z > 0 else 0,    dbias = sum dx over rows

x is (rows, columns), bias (columns,); dbias is summed in float64 over the tree of a batch (``reductions.py``).

Ranges: arrays of one storage type, C-contiguous, with shapes that fit. TypeError or ValueError else.
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

from ..cpu import engine, isa
from ..numerics import reductions
from ..numerics.codecs import encode, upcast
from ..numerics.elementary import ieee


def reference_forward(x, bias):
    with np.errstate(all="ignore"):
        z = upcast(x) + upcast(bias)
        return encode(np.where(z <= 0, z.dtype.type(0), z), x.dtype)


def reference_backward(dy, x, bias):
    """Return dx and dbias."""
    with np.errstate(all="ignore"):
        z = upcast(x) + upcast(bias)
        dx = np.where(z <= 0, z.dtype.type(0), upcast(dy))
        return encode(dx, x.dtype), encode(reductions.batch_sum(dx.astype(np.float64)[:, :, None]), x.dtype)


def forward(x, bias, y):
    """Fill y. All arrays are checked, and x is (rows, columns)."""
    sweep_rows("layers.bias_relu_forward", x, bias, y)


def backward(dy, x, bias, dx):
    """Fill dx; return dbias. All arrays are checked, and x is (rows, columns)."""
    return sweep_leaves("layers.bias_relu_backward", dy, x, bias, dx)


def sweep_rows(name, x, bias, y):
    """Run the forward tile of a layer that adds a bias."""
    row = x.shape[1] * x.itemsize
    engine.sweep(isa.tiles(), name, (x, upcast(bias), y), (row, 0, row), x.shape, out=2)


def sweep_leaves(name, dy, x, bias, dx):
    """Run the backward tile of a layer that adds a bias; return the sum of dx over rows."""
    rows, columns = x.shape
    leaves = -(-rows // reductions.SAMPLES)
    sums, row = np.zeros((max(leaves, 1), columns)), columns * x.itemsize
    arrays, sizes = (dy, x, upcast(bias), dx, sums), (rows, 0, columns)
    engine.sweep(isa.tiles(), name, arrays, (row, row, 0, row, 0), sizes, block=reductions.SAMPLES, first=1, out=3)
    engine.sweep(isa.tiles(), "reductions.fold_rows", (sums,), (8,), (columns, leaves, columns), block=512)
    with ieee():
        return encode(sums[0], x.dtype)
