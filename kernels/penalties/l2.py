"""L2: alpha * sum p^2, the ridge penalty of the textbooks.

Gradient: 2 * alpha * p. Proximal: p / (1 + 2 * step * alpha). torch's weight_decay is the gradient wd * p: ``L2(wd /
2)``.
Ranges: alpha finite and >= 0, ValueError else.
Source: A. Hoerl, R. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", 1970,
https://doi.org/10.1080/00401706.1970.10488634

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0, 0.0])
>>> pyopt.L2(0.5).value(w)
2.5
>>> print(pyopt.L2(0.5).grad(w))
[ 1. -2.  0.]
"""

from dataclasses import dataclass

import numpy as np

from ..penalty import Penalty


@dataclass(frozen=True)
class L2(Penalty):
    """L2 penalty: alpha * sum p^2, with gradient 2 * alpha * p. alpha >= 0."""

    alpha: float

    def scalars(self):
        return (2.0 * self.alpha,)

    @staticmethod
    def terms(p, two_alpha):
        x = p.astype(np.float64)
        return 0.5 * np.float64(two_alpha) * (x * x)

    @staticmethod
    def gradient(p, g, two_alpha):
        return g + two_alpha * p

    @staticmethod
    def proximal(p, step, two_alpha):
        return p / (1 + step * two_alpha)
