"""Adagrad: each weight's rate falls with the sum of its squared gradients, which suits sparse features.

.. math::

    s_t &= s_{t-1} + g_t^2

    p_t &= p_{t-1} - lr / (1 + (t - 1) * lr_decay) * g_t / (sqrt(s_t) + eps)

States: sum (shape of p, starts at initial_accumulator_value).
Ranges: lr, lr_decay, weight_decay, initial_accumulator_value, eps >= 0, ValueError else.
Deviations: none from torch.optim.Adagrad.
Source: J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
JMLR 2011, https://jmlr.org/papers/v12/duchi11a.html

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0])
>>> opt = pyopt.Adagrad([w], lr=0.1)
>>> for _ in range(2): opt.step([2 * w])
>>> print(w.round(4))
[ 0.8331 -1.8311]
"""

from ..hyper import Hyper
from ..numerics.elementary import flush, sqrt
from ..spec import Rule, State


def scalars(h, t, carry):
    return (h.lr / (1.0 + (t - 1) * h.lr_decay), h.eps), carry


def reference(p, g, sum, step_size, eps):
    s = sum + g * g
    return p - step_size * (g / (sqrt(s) + eps)), flush(s)


def steps(sum, step_size, eps):
    return step_size / (sqrt(sum) + eps)


RULE = Rule(
    name="adagrad",
    reference=reference,
    scalars=scalars,
    prox_steps=steps,
    states=(State("sum", start="initial_accumulator_value"),),
    hypers=(
        Hyper("lr", 1e-2),
        Hyper("lr_decay", 0.0),
        Hyper("weight_decay", 0.0),
        Hyper("initial_accumulator_value", 0.0),
        Hyper("eps", 1e-10),
    ),
    decay="coupled",
    doc=__doc__,
)
