"""Layer norm: every row shifted to mean 0 and scaled to variance 1, then by a learned weight and bias.

.. math::

    y &= (x - mean) * inv_std * weight + bias,    inv_std = 1 / sqrt(var + eps)

    dbias &= sum dy,    dweight = sum dy * (x - mean) * inv_std,    both over rows

    dx &= inv_std * (g - mean(g) - (x - mean) * inv_std * mean(g * (x - mean) * inv_std)),    g = dy * weight

with mean and var over the numbers of a row. x is (rows, columns). The sums over a row are float64 in 32 lanes, of x
less its first number; those over rows go over the tree of a batch (``reductions.py``). mean and inv_std stay float64.

Ranges: arrays of one storage type, C-contiguous, columns >= 1; eps > 0. TypeError or ValueError else.
Deviations: none.
Source: J. L. Ba, J. R. Kiros, G. Hinton, "Layer normalization", 2016, https://arxiv.org/abs/1607.06450

>>> import numpy as np, pyopt
>>> y, mean, inv_std = pyopt.layers.layer_norm(np.array([[1.0, 3.0], [-5.0, 5.0]]))
>>> print(y.round(3))
[[-1.  1.]
 [-1.  1.]]
"""

import numpy as np

from ..cpu import engine, isa
from ..numerics import reductions
from ..numerics.codecs import encode, upcast
from ..numerics.elementary import ieee


def reference_forward(x, weight, bias, eps):
    """Return y, mean and inv_std."""
    with np.errstate(all="ignore"):
        stored, x = x.dtype, upcast(x)
        double, count = x.astype(np.float64), float(x.shape[1])
        at = np.where(np.isfinite(double[:, 0]), double[:, 0], 0.0)
        d = double - at[:, None]
        total = reductions.row_sum(d)
        average = total / count
        variance = (reductions.row_sum(d * d) - total * average) / count
        mean = at + average
        inv_std = 1.0 / np.sqrt(np.where(variance < 0, 0.0, variance) + eps)
        y = (_centred(x, mean) * inv_std.astype(x.dtype)[:, None]) * upcast(weight) + upcast(bias)
        return encode(y, stored), mean, inv_std


def reference_backward(dy, x, weight, mean, inv_std):
    """Return dx, dweight and dbias."""
    with np.errstate(all="ignore"):
        stored, dy, x, weight = x.dtype, upcast(dy), upcast(x), upcast(weight)
        double, count = dy.astype(np.float64), float(x.shape[1])
        d = x.astype(np.float64) - mean[:, None]
        g = double * weight.astype(np.float64)
        share = (reductions.row_sum(g) / count).astype(x.dtype)[:, None]
        slope = (reductions.row_sum(g * d) * inv_std * inv_std / count).astype(x.dtype)[:, None]
        dx = ((dy * weight - share) - _centred(x, mean) * slope) * inv_std.astype(x.dtype)[:, None]
        dweight = reductions.batch_sum((double * (d * inv_std[:, None]))[:, :, None])
        return encode(dx, stored), encode(dweight, stored), encode(reductions.batch_sum(double[:, :, None]), stored)


def _centred(x, mean):
    """Return x - mean, with mean as a sum of two numbers of x's dtype, which loses nothing."""
    high = mean.astype(x.dtype)
    low = (mean - high.astype(np.float64)).astype(x.dtype)
    return (x - high[:, None]) - low[:, None]


def forward(x, weight, bias, eps, y):
    """Fill y; return mean and inv_std. All arrays are checked, and x is (rows, columns)."""
    (rows, columns), size = x.shape, x.itemsize
    mean, inv_std = np.empty(rows), np.empty(rows)
    arrays = (x, upcast(weight), upcast(bias), y, mean, inv_std, np.array([eps]))
    strides = (columns * size, 0, 0, columns * size, 8, 8, 0)
    engine.sweep(isa.tiles(), "layers.layer_norm_forward", arrays, strides, (rows, columns), out=3)
    return mean, inv_std


def backward(dy, x, weight, mean, inv_std, dx):
    """Fill dx; return dweight and dbias. All arrays are checked, and x is (rows, columns)."""
    rows, columns = x.shape
    leaves, row = -(-rows // reductions.SAMPLES), columns * x.itemsize
    sums = np.zeros((max(leaves, 1), 2, columns))
    arrays, strides = (dy, x, upcast(weight), mean, inv_std, dx, sums), (row, row, 0, 8, 8, row, 0)
    name, sizes = "layers.layer_norm_backward", (rows, 0, columns)
    engine.sweep(isa.tiles(), name, arrays, strides, sizes, block=reductions.SAMPLES, first=1, out=5)
    engine.sweep(isa.tiles(), "reductions.fold_rows", (sums,), (8,), (2 * columns, leaves, 2 * columns), block=512)
    with ieee():
        dbias, dweight = encode(sums[0], x.dtype)
        return dweight, dbias
