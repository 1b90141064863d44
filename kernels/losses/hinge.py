"""Hinge: max(0, 1 - target * prediction), the loss of support vector machines.

.. math::

    loss = max(0, 1 - target prediction)

    gradient = -target if target prediction < 1, else 0

Ranges: prediction and target of one shape and storage type, C-contiguous; targets -1 or 1, which takes one
read of them before the pass. TypeError or ValueError else.
Deviations: none; at the kink the gradient is 0.
Source: C. Cortes, V. Vapnik, "Support-vector networks", 1995, https://doi.org/10.1007/BF00994018

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.hinge(np.array([0.5, 2.0, 2.0]), np.array([1.0, 1.0, -1.0]), "sum")
>>> value
3.5
>>> print(gradient)
[-1.  0.  1.]
"""

import numpy as np

from ..numerics.elementary import gate, relu

LABELS = (-1.0, 1.0)


def scalars(scale):
    return (scale, 1.0)


def reference(prediction, target, factor, one):
    m = one - target * prediction
    return relu(m).astype(np.float64), gate(m, factor * -target)
