"""Schedules in cycles, and those that move the momentum beside the learning rate; ``pyopt.schedules`` has them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..validate import integer
from .base import Schedule, checked, choice, cosine, count, flag, linear, number, power


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half a wave down, again and again: ``eta_min + (lr - eta_min) * (1 + cos(pi * t / T)) / 2``.

    t counts the steps since the last restart; T, the length of a cycle, is ``T_0`` first, then ``T_mult`` >= 1 times
    the one before.

    Source: I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    https://arxiv.org/abs/1608.03983

    >>> [round(CosineRestarts(0.1, T_0=2)(t), 3) for t in range(5)]
    [0.1, 0.05, 0.1, 0.05, 0.1]
    """

    lr: float = number()
    T_0: int = count()
    T_mult: int = count(1)
    eta_min: float = number(0.0)

    def _value(self, step: float) -> float:
        since, length = self._place(step)
        return cosine(self.lr, self.eta_min, since / length)

    def ends_cycle(self, step: int) -> bool:
        """Return whether a step, an integer >= 0, is the last one before a restart."""
        since, length = self._place(integer("step", step, 0))
        return since == length - 1

    def _place(self, step: float) -> tuple[float, int]:
        """Return the steps since the last restart, and the length of the cycle."""
        length = self.T_0
        if self.T_mult == 1:
            return step % length, length
        while step >= length:
            step -= length
            length *= self.T_mult
        return step, length


