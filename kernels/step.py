"""The step in NumPy: the stages in order, and a plan with the face of the engine's.

0. norm of g, only where something needs it: one read, over the tree of norms.py
1. scale: g times 1/grad_scale, with the sign flipped for ``maximize``, times the factor that clips the norm
2. clip: each element of g to [-clip_value, clip_value]
3. penalty gradients at the old p, coupled weight decay among them, added to g
4. decay: p times 1 - lr * weight_decay, before the rule
5. rule
6. EMA of the new p
7. g is zeroed, if asked

A stage whose factor is 1 is left out, and so is a penalty whose coefficients are 0. In float64 this is the accuracy
oracle of every backend, in float32 their bit oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import checks, norms
from .numerics import flush
from .penalties import PENALTIES
from .rules import RULES
from .spec import Penalty, Rule, Scalars

Array = np.ndarray[Any, np.dtype[Any]]


class Work(NamedTuple):
    """What one step hands to the stages, in float64; each number is rounded once, to the compute type."""

    scale: float
    max_norm: float  # of the tensor; infinite: no limit
    clip_value: float  # infinite: no limit
    penalties: tuple[Scalars, ...]  # see ``stages``
    decay: float
    rule: Scalars
    ema: float  # the share of the new p
    carry: float


def work(rule: Rule, h: Any, penalties: Sequence[Penalty], grad_scale: float, t: int, carry: float) -> Work:
    """Return what step ``t`` with the hyper-parameters ``h`` hands to the stages."""
    coefficients = tuple(penalty.scalars() for penalty in penalties)
    decay = 1.0
    if h.weight_decay != 0:
        if rule.decay == "coupled":
            coefficients = ((h.weight_decay,), *coefficients)
        else:
            decay = 1.0 - h.lr * h.weight_decay
    scalars, carry = rule.scalars(h, t, carry)
    # as Work(...) does, in half the time: this is most of what a small step costs
    return tuple.__new__(Work, (
        (-1.0 if h.maximize else 1.0) / grad_scale,
        math.inf if h.max_tensor_norm is None else h.max_tensor_norm,
        math.inf if h.clip_value is None else h.clip_value,
        coefficients,
        decay,
        scalars,
        0.0 if h.ema_decay is None else 1.0 - h.ema_decay,
        carry,
    ))  # fmt: skip


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
        self.norm: float | None = None
        self.skipped = False

    def step(self, grads: Sequence[Array | None], work: Callable[[int, int, float], Work], zero: bool = False,
             max_norm: float = math.inf, skip: bool = False) -> None:  # fmt: skip
        """Step every tensor whose gradient is not None; see ``engine.Plan.step``."""
        given = [None if g is None else work(self.groups[i], self.t[i] + 1, self.carry[i]) for i, g in enumerate(grads)]
        factors = self.factors(grads, given, max_norm, skip)
        self.skipped = skip and not all(np.isfinite(g).all() for g in grads if g is not None)
        for i, (p, g, w) in enumerate(zip(self.params, grads, given, strict=True)):
            if g is None or w is None:
                continue
            if not self.skipped:
                with np.errstate(all="ignore"):
                    self.stepped(p, g, self.states[i], self.stages[self.groups[i]], factors[i], w)
                self.t[i] += 1
                self.carry[i] = w.carry
            if zero:
                g[...] = 0

    def factors(self, grads: Sequence[Array | None], given: Sequence[Work | None], max_norm: float, skip: bool) -> Any:
        """Return what each gradient is multiplied by, and set the norm where it is needed."""
        self.norm = None
        done = [w for w in given if w is not None]
        if not skip and max_norm == math.inf and all(w.max_norm == math.inf for w in done):
            return [None if w is None else w.scale for w in given]
        with np.errstate(all="ignore"):
            own = [[0.0] * -(-p.size // norms.LEAF) if g is None else norms.squares(g)
                   for p, g in zip(self.params, grads, strict=True)]  # fmt: skip
            self.norm = math.sqrt(norms.fold([leaf for leaves in own for leaf in leaves])) * (
                abs(done[0].scale) if done else 1.0
            )
            factor = norms.clip_factor(self.norm, max_norm)
            return [
                None if w is None
                else w.scale * factor * norms.clip_factor(math.sqrt(norms.fold(x)) * abs(w.scale), w.max_norm)
                for w, x in zip(given, own, strict=True)
            ]  # fmt: skip

    def stepped(self, p: Array, g: Array, states: Sequence[Array | None], stages: Sequence[str], factor: float,
                w: Work) -> None:  # fmt: skip
        """Take one tensor through the stages."""
        real = p.dtype.type
        new, (*states, ema) = p, states
        if real(factor) != 1:
            g = g * real(factor)
        if w.clip_value != math.inf:
            bound = real(w.clip_value)
            g = np.where(g > bound, bound, g)
            g = np.where(g < -bound, -bound, g)
        for name, coefficients in zip(stages, w.penalties, strict=True):
            stem = name.removeprefix("penalties.").removesuffix("_gradient")
            g = PENALTIES[stem].gradient(p, g, *map(real, coefficients))
        if real(w.decay) != 1:
            new = p * real(w.decay)
        results = self.update(new, g, *states, *map(real, w.rule))
        for array, result in zip((p, *states), results, strict=True):
            if array is not None:
                array[...] = result
        if ema is not None:
            ema[...] = flush(ema + real(w.ema) * (p - ema))

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries."""
        return list(self.t), list(self.carry)
