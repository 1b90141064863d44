"""Huber-smoothed L1: quadratic within delta of 0, so that the gradient is continuous, and alpha * |p| beyond.

alpha * p^2 / (2 * delta) where |p| <= delta, else alpha * (|p| - delta / 2), summed.
Gradient: alpha * p / delta, limited to [-alpha, alpha].
Proximal: p * delta / (delta + step * alpha) where |p| <= delta + step * alpha, else p moved towards 0 by step * alpha.
It makes no exact zeros.
Ranges: alpha finite and >= 0; delta finite and at least the smallest normal float32, 1.2e-38. ValueError else.
Source: P. Huber, "Robust estimation of a location parameter", 1964, https://doi.org/10.1214/aoms/1177703732

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0, 0.25])
>>> pyopt.HuberL1(0.5, delta=0.5).value(w)
1.28125
>>> print(pyopt.HuberL1(0.5, delta=0.5).grad(w))
[ 0.5  -0.5   0.25]
"""

from dataclasses import dataclass, field

import numpy as np

from ..numerics.elementary import soft
from ..penalty import WIDTH, Penalty


@dataclass(frozen=True)
class HuberL1(Penalty):
    """Huber-smoothed L1 penalty: alpha * |p|, but quadratic for |p| <= delta. alpha >= 0, delta >= 1.2e-38."""

    alpha: float
    delta: float = field(default=1e-2, metadata=WIDTH)

    def scalars(self):
        return (self.alpha, self.delta)

    @staticmethod
    def terms(p, alpha, delta):
        x, alpha, delta = np.abs(p.astype(np.float64)), np.float64(alpha), np.float64(delta)
        return np.where(x <= delta, alpha * (x * x) / (2 * delta), alpha * (x - 0.5 * delta))

    @staticmethod
    def gradient(p, g, alpha, delta):
        x = p / delta
        x = np.where(x > 1, type(alpha)(1), x)
        x = np.where(x < -1, type(alpha)(-1), x)
        return g + alpha * x

    @staticmethod
    def proximal(p, step, alpha, delta):
        t = step * alpha
        return np.where(np.abs(p) <= delta + t, p * (delta / (delta + t)), soft(p, t))
