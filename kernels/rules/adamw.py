"""AdamW: Adam's update, with weight decay taken from the weights and not through the gradient.

.. math::

    p_t = (1 - lr * weight_decay) * p_{t-1} - lr / (1 - beta_1^t) * m_t / (sqrt(v_t) / sqrt(1 - beta_2^t) + eps)

with m_t and v_t as in ``Adam``. The decay multiplies the old weights, before the update.

States: exp_avg; exp_avg_sq; max_exp_avg_sq, where amsgrad (each of p's shape, starts at 0).
Ranges: lr, eps, weight_decay >= 0; betas in [0, 1). ValueError else.
Deviations: the paper's schedule multiplier is the learning rate itself, as in torch.optim.AdamW.
Source: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, https://arxiv.org/abs/1711.05101

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0])
>>> opt = pyopt.AdamW([w], lr=0.1)
>>> for _ in range(2): opt.step([2 * w])
>>> print(w.round(4))
[ 0.7985 -1.7963]
"""

from dataclasses import replace

from ..hyper import Hyper
from . import adam

RULE = replace(
    adam.RULE,
    name="adamw",
    hypers=tuple(Hyper("weight_decay", 1e-2) if h.name == "weight_decay" else h for h in adam.RULE.hypers),
    decay="decoupled",
    base=adam.RULE,
    doc=__doc__,
)
