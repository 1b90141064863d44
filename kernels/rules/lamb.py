"""LAMB: Adam's direction, with steps whose length goes with the norm of the weights; for large batches.

.. math::

    u_t = m_t / (1 - beta_1^t) / (sqrt(v_t / (1 - beta_2^t)) + eps) + weight_decay * p_{t-1}

    p_t = p_{t-1} - lr * ||p_{t-1}|| / ||u_t|| * u_t        where a norm is 0: p_{t-1} - lr * u_t

with m_t and v_t as in ``Adam``, and Euclidean norms of one tensor. trust_clip keeps their ratio at 1 or below.

States: exp_avg; exp_avg_sq (each of p's shape, starts at 0).
Ranges: lr, eps, weight_decay >= 0; betas in [0, 1). ValueError else.
Deviations: the paper's phi is the identity: its bounds of the norm of p are not there, and trust_clip is timm's.
Tensors without weight decay have their ratio, as in the paper; apex and timm leave it at 1 there. Gradients are not
clipped unless ``max_grad_norm`` says so; apex and timm do, to a norm of 1.
Source: Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", ICLR 2020,
https://arxiv.org/abs/1904.00962

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0])
>>> opt = pyopt.LAMB([w], lr=0.1)
>>> for _ in range(2): opt.step([2 * w])
>>> print(w.round(4))
[ 0.7006 -1.6969]
"""

from math import sqrt as root

from ..hyper import Hyper
from ..numerics.elementary import flush, power, sqrt
from ..spec import Rule, State


def scalars(h, t, carry):
    beta1, beta2 = h.betas
    inv_correction1, inv_sqrt_correction2 = 1.0 / (1.0 - power(beta1, t)), 1.0 / root(1.0 - power(beta2, t))
    return (1.0 - beta1, beta2, 1.0 - beta2, inv_correction1, inv_sqrt_correction2, h.eps, h.weight_decay), carry


def norm_scalars(h, param_norm, update_norm):
    ratio = param_norm / update_norm if param_norm > 0.0 and update_norm > 0.0 else 1.0
    return (h.lr * (1.0 if h.trust_clip and ratio > 1.0 else ratio),)


def reference(p, g, exp_avg, exp_avg_sq, one_minus_beta1, beta2, one_minus_beta2, inv_correction1, inv_sqrt_correction2,
              eps, weight_decay, step_size):  # fmt: skip
    m = exp_avg + one_minus_beta1 * (g - exp_avg)
    v = beta2 * exp_avg_sq + one_minus_beta2 * (g * g)
    update = inv_correction1 * m / (sqrt(v) * inv_sqrt_correction2 + eps) + weight_decay * p
    return p - step_size * update, flush(m), flush(v)


def direction(p, g, exp_avg, exp_avg_sq, one_minus_beta1, beta2, one_minus_beta2, inv_correction1, inv_sqrt_correction2,
              eps, weight_decay):  # fmt: skip
    m = exp_avg + one_minus_beta1 * (g - exp_avg)
    v = beta2 * exp_avg_sq + one_minus_beta2 * (g * g)
    return inv_correction1 * m / (sqrt(v) * inv_sqrt_correction2 + eps) + weight_decay * p


RULE = Rule(
    name="lamb",
    reference=reference,
    direction=direction,
    scalars=scalars,
    norm_scalars=norm_scalars,
    states=(State("exp_avg"), State("exp_avg_sq")),
    hypers=(
        Hyper("lr", 1e-3),
        Hyper("betas", (0.9, 0.999), high=1.0),
        Hyper("eps", 1e-6),
        Hyper("weight_decay", 0.01),
        Hyper("trust_clip", False),
    ),
    decay="inside",
    doc=__doc__,
)
