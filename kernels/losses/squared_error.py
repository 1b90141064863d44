"""Squared error: the sum or the mean of (prediction - target)^2 over all elements.

Gradient: factor * (prediction - target), with factor = 2 for the sum and 2 / n for the mean of n elements, as
MSELoss of torch has it. The value is summed in float64.

Ranges: prediction and target of one shape and dtype, float32 or float64, C-contiguous. TypeError or ValueError else; a
mean of nothing is a ValueError.
Deviations: none.
Source: A. M. Legendre, "Nouvelles méthodes pour la détermination des orbites des comètes", 1805,
https://gallica.bnf.fr/ark:/12148/bpt6k15209372

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
>>> value
2.0
>>> print(gradient)
[ 0. -2.]
"""

import numpy as np

from .. import engine, isa


def reference(prediction, target, factor):
    with np.errstate(all="ignore"):
        d = prediction - target
        x = d.astype(np.float64)
        return (x * x).ravel(), factor * d


def compute(prediction, target, gradient, mean):
    count = prediction.size if mean else 1
    arrays, strides = (prediction, target, gradient), (prediction.itemsize,) * 3
    name, sizes = "losses.squared_error", (prediction.size,)
    return engine.sweep(isa.tiles(), name, arrays, strides, sizes, (2.0 / count,), True) / count
