"""An epoch of stochastic gradient descent on linear models x w + b, squared or logistic loss, in one call.

.. math::

    z_i &= x_i w + b

    c_i &= weight_i * (z_i - y_i)                            logistic: weight_i * (1 / (1 + e^{-z_i}) - y_i)

    g &= 1/n * sum_i c_i x_i + two_alpha * w + l1 * sign(w)  over the n rows of a batch

    w &= soft(w - rate * g, rate * threshold)

    b &= b - rate * 1/n * sum_i c_i

soft(w, t) moves w towards 0 by t, and to 0 where it is nearer: the prox of L1. The rows are taken in the order given,
``batch`` at a time, the last batch being what is left; rate[s] belongs to batch s. The loss of a row is
weight * (z - y)^2 / 2, or weight * (ln(1 + e^z) - y z), with the weights before the step; its sum is float64.

A product x_i w has 16 lanes: column j goes to lane j mod 16; of the last columns, fewer than 16, the first 8 that there
are go to the lanes 0 to 7, the next 4 to the lanes 0 to 3, and so on; the lanes fold by halves.

Several models, such as one for each output, share x, order, weights and rates. Each takes its epoch alone.

Ranges: float32 or float64 arrays of one dtype, C-contiguous: x (rows, features), w (models, features), b (models,), y
(models, rows), weight (rows,), rate (batches,); order int64 row numbers, one or more; batch >= 1. The caller checks
them: this is the inside of ``pyopt.estimators``.
Source: H. Robbins, S. Monro, "A stochastic approximation method", 1951, https://doi.org/10.1214/aoms/1177729586;
J. Duchi, Y. Singer, "Efficient online and batch learning using forward backward splitting", JMLR 2009,
https://jmlr.org/papers/v10/duchi09a.html

>>> import numpy as np
>>> from pyopt.kernels.linear_models import linear_sgd
>>> w, b = np.zeros((1, 2)), np.zeros(1)
>>> x, y = np.array([[1.0, 2.0]]), np.array([[1.0]])
>>> linear_sgd.epoch("squared", x, np.array([0]), w, b, y, np.ones(1), np.array([0.25]), 1)
0.5
>>> print(w, b)
[[0.25 0.5 ]] [0.25]
"""

from typing import NamedTuple

import numpy as np

from ..cpu import engine, isa
from ..numerics import reductions
from ..numerics.elementary import exp, log, sign, soft

LANES = 16


class Penalties(NamedTuple):
    """What pulls at the weights of a linear model, but not at its intercept.

    ``two_alpha`` and ``l1`` are the coefficients of the gradients of L2 and L1, ``threshold`` is that of L1's prox;
    ``intercept`` is 0 for a model whose b stays as it is, else 1.
    """

    two_alpha: float = 0.0
    l1: float = 0.0
    threshold: float = 0.0
    intercept: float = 1.0


NONE = Penalties()


def epoch(loss, x, order, w, b, y, weight, rate, batch, penalties=NONE):
    """Take an epoch in place, and return the sum of the losses of all rows and models before their steps."""
    (models, features), size = w.shape, x.itemsize
    sums = np.empty(models)
    arrays = (x, order, w, b, y, weight, rate, np.empty_like(w), sums)
    strides = (0, 0, features * size, size, y.shape[1] * size, 0, 0, features * size, 8)
    sizes = (len(order), features, batch)
    engine.each(isa.tiles(), f"linear_models.linear_sgd_{loss}", arrays, strides, sizes, tuple(penalties), models)
    return reductions.tree_sum(sums)


def reference(loss, x, order, w, b, y, weight, rate, batch, penalties=NONE):
    """Do what ``epoch`` does."""
    return over_models(_model, loss, x, order, w, b, y, weight, rate, batch, penalties)


def over_models(model, loss, x, order, w, b, y, *more):
    """Return the sum of what ``model`` returns for each, of its own weights, intercept and targets."""
    with np.errstate(all="ignore"):
        each = [model(loss, x, order, w[m], b[m : m + 1], y[m], *more) for m in range(len(w))]
        return reductions.tree_sum(np.array(each))


def _model(loss, x, order, w, b, y, weight, rate, batch, penalties):
    real, terms = x.dtype.type, np.empty(len(order))
    for step, start in enumerate(range(0, len(order), batch)):
        rows = order[start : start + batch]
        z = dot(x[rows], w) + b
        terms[start : start + batch] = losses(loss, z, y[rows], weight[rows])
        c = coefficients(loss, z, y[rows], weight[rows])
        g, slope = c[0] * x[rows[0]], c[0]
        for i in range(1, len(rows)):
            g, slope = g + c[i] * x[rows[i]], slope + c[i]
        share = real(1.0) / real(len(rows))
        w[...] = stepped(w, g * share, rate[step], *map(real, penalties[:3]))
        b[...] = b - real(penalties.intercept) * rate[step] * (slope * share)
    return total(terms)


def dot(x, w):
    """Return the products of the rows of x with w, over the lanes."""
    lanes, k = np.zeros((len(x), LANES), x.dtype), 0
    terms = x * w
    for width in (LANES, 8, 4, 2, 1):
        while k + width <= len(w):
            lanes[:, :width] += terms[:, k : k + width]
            k += width
    return reductions.fold_lanes(lanes.T)


def total(terms):
    """Return the sum of float64 terms: term i goes to lane i mod 64, lanes fold by halves."""
    lanes = np.zeros(64)
    for i in range(0, len(terms), 64):
        lanes[: len(terms[i : i + 64])] += terms[i : i + 64]
    return reductions.fold_lanes(lanes)


def coefficients(loss, z, y, weight):
    """Return the slopes of the rows' losses at z."""
    if loss == "squared":
        return weight * (z - y)
    one = z.dtype.type(1.0)
    e = exp(np.where(z > 0, -z, z))
    share = one / (one + e)
    return weight * (np.where(z > 0, share, e * share) - y)


def losses(loss, z, y, weight):
    """Return the rows' losses at z, float64."""
    if loss == "squared":
        d = (z - y).astype(np.float64)
        return weight.astype(np.float64) * (0.5 * (d * d))
    e = exp(np.where(z > 0, -z, z)).astype(np.float64)
    z64 = z.astype(np.float64)
    return weight.astype(np.float64) * ((np.where(z64 > 0, z64, 0.0) - y.astype(np.float64) * z64) + log(1.0 + e))


def stepped(w, g, rate, two_alpha, l1, threshold):
    """Return the new weights; where nothing pulls at them, they are only stepped."""
    if two_alpha == 0 and l1 == 0 and threshold == 0:
        return w - rate * g
    return soft(w - rate * ((g + two_alpha * w) + l1 * sign(w)), rate * threshold)
