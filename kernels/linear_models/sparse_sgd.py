"""The epoch of linear_sgd over a sparse matrix, in time that grows with the nonzeros and not with the features.

The matrix is CSR: row i has the values data[k] in the columns indices[k], k from indptr[i] to indptr[i + 1]. The steps
are those of linear_sgd without ``l1``; what they would do to a weight that no row of the batch touches is put off.
The weights are v times one scale:

.. math::

    scale &= scale * (1 - rate * two_alpha)                  in place of L2's gradient

    v &= v - rate / scale * 1/n * sum_i c_i x_i              in the columns touched

    due &= due + rate * threshold / scale                    in place of L1's prox

A weight about to be read is first moved towards 0 by what has become due since it was last: soft thresholds in a row
add up. A scale below 2^-20 is multiplied into all weights. Scale and due are float64. A row's product has 4 lanes:
its k-th value goes to lane k mod 4.

Ranges: as in linear_sgd; indices int32, indptr int64, both within the matrix.
Source: J. Langford, L. Li, T. Zhang, "Sparse online learning via truncated gradient", JMLR 2009,
https://jmlr.org/papers/v10/langford09a.html; B. Carpenter, "Lazy sparse stochastic gradient descent for regularized
multinomial logistic regression", 2008, https://lingpipe.files.wordpress.com/2008/04/lazysgdregression.pdf

>>> import numpy as np
>>> from pyopt.kernels.linear_models import sparse_sgd
>>> data, indices, indptr = np.ones(1), np.array([1], np.int32), np.array([0, 1])
>>> w, b = np.zeros((1, 3)), np.zeros(1)
>>> x = data, indices, indptr
>>> sparse_sgd.epoch("squared", x, np.array([0]), w, b, np.ones((1, 1)), np.ones(1), np.array([0.25]), 1)
0.5
>>> print(w, b)
[[0.   0.25 0.  ]] [0.25]
"""

import numpy as np

from ..cpu import engine, isa
from ..numerics import reductions
from ..numerics.elementary import soft
from .linear_sgd import NONE, coefficients, losses, over_models, total

SMALLEST = 2.0**-20


def epoch(loss, x, order, w, b, y, weight, rate, batch, penalties=NONE):
    """Take an epoch in place, and return the sum of the losses of all rows and models before their steps."""
    (models, features), size = w.shape, w.itemsize
    room, sums = min(batch, len(order)), np.empty(models)
    arrays = (*x, order, w, b, y, weight, rate, np.empty((models, room), w.dtype), np.empty((models, features)), sums)
    strides = (0, 0, 0, 0, features * size, size, y.shape[1] * size, 0, 0, room * size, features * 8, 8)
    scalars = (penalties.two_alpha, penalties.threshold, penalties.intercept)
    sizes = (len(order), features, room)
    engine.each(isa.tiles(), f"linear_models.sparse_sgd_{loss}", arrays, strides, sizes, scalars, models)
    return reductions.tree_sum(sums)


def reference(loss, x, order, w, b, y, weight, rate, batch, penalties=NONE):
    """Do what ``epoch`` does."""
    return over_models(_model, loss, x, order, w, b, y, weight, rate, batch, penalties)


def _model(loss, x, order, w, b, y, weight, rate, batch, penalties):
    data, indices, indptr = x
    real, terms = data.dtype.type, np.empty(len(order))
    two_alpha, threshold, intercept = map(real, (penalties.two_alpha, penalties.threshold, penalties.intercept))
    seen, due, scale = np.zeros(len(w)), 0.0, np.float64(1.0)
    for step, start in enumerate(range(0, len(order), batch)):
        rows, pace = order[start : start + batch], np.float64(rate[step])
        cuts = [slice(indptr[row], indptr[row + 1]) for row in rows]
        for cut in cuts:
            if threshold != 0:
                j = indices[cut]
                w[j], seen[j] = soft(w[j], (due - seen[j]).astype(real)), due
        z = np.array([_product(data[cut], w[indices[cut]]) for cut in cuts], real) * real(scale) + b
        c = coefficients(loss, z, y[rows], weight[rows])
        terms[start : start + batch] = losses(loss, z, y[rows], weight[rows])
        scale = scale * (1.0 - pace * np.float64(two_alpha))
        if not scale >= SMALLEST:
            w[...] = _whole(w, seen, due, scale, threshold)
            seen[...], due, scale = 0.0, 0.0, np.float64(1.0)
        length, slope = real(pace / len(rows) / scale), c[0]
        for i, cut in enumerate(cuts):
            slope = slope + c[i] if i else slope
            for k in range(cut.start, cut.stop):
                w[indices[k]] = w[indices[k]] - (length * c[i]) * data[k]
        due = due + pace * np.float64(threshold) / scale
        b[...] = b - intercept * rate[step] * (slope * (real(1.0) / real(len(rows))))
    w[...] = _whole(w, seen, due, scale, threshold)
    return total(terms)


def _whole(w, seen, due, scale, threshold):
    """Return all weights with nothing put off."""
    return (soft(w, (due - seen).astype(w.dtype)) if threshold != 0 else w) * w.dtype.type(scale)


def _product(x, w):
    lanes = np.zeros(4, x.dtype)
    for k in range(len(x)):
        lanes[k % 4] += x[k] * w[k]
    return reductions.fold_lanes(lanes)
