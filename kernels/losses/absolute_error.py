"""Absolute error: |prediction - target| of every element.

.. math::

    loss = |prediction - target|

    gradient = sign(prediction - target)

The gradient is 0 where both are equal.

Ranges: prediction and target of one shape and storage type, C-contiguous. TypeError or ValueError else.
Deviations: the gradient of a NaN is 0, as sign has it in torch; its value is NaN. Else as L1Loss of torch.
Source: P.-S. Laplace, "Sur quelques points du système du monde", 1789, after R. Boscovich, 1757; see S. Stigler,
"The history of statistics", 1986, https://www.hup.harvard.edu/books/9780674403413

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.absolute_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
>>> value
1.0
>>> print(gradient)
[ 0.  -0.5]
"""

import numpy as np

from ..numerics.elementary import magnitude, sign


def scalars(scale):
    return (scale,)


def reference(prediction, target, factor):
    d = prediction - target
    return magnitude(d).astype(np.float64), factor * sign(d)
