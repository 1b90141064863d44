"""The step as data: its stages in order, what a group of tensors is stepped with, what stands beside a parameter.

0. norm of g, only where something needs it: one read, over the tree of reductions.py
1. decode p, g and states to the compute type: codecs.py
2. scale: g times 1/grad_scale, with the sign flipped for ``maximize``, times the factor that clips the norm; then clip
   each element of g to [-clip_value, clip_value]
3. penalty gradients at the old p, coupled weight decay among them, added to g; those by row after the others
   norms of p and of its update, where the rule needs them: of a whole tensor, before its first element is stepped
4. decoupled decay: the old p times 1 - lr * weight_decay, in the loop of the rule
5. rule
6. prox of the new p, element by element, then by row
7. EMA of the new p
8. encode p and states, and a copy of p in another type; g is zeroed, if asked

A stage whose factor is 1 is left out, and so is a penalty whose coefficients are 0. Engines take all of this as it is
here: ``reference`` computes it in NumPy, ``cpu`` and ``cuda`` in one pass; ``backend.Plan`` is their face.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .hyper import Hyper
from .numerics.elementary import power
from .penalties.l2 import L2
from .penalty import Penalty
from .spec import Rule, Scalars


class Beside(NamedTuple):
    """What stands beside a parameter: arrays, None for one that is off, or one thing about each."""

    states: tuple[Any, ...]  # of the rule, in its order
    scales: tuple[Any, ...] = ()  # of the blocks of each state: no storage type has them yet
    ema: Any = None
    shadow: Any = None
    remainder: Any = None  # the bits that a bfloat16 p lacks
    row_decay: Any = None  # what each row has been multiplied by and, at the end, should have been

    @classmethod
    def nothing(cls, rule: Rule) -> Beside:
        """Return None in every slot."""
        return cls((None,) * len(rule.states))

    def flat(self) -> tuple[Any, ...]:
        """Return what stands in all slots, in order."""
        return (*self.states, *self.scales, self.ema, self.shadow, self.remainder, self.row_decay)

    def map(self, function: Callable[..., Any], *others: Beside) -> Beside:
        """Return what ``function`` makes of each slot, and of the same slot of ``others``."""
        made = tuple(map(function, self.flat(), *(other.flat() for other in others)))
        count, rest = len(self.states), len(made) - len(SLOTS)
        return Beside(made[:count], made[count:rest], *made[rest:])


SLOTS = Beside._fields[2:]  # what an optimizer keeps besides the states of its rule


class Stages(NamedTuple):
    """Which optional stages a group has: penalties, whose coefficients ``Group.work`` returns in this order."""

    penalties: tuple[type[Penalty], ...]  # gradients
    slopes: tuple[type[Penalty], ...]  # of penalties by row
    proxes: tuple[type[Penalty], ...]
    shrink: type[Penalty] | None  # the prox by row
    scalar_prox_step: bool  # one step for the prox of all elements
    rounding: str

    @property
    def rows(self) -> bool:
        """Whether a stage needs whole rows."""
        return bool(self.slopes) or self.shrink is not None


class Work(NamedTuple):
    """What one step hands to the stages, in float64; each number is rounded once, to the compute type."""

    scale: float
    max_norm: float  # of the tensor; infinite: no limit
    clip_value: float  # infinite: no limit
    penalties: tuple[Scalars, ...]  # see ``Stages``
    slopes: tuple[Scalars, ...]
    rule: Scalars  # with ``decay`` at the end where the rule takes one; without what it makes of norms
    steps: Scalars  # of the prox: what ``Rule.prox_steps`` takes, or the step
    proxes: tuple[Scalars, ...]
    shrink: Scalars
    ema: float  # the share of the new p
    seed: int
    carry: float
    h: Any  # the hyper-parameters of the step, for ``Rule.norm_scalars``


class Penalties(NamedTuple):
    """The penalties of a group, and how their proximal forms are taken."""

    gradients: tuple[Penalty, ...] = ()
    proxes: tuple[Penalty, ...] = ()
    metric: str | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """What some tensors are stepped with. Another hyper-parameter makes another group, mostly of the same stages."""

    rule: Rule
    h: Any  # a ``rule.Values``, with functions of the number of steps taken for what is in ``schedules``
    schedules: Mapping[str, Hyper]
    penalties: Penalties
    rounding: str
    seed: int
    coupled: bool = field(init=False)  # weight decay is a penalty
    stages: Stages = field(init=False)

    def __post_init__(self) -> None:
        rule, (gradients, proxes, metric) = self.rule, self.penalties
        coupled = rule.decay == "coupled" and self.h.weight_decay != 0
        stages = Stages(
            (*([L2] * coupled), *(type(penalty) for penalty in gradients if not penalty.by_row)),
            tuple(type(penalty) for penalty in gradients if penalty.by_row),
            tuple(type(penalty) for penalty in proxes if not penalty.by_row),
            next((type(penalty) for penalty in proxes if penalty.by_row), None),
            rule.prox_steps is None or metric == "lr",
            self.rounding,
        )
        object.__setattr__(self, "coupled", coupled)
        object.__setattr__(self, "stages", stages)

    def hypers(self, t: int) -> Any:
        """Return the hyper-parameters of step ``t`` (from 1 on), checked."""
        h = self.h
        for name, hyper in self.schedules.items():
            given = getattr(h, name)
            now = given(t - 1) if callable(given) else tuple(x(t - 1) if callable(x) else x for x in given)
            h = h._replace(**{name: hyper.check(now)})
        if self.schedules and (wrong := self.rule.check(h)):
            raise ValueError(wrong)
        return h

    def work(self, t: int, carry: float, grad_scale: float) -> Work:
        """Return what step ``t`` (from 1 on) hands to the stages, of gradients that are to be divided by a scale."""
        return self.work_of(self.hypers(t) if self.schedules else self.h, t, carry, grad_scale)

    def work_of(self, h: Any, t: int, carry: float, grad_scale: float) -> Work:
        """Return what step ``t`` with the hyper-parameters ``h`` hands to the stages."""
        rule, penalties = self.rule, self.penalties
        coefficients: tuple[Scalars, ...] = ((h.weight_decay or 0.0,),) if self.coupled else ()
        slopes: tuple[Scalars, ...] = ()
        for penalty in penalties.gradients:
            if penalty.by_row:
                slopes = (*slopes, penalty.scalars())
            else:
                coefficients = (*coefficients, penalty.scalars())
        scalars, carry = rule.scalars(h, t, carry)
        steps, proxes, shrink = self._proximal(h, scalars) if penalties.proxes else ((), (), ())
        if rule.decays:
            decoupled = rule.decay == "decoupled" and h.weight_decay != 0
            scalars = (*scalars, 1.0 - h.lr * h.weight_decay if decoupled else 1.0)
        ema = 0.0 if h.ema_decay is None else 1.0 - h.ema_decay
        if h.ema_bias_correction and ema != 0:
            ema = ema / (1.0 - power(h.ema_decay, t))
        # as Work(...) does, in half the time: this is most of what a small step costs
        return tuple.__new__(Work, (
            (-1.0 if h.maximize else 1.0) / grad_scale,
            math.inf if h.max_tensor_norm is None else h.max_tensor_norm,
            math.inf if h.clip_value is None else h.clip_value,
            coefficients,
            slopes,
            scalars,
            steps,
            proxes,
            shrink,
            ema,
            self.seed,
            carry,
            h,
        ))  # fmt: skip

    def prox_step(self, h: Any) -> float:
        """Return the step of the proximal forms, but for what differs from element to element."""
        return float(h.lr if self.penalties.metric == "lr" else self.rule.prox_step(h))

    def _proximal(self, h: Any, scalars: Scalars) -> tuple[Any, Any, Any]:
        """Return the scalars of the steps, of the proximal forms by element and of the one by row."""
        rule, given = self.rule, self.penalties.proxes
        step = self.prox_step(h)
        if not step < math.inf:
            raise ValueError(f"a proximal step of {step}: momentum must be < 1")
        if self.stages.scalar_prox_step:
            for penalty in given:
                penalty.check_step(step)
            steps: Scalars = (step,)
        else:
            named = dict(zip(rule.scalar_names, scalars, strict=True), step=step)
            steps = tuple(named[name] for name in rule.prox_steps_arguments if name in named)
        proxes = tuple(penalty.scalars() for penalty in given if not penalty.by_row)
        rows = [penalty.scalars() for penalty in given if penalty.by_row]
        return steps, proxes, (step, *rows[0]) if rows else ()


class Request(NamedTuple):
    """What one step is asked for; its gradients come beside it."""

    groups: Sequence[Group]  # those of the plan, with the hyper-parameters that they have now
    grad_scale: float = 1.0  # what the loss was multiplied by
    zero: bool = False  # set the gradients to zero
    max_norm: float = math.inf  # of all gradients together
    skip: bool = False  # let an infinite or NaN gradient make the step none, but for the zeroing
    notes: tuple[Any, ...] = ()  # arguments of native.write, done together with the step
    still: Callable[[], None] | None = None  # raises where a schedule did what a step cannot go on from
