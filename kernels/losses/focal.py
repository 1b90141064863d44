"""Focal: binary cross-entropy with logits, where an example counts less the better it is classified.

.. math::

    s &= 2 target - 1, u = s logits

    p &= sigmoid(u)

    loss &= -alpha_t (1 - p)^gamma ln p

    gradient &= -s alpha_t (1 - p)^gamma (1 - p - gamma p ln p)

with alpha_t = alpha for a target of 1 and 1 - alpha for 0; 1 for both where alpha is None.

The power is exp(gamma ln(1 - p)) with our own exp and log, for any gamma: -ln(1 - p) is max(u, 0) + ln(1 + exp(-|u|)),
and the power is within 3 + 4 a ulp, where a = -gamma ln(1 - p): some ulp where the example counts, more only as the
power vanishes. It is 0 where a is above 87 (float32) or 708 (float64). At infinite logits
loss and gradient are their limits.

Ranges: logits and target of one shape and storage type, C-contiguous; targets 0 or 1, which takes one read
of them before the pass; alpha None or in [0, 1]; gamma finite and >= 0. TypeError or ValueError else.
Deviations: the paper's RetinaNet divides by the number of objects, here the reductions are those of the other losses.
A term is computed in the dtype of the logits.
Source: T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár, "Focal loss for dense object detection", 2017,
https://arxiv.org/abs/1708.02002

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.focal(np.array([0.0, -3.0]), np.array([1.0, 0.0]), "sum")
>>> round(value, 6)
0.043404
>>> print(gradient.round(6))
[-0.074572  0.000236]
"""

import numpy as np

from ..numerics.elementary import exp, log1p, magnitude, relu, weighted

LABELS = (0.0, 1.0)


def scalars(scale, alpha, gamma):
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    return (scale, positive, negative, gamma, 1.0)


def reference(logits, target, factor, positive, negative, gamma, one):
    s = target + target - one
    u = s * logits
    e = exp(-magnitude(u))
    r = one / (one + e)
    log = log1p(e)
    p = np.where(u > 0, r, e * r)
    q = np.where(u > 0, e * r, r)
    miss = relu(-u) + log
    f = (target * positive + (one - target) * negative) * exp(-weighted(gamma, relu(u) + log))
    return weighted(f, miss).astype(np.float64), -factor * (s * (f * (gamma * weighted(p, miss) + q)))
