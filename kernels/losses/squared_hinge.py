"""Squared hinge: max(0, 1 - target * prediction)^2, which is smooth at the margin.

.. math::

    loss = max(0, 1 - target prediction)^2

    gradient = -2 target max(0, 1 - target prediction)

Ranges: prediction and target of one shape and storage type, C-contiguous; targets -1 or 1, which takes one
read of them before the pass. TypeError or ValueError else.
Deviations: none. Terms are float64.
Source: C. Cortes, V. Vapnik, "Support-vector networks", 1995, https://doi.org/10.1007/BF00994018

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.squared_hinge(np.array([0.5, 2.0, 2.0]), np.array([1.0, 1.0, -1.0]), "sum")
>>> value
9.25
>>> print(gradient)
[-1.  0.  6.]
"""

import numpy as np

from ..numerics.elementary import gate, relu

LABELS = (-1.0, 1.0)


def scalars(scale):
    return (2.0 * scale, 1.0)


def reference(prediction, target, factor, one):
    m = one - target * prediction
    h = relu(m)
    x = h.astype(np.float64)
    return x * x, gate(m, factor * (h * -target))
