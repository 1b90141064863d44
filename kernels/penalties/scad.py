"""Smoothly clipped absolute deviation: L1 near 0 that levels off, so that large weights are not biased towards 0.

alpha * |p| where |p| <= alpha; (2 * gamma * alpha * |p| - p^2 - alpha^2) / (2 * (gamma - 1)) up to gamma * alpha; then
alpha^2 * (gamma + 1) / 2; summed.
Gradient: alpha * sign(p) where |p| <= alpha, then (gamma * alpha - |p|) / (gamma - 1) * sign(p), then 0.
Proximal: p moved towards 0 by step * alpha where |p| <= (1 + step) * alpha; up to gamma * alpha from there on the size
alpha grows with |p| by (gamma - 1) / (gamma - 1 - step); then p. The point is unique for step < gamma - 1, ValueError
else; a rule with a step of its own for each element needs metric="lr".
Ranges: alpha finite and >= 0; gamma finite and > 2. ValueError else.
Source: J. Fan, R. Li, "Variable selection via nonconcave penalized likelihood and its oracle properties", 2001,
https://doi.org/10.1198/016214501753382273

>>> import numpy as np, pyopt
>>> w = np.array([0.5, -2.0, 4.0])
>>> pyopt.SCAD(1.0, gamma=3.0).value(w)
4.25
>>> print(pyopt.SCAD(1.0, gamma=3.0).prox(w, 0.5))
[ 0.         -1.66666667  4.        ]
"""

from dataclasses import dataclass, field

import numpy as np

from ..numerics.elementary import sign
from ..penalty import Penalty


@dataclass(frozen=True)
class SCAD(Penalty):
    """Smoothly clipped absolute deviation: slope alpha up to |p| = alpha, none beyond gamma * alpha. gamma > 2."""

    alpha: float
    gamma: float = field(default=3.7, metadata={"low": 2.0, "above": True})

    def scalars(self):
        return (self.alpha, self.gamma, self.gamma - 1.0)

    def max_step(self):
        return self.gamma - 1.0

    @staticmethod
    def terms(p, alpha, gamma, gamma1):
        x, a, c, d = np.abs(p.astype(np.float64)), np.float64(alpha), np.float64(gamma), np.float64(gamma1)
        middle = (2 * c * a * x - x * x - a * a) / (2 * d)
        outside = np.where(x > c * a, 0.5 * (a * a) * (c + 1), middle)
        return np.where(x <= a, a * x, outside)

    @staticmethod
    def gradient(p, g, alpha, gamma, gamma1):
        size = np.abs(p)
        slope = np.where(size <= alpha, alpha, (gamma * alpha - size) / gamma1)
        return g + np.where(size > gamma * alpha, type(alpha)(0), slope * sign(p))

    @staticmethod
    def proximal(p, step, alpha, gamma, gamma1):
        size, t = np.abs(p), step * alpha
        w = alpha + (size - (alpha + t)) * (gamma1 / (gamma1 - step))
        w = np.where(size < w, size, w)  # a step just below gamma - 1 may round to it: 1 / 0
        w = np.where(size <= alpha + t, size - t, w)
        w = np.where(t == 0, p, np.where(p < 0, -w, w))
        w = np.where(size <= t, type(alpha)(0), w)
        return np.where(size > gamma * alpha, p, w)
