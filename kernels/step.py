"""The step in NumPy: the stages in order, and a plan with the face of the engine's.

0. norm of g, only where something needs it: one read, over the tree of reductions.py
1. decode p, g and states to the compute type: codecs.py
2. scale: g times 1/grad_scale, with the sign flipped for ``maximize``, times the factor that clips the norm; then clip
   each element of g to [-clip_value, clip_value]
3. penalty gradients at the old p, coupled weight decay among them, added to g; those by row after the others
4. decoupled decay: the old p times 1 - lr * weight_decay, in the loop of the rule
5. rule
6. prox of the new p, element by element, then by row
7. EMA of the new p
8. encode p and states, and a copy of p in another type; g is zeroed, if asked

A stage whose factor is 1 is left out, and so is a penalty whose coefficients are 0. In float64 this is the accuracy
oracle of every backend, in float32 their bit oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import checks
from .native import write
from .numerics import codecs, philox, reductions
from .numerics.elementary import flush, power
from .penalties import PENALTIES
from .penalty import Penalty
from .rules import RULES
from .spec import Rule, Scalars

Array = np.ndarray[Any, np.dtype[Any]]


class Stages(NamedTuple):
    """Which optional stages a group has: names of tiles, the coefficients of which ``work`` returns in this order."""

    penalties: tuple[str, ...]  # gradients
    slopes: tuple[str, ...]  # of penalties by row
    proxes: tuple[str, ...]
    shrink: str | None  # the prox by row
    uniform: bool  # one step for the prox of all elements
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
    rule: Scalars  # with ``decay`` at the end where the rule takes one
    steps: Scalars  # of the prox: what ``Rule.steps`` takes, or the step
    proxes: tuple[Scalars, ...]
    shrink: Scalars
    ema: float  # the share of the new p
    seed: int
    carry: float


class Penalties(NamedTuple):
    """The penalties of a group, and how their proximal forms are taken."""

    gradients: tuple[Penalty, ...] = ()
    proxes: tuple[Penalty, ...] = ()
    metric: str | None = None


def work(rule: Rule, h: Any, penalties: Penalties, seed: int, grad_scale: float, t: int, carry: float) -> Work:
    """Return what step ``t`` with the hyper-parameters ``h`` hands to the stages."""
    coefficients: tuple[Scalars, ...] = ()
    slopes: tuple[Scalars, ...] = ()
    decay = 1.0
    if h.weight_decay != 0:
        if rule.decay == "coupled":
            coefficients = ((h.weight_decay,),)
        else:
            decay = 1.0 - h.lr * h.weight_decay
    for penalty in penalties.gradients:
        if penalty.by_row:
            slopes = (*slopes, penalty.scalars())
        else:
            coefficients = (*coefficients, penalty.scalars())
    scalars, carry = rule.scalars(h, t, carry)
    steps, proxes, shrink = _proximal(rule, h, penalties, scalars) if penalties.proxes else ((), (), ())
    if rule.decays:
        scalars = (*scalars, decay)
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
        seed,
        carry,
    ))  # fmt: skip


def _proximal(rule: Rule, h: Any, penalties: Penalties, scalars: Scalars) -> tuple[Any, Any, Any]:
    """Return the scalars of the steps, of the proximal forms by element and of the one by row."""
    step = proximal_step(rule, h, penalties)
    if not step < math.inf:
        raise ValueError(f"a proximal step of {step}: momentum must be < 1")
    if _uniform(rule, penalties):
        for penalty in penalties.proxes:
            penalty.check_step(step)
        steps: Scalars = (step,)
    else:
        named = dict(zip(rule.scalar_names, scalars, strict=True), step=step)
        steps = tuple(named[name] for name in rule.steps_arguments if name in named)
    proxes = tuple(penalty.scalars() for penalty in penalties.proxes if not penalty.by_row)
    rows = [penalty.scalars() for penalty in penalties.proxes if penalty.by_row]
    return steps, proxes, (step, *rows[0]) if rows else ()


def proximal_step(rule: Rule, h: Any, penalties: Penalties) -> float:
    """Return the step of the proximal forms, but for what differs from element to element."""
    return float(h.lr if penalties.metric == "lr" else rule.step(h))


def _uniform(rule: Rule, penalties: Penalties) -> bool:
    return rule.steps is None or penalties.metric == "lr"


def stages(rule: Rule, h: Any, penalties: Penalties, rounding: str) -> Stages:
    """Return the optional stages of a group; ``work`` returns their coefficients."""
    gradients = tuple(f"penalties.{p.stem}_gradient" for p in penalties.gradients if not p.by_row)
    if rule.decay == "coupled" and h.weight_decay != 0:
        gradients = ("penalties.l2_gradient", *gradients)
    shrinks = [f"penalties.{p.stem}_shrink" for p in penalties.proxes if p.by_row]
    return Stages(
        gradients,
        tuple(f"penalties.{p.stem}_slope" for p in penalties.gradients if p.by_row),
        tuple(f"penalties.{p.stem}_prox" for p in penalties.proxes if not p.by_row),
        shrinks[0] if shrinks else None,
        _uniform(rule, penalties),
        rounding,
    )


class Plan:
    """All tensors of an optimizer, stepped by NumPy. See ``engine.Plan`` for the arguments."""

    def __init__(self, rule: str, names: Sequence[str], params: Sequence[Array],
                 states: Sequence[Sequence[Array | None]], groups: Sequence[int], stages: Sequence[Stages],
                 steps: Sequence[int], carries: Sequence[float]) -> None:  # fmt: skip
        checks.parameters(names, params)
        self.rule = RULES[rule.rpartition(".")[2]]
        self.names, self.params, self.states, self.groups, self.stages = names, params, states, groups, stages
        self.t, self.carry = list(steps), list(carries)
        self.norm: float | None = None
        self.skipped = False

    def step(self, grads: Sequence[Array | None], work: Callable[[int, int, float], Work], zero: bool = False,
             max_norm: float = math.inf, skip: bool = False, news: tuple[Any, ...] = ()) -> None:  # fmt: skip
        """Step every tensor whose gradient is not None; see ``engine.Plan.step``."""
        given = [None if g is None else work(self.groups[i], self.t[i] + 1, self.carry[i]) for i, g in enumerate(grads)]
        write(*news or ((),))
        decoded = [
            None if g is None else codecs.decode(g, codecs.compute(p.dtype))
            for g, p in zip(grads, self.params, strict=True)
        ]
        factors = self.factors(decoded, given, max_norm, skip)
        self.skipped = skip and not all(np.isfinite(g).all() for g in decoded if g is not None)
        self.catch_up([g is not None for g in grads])
        for i, (raw, g, w) in enumerate(zip(grads, decoded, given, strict=True)):
            if raw is None or g is None or w is None:
                continue
            if not self.skipped:
                with np.errstate(all="ignore"):
                    self.stepped(i, g, factors[i], w)
                self.t[i] += 1
                self.carry[i] = w.carry
            if zero:
                raw[...] = 0

    def factors(self, grads: Sequence[Array | None], given: Sequence[Work | None], max_norm: float, skip: bool) -> Any:
        """Return what each gradient is multiplied by, and set the norm where it is needed."""
        self.norm = None
        done = [w for w in given if w is not None]
        if not skip and max_norm == math.inf and all(w.max_norm == math.inf for w in done):
            return [None if w is None else w.scale for w in given]
        with np.errstate(all="ignore"):
            own = [[0.0] * -(-p.size // reductions.LEAF) if g is None else reductions.squares(g)
                   for p, g in zip(self.params, grads, strict=True)]  # fmt: skip
            self.norm = math.sqrt(reductions.fold([leaf for leaves in own for leaf in leaves])) * (
                abs(done[0].scale) if done else 1.0
            )
            factor = reductions.clip_factor(self.norm, max_norm)
            return [
                None if w is None
                else w.scale * factor
                * reductions.clip_factor(math.sqrt(reductions.fold(x)) * abs(w.scale) * factor, w.max_norm)
                for w, x in zip(given, own, strict=True)
            ]  # fmt: skip

    def stepped(self, i: int, g: Array, factor: float, w: Work, rows: Any = ..., catch_up: Any = None) -> None:
        """Take one tensor, or some rows of it, through the stages."""
        stored, (*states, ema, shadow, rest, _), stages = self.params[i], self.states[i], self.stages[self.groups[i]]
        real = codecs.compute(stored.dtype)
        p = codecs.decode(stored[rows], real) if rest is None else codecs.join(stored[rows], rest[rows])
        if catch_up is not None:
            p = np.where(catch_up == 1, p, p * catch_up)
        g = self.penalised(p, self.clipped(g, real(factor), w), stages, w)
        old = [None if state is None else codecs.decode(state[rows], real) for state in states]
        p, *new = self.rule.reference(p, g, *old, *map(real, w.rule))
        p = self.proximal(p, new, stages, w)
        for k, (state, values) in enumerate(zip(states, new, strict=True)):
            self.store(i, state, values, w, philox.STATES + k, rows)
        if ema is not None:
            e = codecs.decode(ema[rows], real)
            self.store(i, ema, flush(e + real(w.ema) * (p - e)), w, philox.EMA, rows)
        if rest is not None:
            stored[rows], rest[rows] = codecs.split(p, stored.dtype)
        else:
            self.store(i, stored, p, w, philox.WEIGHTS, rows)
        if shadow is not None:
            shadow[rows] = codecs.encode(p, shadow.dtype)

    def store(self, i: int, array: Array | None, values: Any, w: Work, number: int, rows: Any) -> None:
        """Write numbers to where they are stored, rounded as the group wants it."""
        if array is None:
            return
        if self.stages[self.groups[i]].rounding == "stochastic" and codecs.BY_NAME[array.dtype.name].stochastic:
            order = np.argsort([-stride for stride in array.strides], kind="stable")  # bits go by the place in memory
            random = np.empty(array.shape, np.uint32)
            bits = philox.bits16(w.seed, 0, array.size, (self.t[i] + 1) & 0xFFFFFFFF, philox.ROUNDING, i, number)
            random.transpose(order)[...] = bits.reshape(np.array(array.shape, int)[order])
            array[rows] = codecs.stochastic(values, array.dtype, random[rows])
        else:
            array[rows] = codecs.encode(values, array.dtype)

    def step_rows(self, i: int, indices: Array, values: Array, work: Callable[[int, int, float], Work], lazy: float,
                  max_norm: float = math.inf, skip: bool = False, news: tuple[Any, ...] = ()) -> None:  # fmt: skip
        """Step some rows of a tensor; see ``engine.Plan.step_rows``."""
        p, decayed = self.params[i], self.states[i][-1]
        self.check_rows(i, indices, values)
        w = work(self.groups[i], self.t[i] + 1, self.carry[i])
        write(*news or ((),))
        real = codecs.compute(p.dtype)
        given = codecs.decode(values, real)
        rows = np.unique(indices)
        with np.errstate(all="ignore"):
            sums = np.array([_summed(given[indices == row]) for row in rows], real).reshape(len(rows), *p.shape[1:])
            terms = np.array([reductions.fold(reductions.squares(x)) for x in sums])
            norm = math.sqrt(reductions.tree_sum(terms)) * abs(w.scale)
            limited = skip or max_norm != math.inf or w.max_norm != math.inf
            self.norm = norm if limited else None
            factor = reductions.clip_factor(norm, max_norm)
            factor = w.scale * (factor * reductions.clip_factor(norm * factor, w.max_norm))
            self.skipped = skip and not np.isfinite(sums).all()
            if self.skipped:
                return
            catch_up = None
            if decayed is not None:
                catch_up = (decayed[-1] / decayed[rows]).astype(real).reshape(-1, *[1] * (p.ndim - 1))
            self.stepped(i, sums, factor, w, rows, catch_up)
        if decayed is not None:
            decayed[-1] *= lazy
            decayed[rows] = decayed[-1]
            if not decayed[-1] > 1e-200:
                self.catch_up()
        self.t[i] += 1
        self.carry[i] = w.carry

    def check_rows(self, i: int, indices: Array, values: Array) -> None:
        """Raise where ``step_rows`` cannot take these."""
        checks.row_gradient(indices, values, self.params[i], self.names[i], checks.STORED)

    def catch_up(self, given: Sequence[bool] | None = None) -> None:
        """Decay all rows by what they missed in ``step_rows``, or those of some tensors."""
        for i, (p, (*_, rest, decayed)) in enumerate(zip(self.params, self.states, strict=True)):
            if decayed is None or (given is not None and not given[i]):
                continue
            real = codecs.compute(p.dtype)
            rows = np.flatnonzero(decayed[:-1] != decayed[-1])
            factor = (decayed[-1] / decayed[rows]).astype(real).reshape(-1, *[1] * (p.ndim - 1))
            if rest is None:
                p[rows] = codecs.encode(codecs.decode(p[rows], real) * factor, p.dtype)
            else:
                p[rows], rest[rows] = codecs.split(codecs.join(p[rows], rest[rows]) * factor, p.dtype)
            decayed[...] = 1

    def clipped(self, g: Array, factor: Any, w: Work) -> Array:
        """Return the gradient scaled and clipped."""
        if factor != 1:
            g = g * factor
        if w.clip_value != math.inf:
            bound = type(factor)(w.clip_value)
            g = np.where(g > bound, bound, g)
            g = np.where(g < -bound, -bound, g)
        return g

    def penalised(self, p: Array, g: Array, stages: Stages, w: Work) -> Array:
        """Return the gradient with those of the penalties added."""
        real = p.dtype.type
        for name, coefficients in zip(stages.penalties, w.penalties, strict=True):
            g = _penalty(name).gradient(p, g, *map(real, coefficients))
        for name, coefficients in zip(stages.slopes, w.slopes, strict=True):
            g = g + reductions.by_row(p, _penalty(name).slope, coefficients) * p
        return g

    def proximal(self, p: Array, states: Sequence[Array | None], stages: Stages, w: Work) -> Array:
        """Return the new p after the proximal forms."""
        real = p.dtype.type
        if stages.proxes:
            steps = np.full(p.shape, real(w.steps[0])) if stages.uniform else self.steps(states, map(real, w.steps))
            for name, coefficients in zip(stages.proxes, w.proxes, strict=True):
                p = _penalty(name).proximal(p, steps, *map(real, coefficients))
        if stages.shrink is not None:
            factor = reductions.by_row(p, _penalty(stages.shrink).shrink, w.shrink)
            p = np.where(factor == 1, p, p * factor)
        return p

    def steps(self, states: Sequence[Array | None], scalars: Iterator[Any]) -> Array:
        """Return the step of each element."""
        named = dict(zip((state.name for state in self.rule.states), states, strict=True))
        given = [named[name] if name in named else next(scalars) for name in self.rule.steps_arguments]
        result: Array = self.rule.steps(*given)
        return result

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries."""
        return list(self.t), list(self.carry)


def _summed(rows: Array) -> Array:
    """Return the sum of some rows in their order."""
    total: Array = rows[0]
    for row in rows[1:]:
        total = total + row
    return total


def _penalty(name: str) -> type[Penalty]:
    """Return the penalty that a tile belongs to."""
    return PENALTIES[name.removeprefix("penalties.").rpartition("_")[0]]
