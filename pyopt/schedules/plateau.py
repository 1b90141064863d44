"""A learning rate that falls when a metric no longer improves; ``pyopt.schedules`` has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..kernels.hyper import Hyper
from ..kernels.native import write
from ..validate import VERSION, integer, one_of, real, saved

_SETTINGS = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
_COUNTERS = ("num_bad_epochs", "cooldown_counter", "last_epoch")


class ReduceOnPlateau:
    """Multiply the learning rates of an optimizer by ``factor`` when a metric has stopped improving.

    Call ``step(metric)`` once an epoch. It is no function of the step: it writes the ``lr`` of the parameter groups,
    which must be numbers. Names, defaults and behaviour are those of torch's ReduceLROnPlateau, but for negative
    metrics with a relative threshold: torch multiplies the best one by 1 - threshold, and so takes a worse one for
    better.

    Parameters
    ----------
    optimizer : Optimizer
        Anything with ``param_groups``.
    mode : "min" or "max"
        Whether the metric is to fall or to rise.
    factor : float
        In [0, 1).
    patience : int
        Epochs without an improvement that are accepted, >= 0.
    threshold : float
        How much better than the best one a metric must be to count, >= 0: by this share of the best one's absolute
        value with ``threshold_mode="rel"`` (then < 1 where ``mode="min"``), by this difference with "abs".
    cooldown : int
        Epochs after a reduction in which none without an improvement is counted, >= 0.
    min_lr : float or sequence of floats
        No rate falls below it, >= 0; one for all groups, or one for each.
    eps : float
        A reduction by no more than this is left out, >= 0.

    A NaN is never an improvement.

    >>> import numpy as np, pyopt
    >>> opt = pyopt.SGD([np.ones(2)], lr=0.5)
    >>> plateau = ReduceOnPlateau(opt, factor=0.5, patience=1)
    >>> for loss in (1.0, 0.9, 0.9, 0.9): plateau.step(loss)
    >>> opt.param_groups[0]["lr"]
    0.25
    """

    def __init__(self, optimizer: Any, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0,
                 min_lr: float | Sequence[float] = 0.0, eps: float = 1e-8) -> None:  # fmt: skip
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(f"optimizer={optimizer!r}: must have param_groups")
        self.optimizer = optimizer
        self.mode = one_of("mode", mode, ("min", "max"))
        self.factor = Hyper("factor", 0.1, high=1.0).check(factor)
        self.patience = integer("patience", patience, 0)
        self.threshold: float = Hyper("threshold", 1e-4).check(threshold)
        self.threshold_mode = one_of("threshold_mode", threshold_mode, ("rel", "abs"))
        if mode == "min" and threshold_mode == "rel" and self.threshold >= 1:
            raise ValueError(f"threshold={threshold!r}: must be in [0, 1) with mode='min', threshold_mode='rel'")
        self.cooldown = integer("cooldown", cooldown, 0)
        each = Hyper("min_lr", 0.0)
        several = isinstance(min_lr, (list, tuple))
        self.min_lr = [each.check(x) for x in min_lr] if several else each.check(min_lr)  # type: ignore[union-attr]
        self.eps = Hyper("eps", 1e-8).check(eps)
        self.best: float = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._rates()

    def step(self, metric: float) -> None:
        """Take in the metric of an epoch; TypeError or ValueError, and no change, where it is no number."""
        current = real("metric", metric)
        lowest = self._rates()
        better, cooling = self._improves(current), self.cooldown_counter
        bad = 0 if better or cooling > 0 else self.num_bad_epochs + 1
        rates: list[tuple[dict[str, Any], dict[str, float]]] = []
        if bad > self.patience:
            for group, low in zip(self.optimizer.param_groups, lowest, strict=True):
                reduced = max(group["lr"] * self.factor, low)
                if group["lr"] - reduced > self.eps:
                    rates.append((group, {"lr": reduced}))
            bad, cooling = 0, self.cooldown + 1
        changes = {"last_epoch": self.last_epoch + 1, "num_bad_epochs": bad, "cooldown_counter": max(0, cooling - 1)}
        write((), *rates, (vars(self), changes | ({"best": current} if better else {})))

    def _improves(self, x: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if math.isinf(self.best):  # the start: no share of it is a number
            bound = self.best
        elif self.threshold_mode == "rel":
            bound = self.best * (1.0 + (sign if self.best >= 0 else -sign) * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return sign * x > sign * bound

    def _rates(self) -> Sequence[float]:
        """Return the lowest rate of each group; raise where a rate is a schedule, or a lowest one is missing."""
        groups = self.optimizer.param_groups
        for i, group in enumerate(groups):
            if callable(group["lr"]):
                raise TypeError(f"lr={group['lr']!r} in group {i}: must be a number, which ReduceOnPlateau reduces")
        lowest = self.min_lr if isinstance(self.min_lr, list) else [self.min_lr] * len(groups)
        if len(lowest) != len(groups):
            raise ValueError(f"min_lr={lowest!r}: must have one number for each of {len(groups)} parameter groups")
        return lowest

    def state_dict(self) -> dict[str, Any]:
        """Return settings and progress; the rates themselves are in the state_dict of the optimizer."""
        lowest = list(self.min_lr) if isinstance(self.min_lr, list) else self.min_lr
        found = {name: getattr(self, name) for name in (*_SETTINGS, "best", *_COUNTERS)}
        return {"version": VERSION, **found, "min_lr": lowest}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``; ValueError or TypeError, and no change, where a value is out of range."""
        state_dict = saved(state_dict, self)
        other = ReduceOnPlateau(self.optimizer, **{name: state_dict[name] for name in _SETTINGS})
        best = state_dict["best"]
        if isinstance(best, bool) or not isinstance(best, (int, float)) or math.isnan(best):
            raise ValueError(f"best={best!r}: must be a number")
        other.best = float(best)
        for name in _COUNTERS:
            setattr(other, name, integer(name, state_dict[name], 0))
        self.__dict__.update(vars(other))
