"""Huber: half the squared error for errors up to delta, a straight line beyond.

.. math::

    d &= prediction - target

    loss &= d^2 / 2 if |d| <= delta, else delta (|d| - delta / 2)

    gradient &= d, but -delta below -delta and delta above delta

Ranges: prediction and target of one shape and storage type, C-contiguous; delta finite and > 0. TypeError
or ValueError else.
Deviations: none; as HuberLoss of torch, with weights of the samples. Terms are float64.
Source: P. J. Huber, "Robust estimation of a location parameter", 1964, https://doi.org/10.1214/aoms/1177703732

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.huber(np.array([1.0, 2.0]), np.array([1.5, 5.0]), "sum", delta=2.0)
>>> value
4.125
>>> print(gradient)
[-0.5 -2. ]
"""

import numpy as np

from ..numerics.elementary import magnitude


def scalars(scale, delta):
    return (scale, delta, 0.5)


def reference(prediction, target, factor, delta, half):
    d = prediction - target
    a = magnitude(d)
    c = np.where(a > delta, delta, a).astype(np.float64)
    slope = np.where(d < -delta, -delta, d)
    slope = np.where(slope > delta, delta, slope)
    return c * (a.astype(np.float64) - np.float64(half) * c), factor * slope
