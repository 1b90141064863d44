"""The learning rates of lr="auto", from the scale of the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..kernels.linear_models import moments
from ..kernels.rules import RULES
from ..kernels.spec import Rule


def _descends(rule: Rule) -> bool:
    """Whether the first step is as long as the gradient, and not about as long as lr."""
    h = rule.Values()
    states = [None if state.when and not getattr(h, state.when) else np.zeros(1) for state in rule.states]
    scalars = [*rule.scalars(h, 1, 0.0)[0], *rule.norm_scalars(h, *[1.0] * len(rule.norms)), *[1.0] * rule.decays]
    one, two = (rule.reference(np.zeros(1), np.full(1, g), *states, *scalars)[0] for g in (1.0, 2.0))
    return bool(two == 2 * one)


DESCENT = {name for name, rule in RULES.items() if _descends(rule)}
STEPS = {"adagrad": 0.1, "lion": 3e-3}  # 0.01 for the others
RELATIVE = 0.01, 0.003  # of linear models and of networks, where steps go by the norm of the weights: without a unit
CURVATURE = {"log_loss": 0.25}  # of a row's loss by its output, at most; 1 for the others


def linear_rates(rule: str, loss: str, momentum: float, batch: float, X: Any, spread: float,
                 weight: Array) -> dict[str, float]:  # fmt: skip
    """Return the learning rates of weights and intercept of a linear model.

    For the rules of steepest descent, 1 / (curvature * (1 + mean |x|^2)), less for small batches, whose gradients are
    noisy; for those whose steps go by the norm of the weights, 0.01 * (1 + log10(spread)); for all others
    0.01 * spread / rms(x). So neither the units of the features nor those of the targets matter.
    """
    squares = row_squares(X, weight)
    if not math.isfinite(squares):
        raise ValueError("X is so large that its squares overflow: bring the features to one scale first")
    if rule in DESCENT:
        noise = 9.0 / batch if batch < np.count_nonzero(weight) else 0.0
        rate = (1.0 - momentum) / (CURVATURE.get(loss, 1.0) * (1.0 + squares) * (1.0 + noise))
        return {"weights": rate, "intercepts": rate}
    if RULES[rule].norms:
        rate = RELATIVE[0] * (1.0 + math.log10(max(1.0, spread)))  # the weights grow from 0 by a factor at each step
        return {"weights": rate, "intercepts": rate}
    step = STEPS.get(rule, 0.01) * spread
    rms = math.sqrt(squares / X.shape[1])
    return {"weights": step / rms if rms > 0 else step, "intercepts": step}


def network_rates(rule: str, spread: float) -> dict[str, float]:
    """Return the learning rates of a network: those of the rule, in the units of the targets."""
    rate = {"sgd": 0.1, "momentum": 0.05, "adagrad": 0.02, "lion": 3e-4}.get(
        rule, float(RULES[rule].hyper("lr").default)
    )
    if rule in DESCENT:  # gradients have the unit of the targets at the last layer, its square elsewhere
        inner, last = rate / spread**2, rate
    elif RULES[rule].norms:
        inner = last = RELATIVE[1]
    else:
        inner, last = rate, rate * spread
    return {"weights": inner, "last": last, "intercepts": inner, "last_intercepts": last}


def row_squares(X: Any, weight: Array) -> float:
    """Return the mean of the sum of squares over rows, whose weights are 0 or 1 on average."""
    if isinstance(X, np.ndarray):
        return moments.second(X, np.zeros(X.shape[1], X.dtype), weight) / np.count_nonzero(weight)
    values, none = X.data[:, None], np.zeros(1, X.dtype)
    return moments.second(values, none, np.repeat(weight, np.diff(X.indptr))) / np.count_nonzero(weight)


def centre_and_spread(target: Array, weight: Array) -> tuple[Array, float]:
    """Return the weighted means of the columns, and the root of the mean square around them (1 where it is 0)."""
    rows, columns = np.count_nonzero(weight), target.shape[1]
    means = [moments.first(np.ascontiguousarray(column[:, None]), weight) / rows for column in target.T]
    centre = np.array(means, target.dtype)
    spread = math.sqrt(moments.second(target, centre, weight) / rows / columns)
    if not math.isfinite(spread):
        raise ValueError("y is so large that its squares overflow: bring the targets to another scale first")
    given = target[weight > 0]
    constant = bool((given == given[0]).all())  # the means are rounded: the spread need not be 0
    return centre, spread if spread > 0 and not constant else 1.0
