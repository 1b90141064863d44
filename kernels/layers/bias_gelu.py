"""Bias and GELU: y = z * Phi(z) with z = x + bias, and its gradients, each in one pass.

.. math::

    y &= z * Phi(z),    z = x + bias

    dx &= dy * (Phi(z) + z * phi(z)),    dbias = sum dx over rows

with Phi(z) = (1 + erf(z / sqrt 2)) / 2, the normal distribution, and phi its density (``normal.py``). The tanh form has
(1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2 = 1 / (1 + e^(-z (a + b z^2))) in place of Phi. x is (rows, columns),
bias (columns,); dbias is summed in float64 over the tree of a batch (``reductions.py``).

Accuracy: y and the slope within 6 eps of the exact ones, of the larger of 1 and |z|.
Ranges: arrays of one storage type, C-contiguous, with shapes that fit; approximate is "none" or "tanh".
TypeError or ValueError else.
Deviations: none; y at -inf and the slope at either infinity are NaN, as in torch.
Source: D. Hendrycks, K. Gimpel, "Gaussian error linear units (GELUs)", 2016, https://arxiv.org/abs/1606.08415

>>> import numpy as np, pyopt
>>> x, bias = np.array([[1.0, -3.0]]), np.array([0.0, 1.0])
>>> print(pyopt.layers.bias_gelu(x, bias).round(4))
[[ 0.8413 -0.0455]]
>>> print(pyopt.layers.bias_gelu_backward(np.ones((1, 2)), x, bias)[1].round(4))
[ 1.0833 -0.0852]
"""

import numpy as np

from ..numerics import reductions
from ..numerics.codecs import encode, upcast
from ..numerics.elementary import exp
from ..numerics.normal import normal
from .bias_relu import sweep_leaves, sweep_rows

FORMS = ("none", "tanh")
# 2 sqrt(2 / pi), that times 0.044715, and three times as much
TANH = (1.5957691216057308, 0.07135481627260025, 0.21406444881780076)


def reference_forward(x, bias, approximate="none"):
    with np.errstate(all="ignore"):
        z = upcast(x) + upcast(bias)
        return encode(z * _share(z, approximate)[0], x.dtype)


def reference_backward(dy, x, bias, approximate="none"):
    """Return dx and dbias."""
    with np.errstate(all="ignore"):
        z = upcast(x) + upcast(bias)
        share, slope = _share(z, approximate)
        dx = upcast(dy) * (share + z * slope)
        return encode(dx, x.dtype), encode(reductions.batch_sum(dx.astype(np.float64)[:, :, None]), x.dtype)


def _share(z, approximate):
    """Return the share of z that passes, and its derivative."""
    if approximate == "none":
        return normal(z)
    real = z.dtype.type
    a, b, b3 = map(real, TANH)
    q = z * z
    u = z * (a + b * q)
    e = exp(np.where(u < 0, u, -u))
    r = real(1) / (real(1) + e)
    return np.where(u < 0, e * r, r), ((e * r) * r) * (a + b3 * q)


def forward(x, bias, y, approximate):
    """Fill y. All arrays are checked, and x is (rows, columns)."""
    sweep_rows(f"layers.bias_gelu{_form(approximate)}_forward", x, bias, y)


def backward(dy, x, bias, dx, approximate):
    """Fill dx; return dbias. All arrays are checked, and x is (rows, columns)."""
    return sweep_leaves(f"layers.bias_gelu{_form(approximate)}_backward", dy, x, bias, dx)


def _form(approximate):
    return "" if approximate == "none" else "_tanh"
