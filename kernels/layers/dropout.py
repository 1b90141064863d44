"""Dropout: each number is set to 0 with probability p, and divided by the probability that it is not.

.. math::

    y_i &= scale * x_i if bits_i >= threshold else 0

    dx_i &= scale * dy_i if bits_i >= threshold else 0

with 16 random bits for every element, threshold = p * 2^16 rounded to an integer, scale = 2^16 / (2^16 - threshold).

The bits are those of Philox (``philox.py``) at the number of the element in C order: the key is the seed, the counter
holds step, layer and the stream of dropout. So backward is the same function of dy, no mask is kept, and neither
threads nor the cut into blocks change a bit.

Ranges: x of any storage type, C-contiguous; p in [0, 1); seed in [0, 2^64), step in [0, 2^32), layer in [0, 2^24).
TypeError or ValueError else.
Deviations: p is a multiple of 2^-16 below 1, the nearest to what is given; the scale belongs to that one, so that the
expectation of y is x. A dropped number is +0, an infinite one or a NaN too.
Source: N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014,
https://jmlr.org/papers/v15/srivastava14a.html

>>> import numpy as np, pyopt
>>> x = np.ones((2, 5))
>>> y = pyopt.layers.dropout(x, 0.5, seed=1, step=0)
>>> print(np.unique(y))
[0. 2.]
"""

import numpy as np

from ..cpu import engine, isa
from ..numerics import philox
from ..numerics.codecs import encode, upcast

PAST_CACHES = 2**25  # bytes of y that no cache is likely to keep until somebody reads them


def settings(p):
    """Return the threshold and the scale of a probability."""
    threshold = min(65535, int(65536.0 * p + 0.5))
    return threshold, 65536.0 / (65536 - threshold)


def reference(x, p, seed, step, layer=0):
    threshold, scale = settings(p)
    bits = philox.bits16(seed, 0, x.size, step, philox.DROPOUT, layer).reshape(x.shape)
    with np.errstate(all="ignore"):
        z = upcast(x)
        return encode(np.where(bits >= threshold, z * z.dtype.type(scale), z.dtype.type(0)), x.dtype)


def compute(x, y, p, seed, step, layer):
    """Fill y. All arguments are checked."""
    threshold, scale = settings(p)
    key = seed - 2**64 if seed >= 2**63 else seed  # the same 64 bits
    past = x.nbytes > PAST_CACHES and x.itemsize > 2  # else y is scratch, and encoded from there
    sizes = (x.size, 0, threshold, key, step, (philox.DROPOUT << 24) + layer, past)
    strides = (x.itemsize,) * 2
    engine.sweep(isa.tiles(), "layers.dropout", (x, y), strides, sizes, (scale,), block=16384, first=1, out=1)
