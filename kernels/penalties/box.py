"""Box: the projection of each weight onto [low, high].

Proximal: low where p <= low, high where p >= high, else p, for every step. A zero end is +0.
Ranges: low in [-inf, inf), high in (-inf, inf], low <= high. ValueError else.
Source: N. Parikh, S. Boyd, "Proximal algorithms", 2014, https://doi.org/10.1561/2400000003

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0, 0.25])
>>> print(pyopt.Box(-0.5, 0.5).prox(w, 1.0))
[ 0.5  -0.5   0.25]
"""

from dataclasses import dataclass, field
from math import inf

import numpy as np

from ..penalty import Projection


@dataclass(frozen=True)
class Box(Projection):
    """Projection onto [low, high]. low <= high, infinite ones allowed."""

    low: float = field(metadata={"low": -inf})
    high: float = field(metadata={"low": -inf, "above": True, "closed": True})

    def __post_init__(self):
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(f"low={self.low!r}, high={self.high!r}: low must be <= high")

    def scalars(self):
        return (self.low + 0.0, self.high + 0.0)  # -0.0 + 0.0 is 0.0

    @staticmethod
    def proximal(p, step, low, high):
        p = np.where(p <= low, low, p)
        return np.where(p >= high, high, p)
