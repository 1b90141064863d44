"""Stochastic gradient descent with momentum, in the form of torch.optim.SGD.

.. math::

    b_t &= momentum * b_{t-1} + (1 - dampening) * g_t        (b_1 = g_1)

    p_t &= p_{t-1} - lr * b_t                                with nesterov: p_{t-1} - lr * (g_t + momentum * b_t)

Without momentum p_t = p_{t-1} - lr * g_t: batch, mini-batch or stochastic descent, by what g was averaged over.

States: momentum_buffer (shape of p, starts at 0), where momentum is not 0.
Ranges: lr, momentum, weight_decay >= 0; dampening >= 0; nesterov needs momentum > 0 and dampening = 0. ValueError else.
Deviations: none from torch; the learning rate multiplies the buffer, unlike in ``Momentum``.
Source: I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep
learning", ICML 2013, https://proceedings.mlr.press/v28/sutskever13.html

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0])
>>> opt = pyopt.SGD([w], lr=0.1, momentum=0.9)
>>> for _ in range(2): opt.step([2 * w])
>>> print(w.round(4))
[ 0.46 -0.92]
"""

from math import inf

from ..hyper import Hyper
from ..numerics.elementary import flush
from ..spec import Rule, State


def scalars(h, t, carry):
    # the carry counts the steps of the buffer, whose first gradient is not dampened
    one_minus_dampening = 1.0 - h.dampening if carry > 0 else 1.0
    nesterov = 1.0 if h.nesterov else 0.0
    return (h.lr, h.momentum, one_minus_dampening, nesterov), carry + (1.0 if h.momentum != 0 else 0.0)


def reference(p, g, momentum_buffer, lr, momentum, one_minus_dampening, nesterov):
    if momentum_buffer is None:
        return p - lr * g, None
    b = momentum * momentum_buffer + one_minus_dampening * g
    step = g + momentum * b if nesterov > 0 else b
    return p - lr * step, flush(b)


def check(h):
    if h.nesterov and (h.momentum == 0 or h.dampening != 0):
        return (
            f"nesterov=True with momentum={h.momentum!r}, dampening={h.dampening!r}: needs momentum > 0, dampening = 0"
        )
    return None


def step(h):
    if h.momentum == 0:
        return h.lr
    if h.momentum >= 1:
        return inf
    share = (1.0 - h.dampening) / (1.0 - h.momentum)
    return h.lr * (1.0 + h.momentum * share) if h.nesterov else h.lr * share


RULE = Rule(
    name="sgd",
    reference=reference,
    scalars=scalars,
    prox_step=step,
    memoryless=lambda h: h.momentum == 0,
    check=check,
    states=(State("momentum_buffer", when="momentum"),),
    hypers=(
        Hyper("lr", 1e-3),
        Hyper("momentum", 0.0),
        Hyper("dampening", 0.0),
        Hyper("weight_decay", 0.0),
        Hyper("nesterov", False),
    ),
    decay="coupled",
    doc=__doc__,
)
