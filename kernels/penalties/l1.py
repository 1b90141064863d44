"""L1: alpha * sum |p|, the lasso's penalty.

Gradient: alpha * sign(p), 0 at p = 0. As a gradient it makes weights small, and lets them cycle around 0 with steps of
lr * alpha; the proximal form makes exact zeros.
Proximal: p moved towards 0 by step * alpha, at most to 0.
Ranges: alpha finite and >= 0, ValueError else.
Source: R. Tibshirani, "Regression shrinkage and selection via the lasso", 1996,
https://doi.org/10.1111/j.2517-6161.1996.tb02080.x

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0, 0.0])
>>> pyopt.L1(0.5).value(w)
1.5
>>> print(pyopt.L1(0.5).grad(w))
[ 0.5 -0.5  0. ]
"""

from dataclasses import dataclass

import numpy as np

from ..numerics.elementary import sign, soft
from ..penalty import Penalty


@dataclass(frozen=True)
class L1(Penalty):
    """L1 penalty: alpha * sum |p|, with gradient alpha * sign(p). alpha >= 0."""

    alpha: float

    def scalars(self):
        return (self.alpha,)

    @staticmethod
    def terms(p, alpha):
        return np.float64(alpha) * np.abs(p.astype(np.float64))

    @staticmethod
    def gradient(p, g, alpha):
        return g + alpha * sign(p)

    @staticmethod
    def proximal(p, step, alpha):
        return soft(p, step * alpha)
