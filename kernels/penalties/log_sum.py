"""Log-sum: alpha * sum log(1 + |p| / eps), close to counting the weights that are not 0 when eps is small.

Gradient: alpha * sign(p) / (|p| + eps).
Proximal: 0 where |p| <= step * alpha / eps, else the larger root w of (w - |p|) * (w + eps) + step * alpha = 0 with p's
sign, from sums of positive numbers only. The point is unique for step < eps^2 / alpha, ValueError else; a rule with a
step of its own for each element needs metric="lr".
Ranges: alpha finite and >= 0; eps finite and at least the smallest normal float32, 1.2e-38. ValueError else.
Source: E. Candes, M. Wakin, S. Boyd, "Enhancing sparsity by reweighted l1 minimization", 2008,
https://doi.org/10.1007/s00041-008-9045-x

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -3.0, 0.25])
>>> print(round(pyopt.LogSum(0.5, eps=1.0).value(w), 6))
1.151293
>>> print(pyopt.LogSum(0.5, eps=1.0).prox(w, 1.0).round(6))
[ 0.707107 -2.870829  0.      ]
"""

from dataclasses import dataclass, field

import numpy as np

from ..numerics.elementary import log, sign, sqrt
from ..penalty import WIDTH, Penalty


@dataclass(frozen=True)
class LogSum(Penalty):
    """Log-sum penalty: alpha * sum log(1 + |p| / eps). alpha >= 0, eps >= 1.2e-38."""

    alpha: float
    eps: float = field(default=0.1, metadata=WIDTH)

    def scalars(self):
        return (self.alpha, self.eps)

    def max_step(self):
        return self.eps * self.eps / self.alpha if self.alpha else np.inf

    @staticmethod
    def terms(p, alpha, eps):
        x = np.abs(p.astype(np.float64)) / np.float64(eps)
        y = 1.0 + x  # not 1 + x in its last digits; y - 1 is what log sees
        with np.errstate(all="ignore"):
            x = np.where((y > 1.0) & (y - y == 0), log(y) * (x / (y - 1.0)), x)
        return np.float64(alpha) * x

    @staticmethod
    def gradient(p, g, alpha, eps):
        return g + alpha * sign(p) / (np.abs(p) + eps)

    @staticmethod
    def proximal(p, step, alpha, eps):
        size, t = np.abs(p), step * alpha
        most = np.where(size < eps, eps, size)
        excess = size - t / eps
        v = (eps - size) / most
        d = sqrt(v * v + 4 * ((eps / most) * (excess / most)))
        w = np.where(size < eps, 2 * excess / (v + d), size * ((d - v) / 2))  # one root: neither form cancels
        w = np.where(size < w, size, w)
        w = np.where(p < 0, -w, w)
        w = np.where((t == 0) | (size - size != 0), p, w)  # inf and NaN stay
        return np.where(size <= t / eps, type(eps)(0), w)
