"""Batch norm: every channel of a batch shifted to mean 0 and scaled to variance 1, then by a learned weight and bias.

.. math::

    y &= weight * (x - mean) * inv_std + bias,    inv_std = 1 / sqrt(var + eps)

    dbias &= sum dy,    dweight = sum dy * (x - mean) * inv_std

    dx &= weight * inv_std * (dy - dbias / n - (x - mean) * inv_std * dweight / n)

with mean and var over the n numbers of a channel, in training; dx = weight * inv_std * dy with given moments. x is
(samples, channels) or (samples, channels, ...). Sums are float64 over the tree of a batch (``reductions.py``), of x
less the first number of its channel, so that a large mean costs the variance no digits; mean and inv_std are kept in
float64.
Backward reads x again: nothing else of its size is kept.

Running statistics as in torch: running += momentum * (new - running), with the unbiased variance, n - 1 in place of n.

Ranges: arrays of one dtype, float32 or float64, C-contiguous; n >= 2 in training; eps > 0; momentum in [0, 1].
TypeError or ValueError else.
Deviations: none; dx is the slope for mean and var of the batch, as in torch.
Source: S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate
shift", ICML 2015, https://arxiv.org/abs/1502.03167

>>> import numpy as np, pyopt
>>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
>>> y, mean, inv_std = pyopt.layers.batch_norm(x, training=True)
>>> print(y.round(3))
[[-1. -1.]
 [ 1.  1.]]
"""

import numpy as np

from ..cpu import engine, isa
from ..numerics import reductions
from ..numerics.elementary import ieee


def reference_forward(x, weight, bias, eps, mean=None, variance=None):
    """Return y, mean, variance and inv_std; x is (samples, channels, pixels)."""
    with np.errstate(all="ignore"):
        if mean is None:
            wide, at = x.astype(np.float64), shift(x)
            d = wide - _wide(at)
            mean, variance = moments(reductions.batch_sum(d), reductions.batch_sum(d * d), at, _count(x))
        inv_std = 1.0 / np.sqrt(variance + eps)
        high, low, scale = factors(weight, mean, inv_std)
        y = ((x - _wide(high)) - _wide(low)) * _wide(scale) + _wide(bias)
        return y, mean, variance, inv_std


def reference_backward(dy, x, weight, mean, inv_std, given=False):
    """Return dx, dweight and dbias."""
    with np.errstate(all="ignore"):
        wide = dy.astype(np.float64)
        total = reductions.batch_sum(wide)
        product = reductions.batch_sum(wide * (x.astype(np.float64) - _wide(mean))) * inv_std
        high, low, scale = map(_wide, factors(weight, mean, inv_std))
        share, slope = map(_wide, shares(x, total, product, inv_std))
        dx = dy * scale if given else ((dy - share) - ((x - high) - low) * slope) * scale
        return dx, product.astype(x.dtype), total.astype(x.dtype)


def shift(x):
    """Return what is subtracted from each channel before it is summed."""
    first = x[0, :, 0].astype(np.float64)
    return np.where(np.isfinite(first), first, 0.0)


def moments(total, squares, at, count):
    """Return mean and variance from the sums of x - at and of its square."""
    average = total / count
    variance = (squares - total * average) / count
    return at + average, np.where(variance < 0, 0.0, variance)


def factors(weight, mean, inv_std):
    """Return mean as a sum of two numbers of the weight's dtype, which loses nothing, and the scale."""
    high = mean.astype(weight.dtype)
    low = (mean - high.astype(np.float64)).astype(weight.dtype)
    return high, low, (weight.astype(np.float64) * inv_std).astype(weight.dtype)


def shares(x, total, product, inv_std):
    """Return the parts of dx that come through mean and variance: as they are, and for each unit of x - mean."""
    return (total / _count(x)).astype(x.dtype), (product * inv_std / _count(x)).astype(x.dtype)


def forward(x, weight, bias, eps, y, mean=None, variance=None):
    """Fill y; return mean, variance and inv_std. All arrays are checked, and x is (samples, channels, pixels)."""
    with ieee():
        if mean is None:
            at = shift(x)
            total, squares = _sums("squares", (x, at), x)
            mean, variance = moments(total, squares, at, _count(x))
        else:
            mean, variance = mean.astype(np.float64), variance.astype(np.float64)
        inv_std = 1.0 / np.sqrt(variance + eps)
        _planes("forward", (x, y), (*factors(weight, mean, inv_std), bias), x)
        return mean, variance, inv_std


def backward(dy, x, weight, mean, inv_std, dx, given):
    """Fill dx; return dweight and dbias. All arrays are checked, and x is (samples, channels, pixels)."""
    with ieee():
        total, product = _sums("products", (dy, x, mean), x)
        product = product * inv_std
        high, low, scale = factors(weight, mean, inv_std)
        if given:
            _planes("scale", (dy, dx), (scale,), x)
        else:
            _planes("backward", (dy, x, dx), (high, low, scale, *shares(x, total, product, inv_std)), x)
        return product.astype(x.dtype), total.astype(x.dtype)


def running(x, running_mean, running_var, momentum, mean, variance):
    """Update running statistics with those of the batch."""
    unbiased = _count(x) / (_count(x) - 1.0)
    with ieee():
        for old, new in ((running_mean, mean), (running_var, variance * unbiased)):
            old[...] = (1.0 - momentum) * old.astype(np.float64) + momentum * new


def _sums(name, arrays, x):
    """Return two sums for each channel."""
    samples, channels, pixels = x.shape
    leaves = -(-samples // reductions.SAMPLES)
    sums = np.zeros((max(leaves, 1), 2, channels))
    sizes = (leaves * channels, 0, channels, samples, pixels)
    strides = (0,) * (len(arrays) + 1)
    least, most = (32, 512) if pixels == 1 else (1, 16)
    block = max(least, min(most, sizes[0] // (2 * engine.threads())))
    engine.sweep(isa.tiles(), f"layers.batch_norm_{name}", (*arrays, sums), strides, sizes, block=block, first=1)
    engine.sweep(isa.tiles(), "reductions.fold_rows", (sums,), (8,), (2 * channels, leaves, 2 * channels), block=512)
    return sums[0]


def _planes(name, arrays, vectors, x):
    """Run a tile over the planes of the samples."""
    samples, channels, pixels = x.shape
    strides = (pixels * x.itemsize,) * len(arrays) + (0,) * len(vectors)
    sizes, block = (samples * channels, 0, channels, pixels), max(1, 32768 // max(1, pixels))
    engine.sweep(isa.tiles(), f"layers.batch_norm_{name}", (*arrays, *vectors), strides, sizes, block=block, first=1)


def _count(x):
    return float(x.shape[0] * x.shape[2])


def _wide(a):
    return a[None, :, None]
