"""Adam: steps of even size from running means of the gradient and its square; weight decay is coupled (L2).

.. math::

    m_t &= m_{t-1} + (1 - beta_1) * (g_t - m_{t-1})

    v_t &= beta_2 * v_{t-1} + (1 - beta_2) * g_t^2           with amsgrad the largest v so far stands below

    p_t &= p_{t-1} - lr / (1 - beta_1^t) * m_t / (sqrt(v_t) / sqrt(1 - beta_2^t) + eps)

with (beta_1, beta_2) = betas.

States: exp_avg; exp_avg_sq; max_exp_avg_sq, where amsgrad (each of p's shape, starts at 0).
Ranges: lr, eps, weight_decay >= 0; betas in [0, 1). ValueError else.
Deviations: eps is added as in torch.optim.Adam, after the correction of v; a NaN in v leaves max_exp_avg_sq as it was.
Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, https://arxiv.org/abs/1412.6980;
amsgrad: S. Reddi, S. Kale, S. Kumar, "On the convergence of Adam and beyond", ICLR 2018,
https://arxiv.org/abs/1904.09237

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0])
>>> opt = pyopt.Adam([w], lr=0.1)
>>> for _ in range(2): opt.step([2 * w])
>>> print(w.round(4))
[ 0.8004 -1.8002]
"""

from math import sqrt as root

from ..hyper import Hyper
from ..numerics.elementary import flush, maximum, power, sqrt
from ..spec import Rule, State


def scalars(h, t, carry):
    beta1, beta2 = h.betas
    step_size = h.lr / (1.0 - power(beta1, t))
    inv_sqrt_correction2 = 1.0 / root(1.0 - power(beta2, t))
    return (1.0 - beta1, beta2, 1.0 - beta2, step_size, inv_sqrt_correction2, h.eps), carry


def reference(p, g, exp_avg, exp_avg_sq, max_exp_avg_sq, one_minus_beta1, beta2, one_minus_beta2, step_size,
              inv_sqrt_correction2, eps, decay):  # fmt: skip
    m = exp_avg + one_minus_beta1 * (g - exp_avg)
    v = beta2 * exp_avg_sq + one_minus_beta2 * (g * g)
    largest = None if max_exp_avg_sq is None else maximum(max_exp_avg_sq, v)
    p = p * decay - step_size * (m / (sqrt(v if largest is None else largest) * inv_sqrt_correction2 + eps))
    return p, flush(m), flush(v), None if largest is None else flush(largest)


def steps(exp_avg_sq, max_exp_avg_sq, step_size, inv_sqrt_correction2, eps):
    largest = exp_avg_sq if max_exp_avg_sq is None else max_exp_avg_sq
    return step_size / (sqrt(largest) * inv_sqrt_correction2 + eps)


RULE = Rule(
    name="adam",
    reference=reference,
    scalars=scalars,
    prox_steps=steps,
    states=(State("exp_avg"), State("exp_avg_sq"), State("max_exp_avg_sq", when="amsgrad")),
    hypers=(
        Hyper("lr", 1e-3),
        Hyper("betas", (0.9, 0.999), high=1.0),
        Hyper("eps", 1e-8),
        Hyper("weight_decay", 0.0),
        Hyper("amsgrad", False),
    ),
    decay="coupled",
    doc=__doc__,
)
