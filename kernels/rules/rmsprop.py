"""RMSprop: the gradient divided by a running root mean square of itself, with optional centering and momentum.

.. math::

    v_t &= alpha * v_{t-1} + (1 - alpha) * g_t^2

    m_t &= m_{t-1} + (1 - alpha) * (g_t - m_{t-1})           if centered; then max(v_t - m_t^2, 0) stands for v_t below

    b_t &= momentum * b_{t-1} + g_t / (sqrt(v_t) + eps)

    p_t &= p_{t-1} - lr * b_t

States: square_avg; grad_avg, where centered; momentum_buffer, where momentum is not 0 (each of p's shape, starts at 0).
Ranges: lr, eps, weight_decay, momentum >= 0; alpha in [0, 1). ValueError else.
Deviations: from torch.optim.RMSprop, whose alpha may reach 1, where nothing is ever learned, and whose v_t - m_t^2 may
be rounded to less than 0 where gradients hardly change: the square root is NaN there, and 0 here. The form of
TensorFlow 1 is not offered: v starts at 1 and sqrt(v + eps) divides, so that first steps and the meaning of eps differ.
Source: G. Hinton, N. Srivastava, K. Swersky, "Neural networks for machine learning, lecture 6e", 2012,
https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf; centered: A. Graves, "Generating
sequences with recurrent neural networks", 2013, https://arxiv.org/abs/1308.0850

>>> import numpy as np, pyopt
>>> w = np.array([1.0, -2.0])
>>> opt = pyopt.RMSprop([w], lr=0.01)
>>> for _ in range(2): opt.step([2 * w])
>>> print(w.round(4))
[ 0.8329 -1.8309]
"""

from math import inf

from ..hyper import Hyper
from ..numerics.elementary import flush, relu, sqrt
from ..spec import Rule, State


def scalars(h, t, carry):
    return (h.lr, h.alpha, 1.0 - h.alpha, h.eps, h.momentum), carry


def reference(p, g, square_avg, grad_avg, momentum_buffer, lr, alpha, one_minus_alpha, eps, momentum):
    v = alpha * square_avg + one_minus_alpha * (g * g)
    m = None if grad_avg is None else grad_avg + one_minus_alpha * (g - grad_avg)
    direction = g / (sqrt(v if m is None else relu(v - m * m)) + eps)
    if momentum_buffer is None:
        return p - lr * direction, flush(v), None if m is None else flush(m), None
    b = momentum * momentum_buffer + direction
    return p - lr * b, flush(v), None if m is None else flush(m), flush(b)


def step(h):
    return h.lr / (1.0 - h.momentum) if h.momentum < 1 else inf


def steps(square_avg, grad_avg, eps, step):
    return step / (sqrt(square_avg if grad_avg is None else relu(square_avg - grad_avg * grad_avg)) + eps)


RULE = Rule(
    name="rmsprop",
    reference=reference,
    scalars=scalars,
    prox_step=step,
    prox_steps=steps,
    states=(State("square_avg"), State("grad_avg", when="centered"), State("momentum_buffer", when="momentum")),
    hypers=(
        Hyper("lr", 1e-2),
        Hyper("alpha", 0.99, high=1.0),
        Hyper("eps", 1e-8),
        Hyper("weight_decay", 0.0),
        Hyper("momentum", 0.0),
        Hyper("centered", False),
    ),
    decay="coupled",
    doc=__doc__,
)
