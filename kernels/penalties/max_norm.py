"""Max-norm by rows: the projection that shrinks each row to a norm of at most ``radius``.

A row is what the first index selects: the weights of one output, an embedding. A vector has rows of one element. The
projection is the Euclidean one whatever the metric: a row keeps its direction.
Ranges: radius finite and >= 0, ValueError else. Arrays must be C-contiguous.
Source: N. Srebro, J. Rennie, T. Jaakkola, "Maximum-margin matrix factorization", NIPS 2004,
https://papers.nips.cc/paper/2655-maximum-margin-matrix-factorization; with dropout: N. Srivastava et al., "Dropout",
JMLR 2014, https://jmlr.org/papers/v15/srivastava14a.html

>>> import numpy as np, pyopt
>>> w = np.array([[3.0, 4.0], [0.0, 0.5]])
>>> print(pyopt.MaxNorm(1.0).prox(w, 1.0))
[[0.6 0.8]
 [0.  0.5]]
"""

from dataclasses import dataclass
from math import sqrt

from ..penalty import Projection


@dataclass(frozen=True)
class MaxNorm(Projection):
    """Projection of each row onto the ball ||row|| <= radius. radius >= 0."""

    by_row = True
    radius: float

    def scalars(self):
        return (self.radius,)

    @staticmethod
    def shrink(squares, size, step, radius):
        norm = sqrt(squares)
        return radius / norm if norm > radius else 1.0