@dataclass(frozen=True)
class Cyclic(Schedule):
    """Up and down in lines between ``base_lr`` and ``max_lr``, ``step_size_up`` steps up and ``step_size_down`` down.

    ``step_size_down`` is ``step_size_up`` where it is None. The height of a cycle is max_lr - base_lr for
    ``mode="triangular"``, half of the one before for ``"triangular2"``, and times ``gamma^step`` for ``"exp_range"``;
    ``gamma`` in (0, 1]. ``max_lr`` >= ``base_lr``. ``momentum`` moves from ``max_momentum`` to ``base_momentum``, both
    in [0, 1), while the rate rises.

    Source: L. Smith, "Cyclical learning rates for training neural networks", 2017, https://arxiv.org/abs/1506.01186

    >>> [Cyclic(0.25, 0.75, step_size_up=2)(t) for t in range(5)]
    [0.25, 0.5, 0.75, 0.5, 0.25]
    """

    base_lr: float = number()
    max_lr: float = number()
    step_size_up: int = count(2000)
    step_size_down: int | None = count(None, optional=True)
    mode: str = choice("triangular", "triangular2", "exp_range")
    gamma: float = number(1.0, high=1.0, closed=True, above=True)
    base_momentum: float = number(0.8, high=1.0)
    max_momentum: float = number(0.9, high=1.0)

    def _validate(self) -> None:
        _ordered("lr", self.base_lr, self.max_lr)
        _ordered("momentum", self.base_momentum, self.max_momentum)

    @property
    def momentum(self) -> MomentumOf:
        """The momentum that belongs to the rate, a schedule of its own."""
        return MomentumOf(self)

    def _value(self, step: float) -> float:
        return self.base_lr + (self.max_lr - self.base_lr) * self._height(step)

    def _momentum(self, step: float) -> float:
        return self.max_momentum - (self.max_momentum - self.base_momentum) * self._height(step)

    @property
    def _down(self) -> int:
        return self.step_size_up if self.step_size_down is None else self.step_size_down

    def _height(self, step: float) -> float:
        cycle, since = divmod(step, self.step_size_up + self._down)
        up = since <= self.step_size_up
        height = since / self.step_size_up if up else 1.0 - (since - self.step_size_up) / self._down
        if self.mode == "triangular":
            return height
        return height * (power(0.5, cycle) if self.mode == "triangular2" else power(self.gamma, step))

    def ends_cycle(self, step: int) -> bool:
        """Return whether a step, an integer >= 0, is the last one of its cycle."""
        return (integer("step", step, 0) + 1) % (self.step_size_up + self._down) == 0


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to ``max_lr`` and down to next to nothing within ``total_steps``; ``momentum`` goes the other way.

    From ``max_lr / div_factor`` up to ``max_lr`` at step ``pct_start * total_steps - 1``, then down to
    ``max_lr / (div_factor * final_div_factor)`` at step ``total_steps - 1``; with ``three_phase`` first down to where
    it began, in as many steps as up, and then to the end. ``anneal_strategy`` is "cos", half a wave, or "linear".
    ``momentum`` moves from ``max_momentum`` to ``base_momentum`` and back, both in [0, 1). ``pct_start`` is in [0, 1],
    with ``three_phase`` in [0, 0.5]; both divisors are > 0.

    Source: L. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning rates",
    2018, https://arxiv.org/abs/1708.07120; the form with one phase down is fastai's.

    >>> cycle = OneCycle(0.1, total_steps=11, pct_start=0.5, anneal_strategy="linear")
    >>> [round(cycle(t), 4) for t in (0, 10)], [round(cycle.momentum(t), 2) for t in (0, 5, 10)]
    ([0.004, 0.0], [0.95, 0.86, 0.95])

    An optimizer takes both: ``SGD(params, lr=cycle, momentum=cycle.momentum)``, or
    ``Adam(params, lr=cycle, betas=(cycle.momentum, 0.99))``.
    """

    max_lr: float = number()
    total_steps: int = count()
    pct_start: float = number(0.3, high=1.0, closed=True)
    anneal_strategy: str = choice("cos", "linear")
    base_momentum: float = number(0.85, high=1.0)
    max_momentum: float = number(0.95, high=1.0)
    div_factor: float = number(25.0, above=True)
    final_div_factor: float = number(1e4, above=True)
    three_phase: bool = flag(False)

    def _validate(self) -> None:
        if self.three_phase and self.pct_start > 0.5:
            raise ValueError(f"pct_start={self.pct_start!r}: must be in [0, 0.5] with three_phase=True")
        _ordered("momentum", self.base_momentum, self.max_momentum)

    @property
    def momentum(self) -> MomentumOf:
        """The momentum that belongs to the rate, a schedule of its own."""
        return MomentumOf(self)

    def _value(self, step: float) -> float:
        first = self.max_lr / self.div_factor
        return self._along(step, first, self.max_lr, first, first / self.final_div_factor)

    def _momentum(self, step: float) -> float:
        return self._along(step, self.max_momentum, self.base_momentum, self.max_momentum, self.max_momentum)

    def _along(self, step: float, first: float, turn: float, back: float, end: float) -> float:
        """Return the value on the way from ``first`` to ``turn``, with three phases ``back``, and to the ``end``."""
        last = self.total_steps - 1
        up = self.pct_start * self.total_steps - 1.0
        stops = [(up, turn), (2.0 * up, back), (last, end)] if self.three_phase else [(up, turn), (last, end)]
        anneal, step = (cosine if self.anneal_strategy == "cos" else linear), min(step, last)
        for (begin, a), (stop, b) in pairwise([(0.0, first), *stops]):
            if step <= stop:
                return anneal(a, b, (step - begin) / (stop - begin) if stop > begin else 1.0)
        return math.nan  # not reached: no step is behind the last stop


def _ordered(what: str, low: float, high: float) -> None:
    if high < low:
        raise ValueError(f"max_{what}={high!r}: must be >= base_{what}={low!r}")


def _has_momentum(name: str, x: Any) -> Any:
    if not isinstance(x, (OneCycle, Cyclic)):
        raise TypeError(f"{name}={x!r}: must be a OneCycle or a Cyclic")
    return x


@dataclass(frozen=True)
class MomentumOf(Schedule):
    """The momentum that belongs to the rate of ``schedule``, a ``OneCycle`` or ``Cyclic``: their ``momentum``."""

    schedule: OneCycle | Cyclic = field(metadata=checked(_has_momentum))

    def _value(self, step: float) -> float:
        return self.schedule._momentum(step)  # noqa: SLF001
