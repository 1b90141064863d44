"""Group lasso by rows: alpha * sum over rows of sqrt(n) * ||row||, n the number of elements of a row.

A row is what the first index selects: the weights of one output, an embedding. A vector has rows of one element.
Gradient: alpha * sqrt(n) * p / ||row||, 0 for a row of zeros. The proximal form sets whole rows to exact zeros. It
needs one step for all elements of a row.
Ranges: alpha finite and >= 0, ValueError else. Arrays must be C-contiguous.
Source: M. Yuan, Y. Lin, "Model selection and estimation in regression with grouped variables", 2006,
https://doi.org/10.1111/j.1467-9868.2005.00532.x

>>> import numpy as np, pyopt
>>> w = np.array([[3.0, 4.0], [0.0, 0.1]])
>>> print(round(pyopt.GroupLasso(0.5).value(w), 6))
3.606245
>>> print(pyopt.GroupLasso(0.5).prox(w, 1.0).round(4))
[[2.5757 3.4343]
 [0.     0.    ]]
"""

from dataclasses import dataclass
from math import sqrt

from ..penalty import Penalty


@dataclass(frozen=True)
class GroupLasso(Penalty):
    """Group-lasso penalty by rows: alpha * sum sqrt(n) * ||row||. alpha >= 0."""

    by_row = True
    alpha: float

    def scalars(self):
        return (self.alpha,)

    @staticmethod
    def row_terms(squares, size, alpha):
        return alpha * sqrt(size) * sqrt(squares)

    @staticmethod
    def slope(squares, size, alpha):
        return alpha * sqrt(size) / sqrt(squares) if squares > 0 else 0.0

    @staticmethod
    def shrink(squares, size, step, alpha):
        threshold = step * alpha * sqrt(size)
        norm = sqrt(squares)
        return 0.0 if norm <= threshold else 1.0 - threshold / norm
