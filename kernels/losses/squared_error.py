"""Squared error: (prediction - target)^2 of every element.

.. math::

    loss = (prediction - target)^2

    gradient = 2 (prediction - target)

Ranges: prediction and target of one shape and storage type, C-contiguous. TypeError or ValueError else.
Deviations: none; as MSELoss of torch, with weights of the samples. Terms are float64.
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


def scalars(scale):
    return (2.0 * scale,)


def reference(prediction, target, factor):
    d = prediction - target
    x = d.astype(np.float64)
    return x * x, factor * d
