"""Binary cross-entropy with logits: the negative log-likelihood of a probability of sigmoid(logits).

.. math::

    loss = -pos_weight target ln sigmoid(logits) - (1 - target) ln sigmoid(-logits)

    gradient = (1 - target) sigmoid(logits) - pos_weight target sigmoid(-logits)

With e = exp(-abs(logits)) in [0, 1], -ln sigmoid(x) is max(-x, 0) + ln(1 + e), and sigmoid(x) is 1 / (1 + e) for x > 0
and e / (1 + e) else: no logit overflows, and for a target of 0 or 1 nothing cancels. What has weight 0 adds 0, also at
an infinite logit.

Ranges: logits and target of one shape and storage type, C-contiguous; pos_weight a number or an array of
the shape of the last axes of logits, finite and >= 0. TypeError or ValueError else. Targets are probabilities; as in
torch, numbers outside [0, 1] are not refused: looking at them would be one more trip through memory.
Deviations: as BCEWithLogitsLoss of torch; e is 0 for |logits| beyond 87 (float32) or 708 (float64). ln(1 + e) is within
2 ulp, exp within 1.1. A term is computed in the dtype of the logits.
Source: D. R. Cox, "The regression analysis of binary sequences", 1958,
https://doi.org/10.1111/j.2517-6161.1958.tb00292.x

>>> import numpy as np, pyopt
>>> x, y = np.array([0.0, 1e4]), np.array([1.0, 0.0])
>>> value, gradient = pyopt.losses.binary_cross_entropy(x, y, "sum", pos_weight=2.0)
>>> round(value, 6)
10001.386294
>>> print(gradient)
[-1.  1.]
"""

import numpy as np

from ..numerics.elementary import exp, log1p, magnitude, weighted


def scalars(scale):
    return (scale, 1.0)


def reference(logits, target, pos_weight, factor, one):
    e = exp(-magnitude(logits))
    positive = pos_weight * target
    negative = one - target
    up = np.where(logits > 0, negative, negative * e)
    down = np.where(logits > 0, positive * e, positive)
    wrong = np.where(logits > 0, negative, positive)
    terms = (positive + negative) * log1p(e) + weighted(wrong, magnitude(logits))
    return terms.astype(np.float64), factor * ((up - down) / (one + e))
