"""Lion: the sign of a mix of gradient and momentum, so that every weight moves by lr.

.. math::

    p_t &= p_{t-1} - lr * sign(m_{t-1} + (1 - beta_1) * (g_t - m_{t-1}))

    m_t &= m_{t-1} + (1 - beta_2) * (g_t - m_{t-1})

with (beta_1, beta_2) = betas and weight_decay decoupled. Good rates are 3 to 10 times smaller than AdamW's, with a
weight_decay as many times larger.

States: exp_avg (shape of p, starts at 0).
Ranges: lr, weight_decay >= 0; betas in [0, 1). ValueError else.
Deviations: none; the sign of 0 and of NaN is 0.
Source: X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, https://arxiv.org/abs/2302.06675

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0])
>>> opt = pyopt.Lion([w], lr=0.1)
>>> for _ in range(2): opt.step([2 * w])
>>> print(w.round(4))
[ 0.8 -1.8]
"""

from ..hyper import Hyper
from ..numerics.elementary import flush, sign
from ..spec import Rule, State


def scalars(h, t, carry):
    beta1, beta2 = h.betas
    return (h.lr, 1.0 - beta1, 1.0 - beta2), carry


def reference(p, g, exp_avg, lr, one_minus_beta1, one_minus_beta2, decay):
    p = p * decay - lr * sign(exp_avg + one_minus_beta1 * (g - exp_avg))
    return p, flush(exp_avg + one_minus_beta2 * (g - exp_avg))


RULE = Rule(
    name="lion",
    reference=reference,
    scalars=scalars,
    states=(State("exp_avg"),),
    hypers=(Hyper("lr", 1e-4), Hyper("betas", (0.9, 0.99), high=1.0), Hyper("weight_decay", 0.0)),
    decay="decoupled",
    doc=__doc__,
)
