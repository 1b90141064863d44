"""Minimax concave penalty: L1 near 0 that levels off, so that large weights are not biased towards 0.

alpha * |p| - p^2 / (2 * gamma) where |p| <= gamma * alpha, else gamma * alpha^2 / 2, summed.
Gradient: (alpha - |p| / gamma) * sign(p), 0 where |p| > gamma * alpha.
Proximal: p moved towards 0 by step * alpha and divided by (gamma - step) / gamma; p itself where |p| > gamma * alpha.
The point is unique for step < gamma, ValueError else; a rule with a step of its own for each element needs metric="lr".
Ranges: alpha finite and >= 0; gamma finite and > 1. ValueError else.
Source: C.-H. Zhang, "Nearly unbiased variable selection under minimax concave penalty", 2010,
https://doi.org/10.1214/09-AOS729

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -4.0, 0.0])
>>> pyopt.MCP(1.0, gamma=2.0).value(w)
1.75
>>> print(pyopt.MCP(1.0, gamma=2.0).prox(w, 0.5))
[ 0.66666667 -4.          0.        ]
"""

from dataclasses import dataclass, field

import numpy as np

from ..numerics.elementary import sign
from ..penalty import Penalty


@dataclass(frozen=True)
class MCP(Penalty):
    """Minimax concave penalty: slope alpha at 0, none beyond gamma * alpha. alpha >= 0, gamma > 1."""

    alpha: float
    gamma: float = field(default=3.0, metadata={"low": 1.0, "above": True})

    def scalars(self):
        return (self.alpha, self.gamma)

    def max_step(self):
        return self.gamma

    @staticmethod
    def terms(p, alpha, gamma):
        x, alpha, gamma = np.abs(p.astype(np.float64)), np.float64(alpha), np.float64(gamma)
        return np.where(x > gamma * alpha, 0.5 * gamma * (alpha * alpha), alpha * x - (x * x) / (2 * gamma))

    @staticmethod
    def gradient(p, g, alpha, gamma):
        slope = alpha - np.abs(p) / gamma
        return g + np.where(np.abs(p) > gamma * alpha, type(alpha)(0), slope * sign(p))

    @staticmethod
    def proximal(p, step, alpha, gamma):
        size, t = np.abs(p), step * alpha
        w = (size - t) / ((gamma - step) / gamma)
        w = np.where(size < w, size, w)  # a step just below gamma may round to it: 1 / 0
        w = np.where(size <= t, type(alpha)(0), np.where(p < 0, -w, w))
        return np.where(size > gamma * alpha, p, w)
