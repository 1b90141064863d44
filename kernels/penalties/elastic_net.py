"""Elastic net: alpha * l1_ratio * sum |p| + alpha * (1 - l1_ratio) / 2 * sum p^2, as in scikit-learn.

Gradient: alpha * l1_ratio * sign(p) + alpha * (1 - l1_ratio) * p.
Proximal: that of the L1 part, divided by 1 + step * alpha * (1 - l1_ratio).
Ranges: alpha finite and >= 0; l1_ratio in [0, 1]. ValueError else.
Source: H. Zou, T. Hastie, "Regularization and variable selection via the elastic net", 2005,
https://doi.org/10.1111/j.1467-9868.2005.00503.x

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0, 0.0])
>>> pyopt.ElasticNet(1.0, l1_ratio=0.5).value(w)
2.75
>>> print(pyopt.ElasticNet(1.0, l1_ratio=0.5).grad(w))
[ 1.  -1.5  0. ]
"""

from dataclasses import dataclass, field

import numpy as np

from ..numerics.elementary import sign, soft
from ..penalty import Penalty


@dataclass(frozen=True)
class ElasticNet(Penalty):
    """Elastic-net penalty of scikit-learn: the share l1_ratio of alpha is L1, the rest L2 with a factor 1/2."""

    alpha: float
    l1_ratio: float = field(default=0.5, metadata={"high": 1.0, "closed": True})

    def scalars(self):
        return (self.alpha * self.l1_ratio, self.alpha * (1.0 - self.l1_ratio))

    @staticmethod
    def terms(p, l1, l2):
        x = p.astype(np.float64)
        return np.float64(l1) * np.abs(x) + 0.5 * np.float64(l2) * (x * x)

    @staticmethod
    def gradient(p, g, l1, l2):
        return g + (l1 * sign(p) + l2 * p)

    @staticmethod
    def proximal(p, step, l1, l2):
        return soft(p, step * l1) / (1 + step * l2)
