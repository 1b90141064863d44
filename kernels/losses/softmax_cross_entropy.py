r"""Softmax cross-entropy: the cross-entropy of labels, or of probabilities, under softmax(logits), for each row.

.. math::

    q_{ij} &= (1 - label\_smoothing) target_{ij} + label\_smoothing / classes

    loss_i &= -sum_j q_{ij} class\_weights_j ln softmax(logits_i)_j

    gradient_{ij} &= mass_i softmax(logits_i)_j - q_{ij} class\_weights_j, mass_i = sum_j q_{ij} class\_weights_j

For a label, target is 1 at it and 0 elsewhere. With top_i the largest logit of the row, softmax is e^(logits - top_i)
over its sum total_i, and loss_i = mass_i ln total_i - sum_j q_ij class_weights_j (logits_ij - top_i): nothing
overflows. Terms are float64; sums over a row have 32 lanes of the dtype of the logits, total_i among them: it is 1
where the rest of a row is below 6e-8 (float32) or 1e-16 (float64). A row that is as sure, and right, has a loss of 0,
as in torch, and a gradient of 0 at its label. A row whose label is ignore_index has loss and gradient 0, whatever its
logits. What has weight 0 adds 0, also at a logit of -inf.

Ranges: logits (rows, classes) of a storage type, C-contiguous, classes >= 1; target (rows,) integers in [0, classes)
or ignore_index, or an array like logits of probabilities in [0, 1]; class_weights (classes,) finite and >= 0;
label_smoothing in [0, 1]; ignore_index an integer, only for labels. TypeError or ValueError else. A NaN or +inf among
its logits makes a row NaN. That the probabilities of a row sum to 1 is not checked.
Deviations: as CrossEntropyLoss of torch for two axes, with weights of the samples. Probabilities below e^-87 (float32)
or e^-708 (float64) times that of the top are 0.
Source: J. Bridle, "Probabilistic interpretation of feedforward classification network outputs, with relationships to
statistical pattern recognition", 1990, https://doi.org/10.1007/978-3-642-76153-9_28; smoothing: C. Szegedy et al.,
"Rethinking the Inception architecture for computer vision", 2016, https://arxiv.org/abs/1512.00567

>>> import numpy as np, pyopt
>>> value, gradient = pyopt.losses.softmax_cross_entropy(np.zeros((1, 4)), np.array([2]), label_smoothing=0.2)
>>> round(value, 6)
1.386294
>>> print(gradient.round(6))
[[ 0.2  0.2 -0.6  0.2]]
"""

import numpy as np

from ..numerics.codecs import encode, upcast
from ..numerics.elementary import exp, log, weighted


def reference(logits, target, hot, weight, share, factor, share_sum, smooth):
    """Return terms and gradient for labels; -1 stands for a row that is ignored.

    hot (rows,) is the weight of the label, weight (rows,) that of the row, share (classes,) what smoothing gives each
    class, share_sum its sum; all in the compute type of the logits.
    """
    rows, label, stored = np.arange(len(target)), np.maximum(target, 0), logits.dtype
    logits = upcast(logits)
    top = logits.max(axis=1, keepdims=True)  # in any order: it has the same bits, and with a NaN the row is NaN
    gap = weighted(_double(hot), _double(logits[rows, label]) - _double(top[:, 0]))
    if smooth:
        gap = gap + weighted(_double(weight), _double(lane_sum(weighted(share, logits - top))))
    d = exp(logits - top)
    total = lane_sum(d)
    mass = hot + weight * share_sum if smooth else hot
    gradient = d * ((factor * mass) / total)[:, None]
    if smooth:
        gradient = gradient - (factor * weight)[:, None] * share
    gradient[rows, label] -= factor * hot
    gradient[target < 0] = 0
    return np.where(target < 0, 0.0, _double(mass) * log(_double(total)) - gap), encode(gradient, stored)


def reference_soft(logits, target, weight, keep, share, factor):
    """Return terms and gradient for probabilities; keep (classes,) is what they are multiplied by before smoothing."""
    stored, logits, target = logits.dtype, upcast(logits), upcast(target)
    top = logits.max(axis=1, keepdims=True)
    q = target * keep + share
    mass = lane_sum(q)
    dot = lane_sum(weighted(q, logits - top))
    d = exp(logits - top)
    total = lane_sum(d)
    f = factor * weight
    gradient = d * ((f * mass) / total)[:, None] - f[:, None] * q
    dot = np.where(weight == 0, dot.dtype.type(0), dot)
    return _double(weight) * (_double(mass) * log(_double(total)) - _double(dot)), encode(gradient, stored)


def lane_sum(x):
    """The sums of the rows: column j goes to lane j mod 32, lanes fold by halves."""
    lanes = np.zeros((len(x), 32), x.dtype)
    for j in range(0, x.shape[1], 32):
        part = x[:, j : j + 32]
        lanes[:, : part.shape[1]] += part
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def _double(x):
    return x.astype(np.float64)
