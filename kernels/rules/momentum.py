"""Classical momentum: the velocity carries the learning rate.

.. math::

    v_t &= momentum * v_{t-1} + lr * g_t

    p_t &= p_{t-1} - v_t                                     with nesterov: p_{t-1} - (momentum * v_t + lr * g_t)

A change of the learning rate acts on new gradients only, where in ``SGD`` it acts on the whole buffer; with a constant
one both take the same path.

States: velocity (shape of p, starts at 0).
Ranges: lr, momentum, weight_decay >= 0, ValueError else.
Deviations: none; the Nesterov form is the one evaluated at the shifted weights.
Source: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964,
https://doi.org/10.1016/0041-5553(64)90137-5; Y. Bengio, N. Boulanger-Lewandowski, R. Pascanu, "Advances in optimizing
recurrent networks", 2013, https://arxiv.org/abs/1212.0901

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0])
>>> opt = pyopt.Momentum([w], lr=0.1, momentum=0.9)
>>> for _ in range(2): opt.step([2 * w])
>>> print(w.round(4))
[ 0.46 -0.92]
"""

from math import inf

from ..hyper import Hyper
from ..numerics.elementary import flush
from ..spec import Rule, State


def scalars(h, t, carry):
    return (h.lr, h.momentum, 1.0 if h.nesterov else 0.0), carry


def reference(p, g, velocity, lr, momentum, nesterov):
    v = momentum * velocity + lr * g
    step = momentum * v + lr * g if nesterov > 0 else v
    return p - step, flush(v)


def step(h):
    return h.lr / (1.0 - h.momentum) if h.momentum < 1 else inf


RULE = Rule(
    name="momentum",
    reference=reference,
    scalars=scalars,
    prox_step=step,
    states=(State("velocity"),),
    hypers=(Hyper("lr", 1e-3), Hyper("momentum", 0.9), Hyper("weight_decay", 0.0), Hyper("nesterov", False)),
    decay="coupled",
    doc=__doc__,
)
