"""Softmax cross-entropy: the sum or the mean over rows of -ln softmax(logits)[target].

.. math::

    loss_i &= ln(sum_j e^{logits_{ij} - top_i}) - (logits_{i, target_i} - top_i)

    gradient_{ij} &= factor * (softmax(logits_i)_j - [j = target_i])

with top_i the largest logit of the row, and factor = 1 for the sum and 1 / rows for the mean, as CrossEntropyLoss of
torch has it. The terms and their sum are float64; the sum over a row has 32 lanes of the dtype of the logits.

Ranges: logits (rows, classes) float32 or float64, C-contiguous, classes >= 1; target (rows,) integers in [0, classes).
TypeError or ValueError else; a mean of nothing is a ValueError. A NaN or +inf among its logits makes a row NaN.
Deviations: probabilities below e^-87 (float32) or e^-708 (float64) times that of the top are 0.
Source: J. Bridle, "Probabilistic interpretation of feedforward classification network outputs, with relationships to
statistical pattern recognition", 1990, https://doi.org/10.1007/978-3-642-76153-9_28

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
>>> round(value, 6)
1.386294
>>> print(gradient)
[[ 0.25  0.25 -0.75  0.25]]
"""

import numpy as np

from .. import engine, isa
from ..numerics import exp, log


def reference(logits, target, factor):
    rows = np.arange(len(target))
    with np.errstate(all="ignore"):
        top = logits.max(axis=1, keepdims=True)  # in any order: it has the same bits, and with a NaN the row is NaN
        d = exp(logits - top)
        total = _lane_sum(d)
        gap = logits[rows, target].astype(np.float64) - top[:, 0].astype(np.float64)
        gradient = d * (factor / total)[:, None]
        gradient[rows, target] -= factor
        return log(total.astype(np.float64)) - gap, gradient


def _lane_sum(x):
    """The sums of the rows: column j goes to lane j mod 32, lanes fold by halves."""
    lanes = np.zeros((len(x), 32), x.dtype)
    for j in range(0, x.shape[1], 32):
        part = x[:, j : j + 32]
        lanes[:, : part.shape[1]] += part
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def compute(logits, target, gradient, mean):
    (rows, classes), size = logits.shape, logits.itemsize
    count = rows if mean else 1
    arrays, strides = (logits, target, gradient), (classes * size, target.itemsize, classes * size)
    name = "losses.softmax_cross_entropy"
    return engine.sweep(isa.tiles(), name, arrays, strides, (rows, classes), (1.0 / count,), True) / count
