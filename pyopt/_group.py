"""The hyper-parameters of a parameter group, checked, as the kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ._arrays import Array, beside
from .kernels import step
from .kernels.spec import Hyper, Penalty, Rule

GRAD_SCALE = Hyper("grad_scale", 1.0, low=float(np.finfo(np.float64).tiny))


class Group:
    """The hyper-parameters of a parameter group as the kernels take them, read anew from its dict at every step."""

    def __init__(self, rule: Rule, values: dict[str, Any]) -> None:
        self.rule = rule
        self.read = itemgetter(*(h.name for h in rule.all_hypers), "penalty")
        self.seen: tuple[Any, ...] = ()
        self.structure: tuple[Any, ...] = ()
        self.refresh(values)

    def refresh(self, group: dict[str, Any]) -> None:
        """Take over what was written to ``group``, checked."""
        given = self.read(group)
        try:
            if given == self.seen:
                return
        except ValueError:  # an array among them, which the check below refuses or takes as a number
            pass
        values = {}
        for hyper, value in zip(self.rule.all_hypers, given, strict=False):
            values[hyper.name] = value if hyper.name == "lr" and callable(value) else hyper.check(value)
        h = self.rule.Values(**values)
        if wrong := self.rule.check(h):
            raise ValueError(wrong)
        penalties = _penalties(given[-1])
        self.h = h
        group.update(values, penalty=given[-1] if penalties[:1] == (given[-1],) else penalties or None)
        self.seen = self.read(group)
        self.penalties = tuple(penalty for penalty in penalties if any(penalty.scalars()))
        self.structure = (
            (
                *(state.when is None or bool(values[state.when]) for state in self.rule.states),
                self.h.ema_decay is not None,
            ),
            step.stages(self.rule, self.h, self.penalties),
        )

    def work(self, grad_scale: float, t: int, carry: float) -> step.Work:
        """Return what step ``t`` (from 1 on) hands to the stages."""
        return step.work(self.rule, self.hypers(t), self.penalties, grad_scale, t, carry)

    def hypers(self, t: int) -> Any:
        """Return the hyper-parameters in step ``t``: the learning rate as a number, where it is a schedule."""
        h = self.h
        return h._replace(lr=self.rule.hyper("lr").check(h.lr(t - 1))) if callable(h.lr) else h

    def states(self, p: Array, have: Sequence[Array | None]) -> list[Array | None]:
        """Return the states of ``p`` and its EMA: those in ``have``, and a new one where one is on and missing."""
        starts = [getattr(self.h, s.start) if isinstance(s.start, str) else s.start for s in self.rule.states]
        return [
            beside(p, start) if on and array is None else array
            for start, on, array in zip((*starts, p), self.structure[0], have, strict=True)
        ]


class Given(NamedTuple):
    """What a step is given besides gradients: the hyper-parameters of all groups, and what the loss was scaled by.

    The CPU engine calls it for the numbers of one tensor; the GPU engine computes these on the device.
    """

    groups: Sequence[Group]
    grad_scale: float

    def __call__(self, group: int, t: int, carry: float) -> step.Work:
        return self.groups[group].work(self.grad_scale, t, carry)

    def hypers(self, group: int, t: int) -> Any:
        """Return the hyper-parameters of a group in step ``t``, the learning rate as a number."""
        return self.groups[group].hypers(t)


def _penalties(given: Any) -> tuple[Penalty, ...]:
    """Return the penalties of a group as a tuple."""
    if given is None:
        return ()
    penalties = (given,) if isinstance(given, Penalty) else tuple(given) if isinstance(given, (list, tuple)) else None
    if penalties is None or not all(isinstance(penalty, Penalty) for penalty in penalties):
        raise TypeError(f"penalty={given!r}: must be a Penalty such as pyopt.L1(1e-4), a list of them, or None")
    return penalties
