"""The plan of the reference: the stages of step.py in order, each over whole arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..native import write
from ..numerics import codecs, philox, reductions
from ..numerics.elementary import flush
from ..step import SLOTS, Beside, Group, Request, Stages, Work

Array = np.ndarray[Any, np.dtype[Any]]


class Plan:
    """All tensors of an optimizer, stepped by NumPy: a ``backend.Plan``."""

    def __init__(self, names: Sequence[str], params: Sequence[Array], beside: Sequence[Beside],
                 groups: Sequence[Group], members: Sequence[int], steps: Sequence[int],
                 carries: Sequence[float]) -> None:  # fmt: skip
        checks.parameters(names, params)
        for own, name in zip(beside, names, strict=True):
            checks.beside(own, len(groups[0].rule.states), name)
        self.names, self.params, self.beside, self.members = names, params, beside, members
        self.rule, self.stages = groups[0].rule, [groups[k].stages for k in members]
        for p, name, stages in zip(params, names, self.stages, strict=True):
            if stages.rows:
                checks.rows_array(p, name, checks.STORED)
        roles = ("", *(f"the {state.name} of " for state in self.rule.states), *(f"the {slot} of " for slot in SLOTS))
        self.owned = [(role + name, a) for p, own, name in zip(params, beside, names, strict=True)
                      for role, a in zip(roles, (p, *own.flat()), strict=True)]  # fmt: skip
        _apart(self.owned)
        self.t, self.carry = list(steps), list(carries)
        self.norm: float | None = None
        self.skipped = False

    def step(self, grads: Sequence[Array | None], request: Request) -> None:
        """Step every tensor whose gradient is not None."""
        grads = tuple(grads)
        checks.count(grads, len(self.params))
        works = [None if g is None else self.work(i, request) for i, g in enumerate(grads)]
        if request.still is not None:
            request.still()
        self.check(grads, request.zero)
        write(*request.notes or ((),))
        decoded = [
            None if g is None else codecs.decode(g, codecs.compute(p.dtype))
            for g, p in zip(grads, self.params, strict=True)
        ]
        factors = self.factors(decoded, works, request)
        self.skipped = request.skip and not all(np.isfinite(g).all() for g in decoded if g is not None)
        self.catch_up_some([g is not None for g in grads])
        for i, (raw, g, w) in enumerate(zip(grads, decoded, works, strict=True)):
            if raw is None or g is None or w is None:
                continue
            if not self.skipped:
                with np.errstate(all="ignore"):
                    self.stepped(i, g, factors[i], w)
                self.t[i] += 1
                self.carry[i] = w.carry
            if request.zero:
                raw[...] = 0

    def check(self, grads: Sequence[Array | None], zero: bool) -> None:
        """Raise where ``step`` cannot take these gradients."""
        checks.count(grads, len(self.params))
        for g, p, name in zip(grads, self.params, self.names, strict=True):
            if g is not None:
                label, allowed = f"the gradient of {name}", checks.gradients_of(p)
                checks.like(g, p, label, allowed)
                if zero and not g.flags.writeable:
                    checks.reject(g, p, label, allowed, zero)
        given = [(f"the gradient of {name}", g) for g, name in zip(grads, self.names, strict=True)]
        _apart(self.owned, given)
        _apart(given if zero else ())

    def work(self, i: int, request: Request) -> Work:
        """Return what the next step hands to the stages of a tensor."""
        return request.groups[self.members[i]].work(self.t[i] + 1, self.carry[i], request.grad_scale)

    def factors(self, grads: Sequence[Array | None], works: Sequence[Work | None], request: Request) -> Any:
        """Return what each gradient is multiplied by, and set the norm where it is needed."""
        self.norm = None
        done = [w for w in works if w is not None]
        if not request.skip and request.max_norm == math.inf and all(w.max_norm == math.inf for w in done):
            return [None if w is None else w.scale for w in works]
        with np.errstate(all="ignore"):
            own = [[0.0] * -(-p.size // reductions.LEAF) if g is None else reductions.squares(g)
                   for p, g in zip(self.params, grads, strict=True)]  # fmt: skip
            self.norm = math.sqrt(reductions.pairwise_sum([leaf for leaves in own for leaf in leaves])) * (
                abs(done[0].scale) if done else 1.0
            )
            factor = reductions.clip_factor(self.norm, request.max_norm)
            return [
                None if w is None
                else w.scale * factor
                * reductions.clip_factor(math.sqrt(reductions.pairwise_sum(x)) * abs(w.scale) * factor, w.max_norm)
                for w, x in zip(works, own, strict=True)
            ]  # fmt: skip

    def stepped(self, i: int, g: Array, factor: float, w: Work, rows: Any = ..., catch_up: Any = None) -> None:
        """Take one tensor, or some rows of it, through the stages."""
        stored, own, stages = self.params[i], self.beside[i], self.stages[i]
        real = codecs.compute(stored.dtype)
        p = self.whole(i, rows, real)
        if catch_up is not None:
            p = np.where(catch_up == 1, p, p * catch_up)
        g = self.penalised(p, self.clipped(g, real(factor), w), stages, w)
        old = [None if state is None else codecs.decode(state[rows], real) for state in own.states]
        p, *new = self.rule.reference(p, g, *old, *map(real, self.scalars(p, g, old, w)))
        p = self.proximal(p, new, stages, w)
        for k, (state, values) in enumerate(zip(own.states, new, strict=True)):
            self.store(i, state, values, w, philox.STATES + k, rows)
        if own.ema is not None:
            e = codecs.decode(own.ema[rows], real)
            self.store(i, own.ema, flush(e + real(w.ema) * (p - e)), w, philox.EMA, rows)
        if own.remainder is not None:
            stored[rows], own.remainder[rows] = codecs.split(p, stored.dtype)
        else:
            self.store(i, stored, p, w, philox.WEIGHTS, rows)
        if own.shadow is not None:
            own.shadow[rows] = codecs.encode(p, own.shadow.dtype)

    def scalars(self, p: Array, g: Array, states: Sequence[Array | None], w: Work) -> Sequence[float]:
        """Return the scalars of the rule, with those that it makes of norms of the whole tensor."""
        if self.rule.direction is None:
            return w.rule
        update = self.rule.direction(p, g, *states, *map(p.dtype.type, w.rule))
        of = {"param_norm": p, "update_norm": update}
        norms = [math.sqrt(reductions.pairwise_sum(reductions.squares(of[name]))) for name in self.rule.norms]
        return (*w.rule, *self.rule.norm_scalars(w.h, *norms))

    def whole(self, i: int, rows: Any, real: Any) -> Array:
        """Return a parameter, or some rows of it, decoded: with the bits that were cut off, where they are kept."""
        p, low = self.params[i], self.beside[i].remainder
        return codecs.decode(p[rows], real) if low is None else codecs.join(p[rows], low[rows])

    def store(self, i: int, array: Array | None, values: Any, w: Work, number: int, rows: Any) -> None:
        """Write numbers to where they are stored, rounded as the group wants it."""
        if array is None:
            return
        if self.stages[i].rounding == "stochastic" and codecs.BY_NAME[array.dtype.name].stochastic:
            order = np.argsort([-stride for stride in array.strides], kind="stable")  # bits go by the place in memory
            random = np.empty(array.shape, np.uint32)
            bits = philox.bits16(w.seed, 0, array.size, (self.t[i] + 1) & 0xFFFFFFFF, philox.ROUNDING, i, number)
            random.transpose(order)[...] = bits.reshape(np.array(array.shape, int)[order])
            array[rows] = codecs.stochastic(values, array.dtype, random[rows])
        else:
            array[rows] = codecs.encode(values, array.dtype)

    def step_rows(self, i: int, indices: Array, values: Array, request: Request, lazy: float) -> None:
        """Step some rows of a tensor."""
        p, decayed = self.params[i], self.beside[i].row_decay
        w = self.work(i, request)
        if request.still is not None:
            request.still()
        self.check_rows(i, indices, values)
        write(*request.notes or ((),))
        real = codecs.compute(p.dtype)
        given = codecs.decode(values, real)
        rows = np.unique(indices)
        with np.errstate(all="ignore"):
            sums = np.array([_summed(given[indices == row]) for row in rows], real).reshape(len(rows), *p.shape[1:])
            terms = np.array([reductions.pairwise_sum(reductions.squares(x)) for x in sums])
            norm = math.sqrt(reductions.tree_sum(terms)) * abs(w.scale)
            limited = request.skip or request.max_norm != math.inf or w.max_norm != math.inf
            self.norm = norm if limited else None
            factor = reductions.clip_factor(norm, request.max_norm)
            factor = w.scale * (factor * reductions.clip_factor(norm * factor, w.max_norm))
            self.skipped = request.skip and not np.isfinite(sums).all()
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
        _apart(self.owned, [(f"the gradient of {self.names[i]}", values)])

    def catch_up(self) -> None:
        """Decay all rows by what they missed in ``step_rows``."""
        self.catch_up_some([True] * len(self.params))

    def catch_up_some(self, late: Sequence[bool]) -> None:
        """Decay the rows of some tensors by what they missed."""
        for i, (p, own) in enumerate(zip(self.params, self.beside, strict=True)):
            decayed, low = own.row_decay, own.remainder
            if decayed is None or not late[i]:
                continue
            real = codecs.compute(p.dtype)
            rows = np.flatnonzero(decayed[:-1] != decayed[-1])
            factor = (decayed[-1] / decayed[rows]).astype(real).reshape(-1, *[1] * (p.ndim - 1))
            values = self.whole(i, rows, real) * factor
            if low is None:
                p[rows] = codecs.encode(values, p.dtype)
            else:
                p[rows], low[rows] = codecs.split(values, p.dtype)
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
        for penalty, coefficients in zip(stages.penalties, w.penalties, strict=True):
            g = penalty.gradient(p, g, *map(real, coefficients))
        for penalty, coefficients in zip(stages.slopes, w.slopes, strict=True):
            g = g + reductions.row_gradient(p, penalty.slope, coefficients)
        return g

    def proximal(self, p: Array, states: Sequence[Array | None], stages: Stages, w: Work) -> Array:
        """Return the new p after the proximal forms."""
        real = p.dtype.type
        if stages.proxes:
            scalars = map(real, w.steps)
            steps = np.full(p.shape, next(scalars)) if stages.scalar_prox_step else self.steps(states, scalars)
            for penalty, coefficients in zip(stages.proxes, w.proxes, strict=True):
                p = penalty.proximal(p, steps, *map(real, coefficients))
        if stages.shrink is not None:
            factor = reductions.by_row(p, stages.shrink.shrink, w.shrink)
            p = np.where(factor == 1, p, p * factor)
        return p

    def steps(self, states: Sequence[Array | None], scalars: Iterator[Any]) -> Array:
        """Return the step of each element."""
        assert self.rule.prox_steps is not None
        named = dict(zip((state.name for state in self.rule.states), states, strict=True))
        given = [named[name] if name in named else next(scalars) for name in self.rule.prox_steps_arguments]
        result: Array = self.rule.prox_steps(*given)
        return result

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries."""
        return list(self.t), list(self.carry)

    def refresh(self, groups: Sequence[Group]) -> None:
        """Do nothing: no step is repeated without a call."""


def _apart(*arrays: Iterable[tuple[str, Any]]) -> None:
    """Raise where arrays share memory; see ``checks.overlap``."""
    if pair := checks.overlap(*arrays):
        raise ValueError(f"{pair[0]} and {pair[1]} share memory: an update in place needs arrays of their own")


def _summed(rows: Array) -> Array:
    """Return the sum of some rows in their order."""
    total: Array = rows[0]
    for row in rows[1:]:
        total = total + row
    return total
