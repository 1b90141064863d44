"""The step in NumPy: the stages in order, and a plan with the face of the engine's.

1. scale: g times 1/grad_scale, with the sign flipped for ``maximize``
2. penalty gradients at the old p, coupled weight decay among them, added to g
3. decay: p times 1 - lr * weight_decay, before the rule
4. rule
5. g is zeroed, if asked

A stage whose factor is 1 is left out, and so is a penalty whose coefficients are 0. In float64 this is the accuracy
oracle of every backend, in float32 their bit oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import checks
from .penalties import PENALTIES
from .rules import RULES
from .spec import Penalty, Rule

Array = np.ndarray[Any, np.dtype[Any]]
Work = tuple[float, float, tuple[tuple[float, ...], ...], tuple[float, ...], float]


def work(rule: Rule, h: Any, penalties: Sequence[Penalty], grad_scale: float, t: int, carry: float) -> Work:
    """Return what a step with the hyper-parameters ``h`` hands to the stages, in float64.

    The first entry of the penalties is the coupled weight decay, where the rule has it; see ``stages``.
    """
    scale = (-1.0 if h.maximize else 1.0) / grad_scale
    coefficients = tuple(penalty.scalars() for penalty in penalties)
    decay = 1.0
    if h.weight_decay != 0:
        if rule.decay == "coupled":
            coefficients = ((h.weight_decay,), *coefficients)
        else:
            decay = 1.0 - h.lr * h.weight_decay
    scalars, carry = rule.scalars(h, t, carry)
    return scale, decay, coefficients, scalars, carry


def stages(rule: Rule, h: Any, penalties: Sequence[Penalty]) -> tuple[str, ...]:
    """Return the names of the penalty gradients that ``work`` returns the coefficients of."""
    names = tuple(f"penalties.{penalty.stem}_gradient" for penalty in penalties)
    return ("penalties.l2_gradient", *names) if rule.decay == "coupled" and h.weight_decay != 0 else names


class Plan:
    """All tensors of an optimizer, stepped by NumPy. See ``engine.Plan`` for the arguments."""

    def __init__(self, rule: str, names: Sequence[str], params: Sequence[Array],
                 states: Sequence[Sequence[Array | None]], groups: Sequence[int], stages: Sequence[Sequence[str]],
                 steps: Sequence[int], carries: Sequence[float]) -> None:  # fmt: skip
        checks.parameters(names, params)
        self.update = RULES[rule.rpartition(".")[2]].reference
        self.names, self.params, self.states, self.groups, self.stages = names, params, states, groups, stages
        self.t, self.carry = list(steps), list(carries)

    def step(self, grads: Sequence[Array | None], work: Callable[[int, int, float], Work], zero: bool = False) -> None:
        """Step every tensor whose gradient is not None."""
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            if g is None:
                continue
            group = self.groups[i]
            given = work(group, self.t[i] + 1, self.carry[i])
            with np.errstate(all="ignore"):
                self.stepped(p, g, self.states[i], self.stages[group], *given[:4])
            if zero:
                g[...] = 0
            self.t[i] += 1
            self.carry[i] = given[4]

    def stepped(self, p: Array, g: Array, states: Sequence[Array | None], stages: Sequence[str], scale: float,
                decay: float, penalties: Sequence[Sequence[float]], scalars: Sequence[float]) -> None:  # fmt: skip
        """Take one tensor through the stages."""
        real = p.dtype.type
        new = p
        if real(scale) != 1:
            g = g * real(scale)
        for name, coefficients in zip(stages, penalties, strict=True):
            stem = name.removeprefix("penalties.").removesuffix("_gradient")
            g = PENALTIES[stem].gradient(p, g, *map(real, coefficients))
        if real(decay) != 1:
            new = p * real(decay)
        results = self.update(new, g, *states, *map(real, scalars))
        for array, result in zip((p, *states), results, strict=True):
            if array is not None:
                array[...] = result

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries."""
        return list(self.t), list(self.carry)
