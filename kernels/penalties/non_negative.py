"""Non-negative: the projection of each weight onto [0, infinity).

Proximal: +0 where p <= 0, else p, for every step.
Ranges: it has no coefficients.
Source: N. Parikh, S. Boyd, "Proximal algorithms", 2014, https://doi.org/10.1561/2400000003

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0, 0.25])
>>> print(pyopt.NonNegative().prox(w, 1.0))
[1.   0.   0.25]
"""

from dataclasses import dataclass

import numpy as np

from ..penalty import Projection


@dataclass(frozen=True)
class NonNegative(Projection):
    """Projection onto [0, infinity)."""

    def scalars(self):
        return ()

    @staticmethod
    def proximal(p, step):
        return np.where(p <= 0, p.dtype.type(0), p)
