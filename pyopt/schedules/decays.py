"""Decays and warm-ups: a closed form each, and ``Join`` of several."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from ..kernels.hyper import Hyper
from .base import Schedule, checked, choice, cosine, count, flag, linear, number, power, rising


def _inner(name: str, x: Any) -> Any:
    """Return a schedule; a number stands for a constant one."""
    return x if callable(x) else Constant(Hyper(name, 0.0).check(x))


def _inners(name: str, x: Any) -> tuple[Any, ...]:
    given = tuple(x) if isinstance(x, (list, tuple)) else ()
    if not given:
        raise TypeError(f"{name}={x!r}: must be a list of schedules, one at least")
    return tuple(_inner(f"{name}[{i}]", each) for i, each in enumerate(given))


def _of(name: str, schedule: Any, step: float) -> float:
    """Return the value of an inner schedule, which may be any function."""
    return float(Hyper(f"{name}({step:g})", 0.0).check(schedule(step)))


@dataclass(frozen=True)
class Constant(Schedule):
    """``lr`` at every step.

    >>> Constant(0.1)(7)
    0.1
    """

    lr: float = number()

    def _value(self, step: float) -> float:  # noqa: ARG002
        return self.lr


@dataclass(frozen=True)
class InverseTime(Schedule):
    """Decay by time: ``lr / (1 + decay_rate * step / decay_steps)``.

    ``decay_rate`` >= 0; with ``staircase`` the fraction is rounded down, and the rate falls once in ``decay_steps``.

    Source: H. Robbins, S. Monro, "A stochastic approximation method", 1951, https://doi.org/10.1214/aoms/1177729586

    >>> InverseTime(0.1, decay_rate=0.5)(2)
    0.05
    """

    lr: float = number()
    decay_rate: float = number()
    decay_steps: int = count(1)
    staircase: bool = flag(False)

    def _value(self, step: float) -> float:
        done = step / self.decay_steps
        return self.lr / (1.0 + self.decay_rate * (math.floor(done) if self.staircase else done))


@dataclass(frozen=True)
class Exponential(Schedule):
    """``lr * gamma^(step / decay_steps)``.

    ``gamma`` > 0, below 1 for a decay; with ``staircase`` the exponent is rounded down. A decay of lr * e^(-k * step)
    has gamma = e^-k.

    >>> Exponential(0.1, gamma=0.5)(2)
    0.025
    """

    lr: float = number()
    gamma: float = number(above=True)
    decay_steps: int = count(1)
    staircase: bool = flag(False)

    def _value(self, step: float) -> float:
        done = step / self.decay_steps
        return self.lr * power(self.gamma, math.floor(done) if self.staircase else done)


@dataclass(frozen=True)
class Step(Schedule):
    """``lr * gamma^floor(step / step_size)``: times ``gamma`` > 0 after every ``step_size`` steps.

    >>> [Step(0.5, step_size=2, gamma=0.5)(t) for t in range(5)]
    [0.5, 0.5, 0.25, 0.25, 0.125]
    """

    lr: float = number()
    step_size: int = count()
    gamma: float = number(0.1, above=True)

    def _value(self, step: float) -> float:
        return self.lr * power(self.gamma, step // self.step_size)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """``lr * gamma^n``, with n the number of ``milestones`` <= step: rising integers >= 1; ``gamma`` > 0.

    >>> [MultiStep(0.5, milestones=[1, 3], gamma=0.5)(t) for t in range(5)]
    [0.5, 0.25, 0.25, 0.125, 0.125]
    """

    lr: float = number()
    milestones: tuple[int, ...] = rising()
    gamma: float = number(0.1, above=True)

    def _value(self, step: float) -> float:
        return self.lr * power(self.gamma, bisect_right(self.milestones, step))


@dataclass(frozen=True)
class Polynomial(Schedule):
    """``end_lr + (lr - end_lr) * (1 - step / total_iters)^power``, then ``end_lr``; ``power`` > 0, 1 for a line.

    ``lr`` may be below ``end_lr``: the rate then rises.

    >>> [Polynomial(0.5, total_iters=2)(t) for t in range(4)]
    [0.5, 0.25, 0.0, 0.0]
    """

    lr: float = number()
    total_iters: int = count()
    power: float = number(1.0, above=True)
    end_lr: float = number(0.0)

    def _value(self, step: float) -> float:
        left = 1.0 - min(step / self.total_iters, 1.0)
        return self.end_lr + (self.lr - self.end_lr) * power(left, self.power)


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """Rise in a line to the first value of another schedule, then follow it from its own step 0 on.

    ``schedule(0) * (start_factor + (1 - start_factor) * step / warmup_steps)``, from step ``warmup_steps`` on
    ``schedule(step - warmup_steps)``. ``schedule`` is any function of the step, or a number for a constant;
    ``start_factor`` is in [0, 1]. With 0 the first step moves nothing.

    Source: P. Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017,
    https://arxiv.org/abs/1706.02677

    >>> [LinearWarmup(Constant(0.5), warmup_steps=2)(t) for t in range(4)]
    [0.0, 0.25, 0.5, 0.5]
    """

    schedule: Any = field(metadata=checked(_inner))
    warmup_steps: int = count()
    start_factor: float = number(0.0, high=1.0, closed=True)

    def _value(self, step: float) -> float:
        if step >= self.warmup_steps:
            return _of("schedule", self.schedule, step - self.warmup_steps)
        return _of("schedule", self.schedule, 0) * linear(self.start_factor, 1.0, step / self.warmup_steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a wave down: ``eta_min + (lr - eta_min) * (1 + cos(pi * step / T_max)) / 2``, then ``eta_min``.

    torch's CosineAnnealingLR rises again after ``T_max``; this one stays, as optax's does. ``CosineRestarts`` starts
    anew.

    Source: I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    https://arxiv.org/abs/1608.03983

    >>> [round(Cosine(0.1, T_max=2)(t), 3) for t in range(4)]
    [0.1, 0.05, 0.0, 0.0]
    """

    lr: float = number()
    T_max: int = count()
    eta_min: float = number(0.0)

    def _value(self, step: float) -> float:
        return cosine(self.lr, self.eta_min, min(step / self.T_max, 1.0))


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """Warm up, stay, and decay at the end: ``lr * step / warmup_steps``, then ``lr``, then down to ``min_lr``.

    The decay takes the last ``decay_steps``: ``min_lr + (lr - min_lr) * f(x)`` with x from 0 to 1 and f(x) = 1 - x for
    ``decay="linear"``, (1 + cos(pi * x)) / 2 for ``"cosine"``, 1 - sqrt(x) for ``"1-sqrt"``. ``warmup_steps`` and
    ``stable_steps`` are >= 0. A run can be prolonged from any point before the decay.

    Source: S. Hu et al., "MiniCPM: unveiling the potential of small language models with scalable training strategies",
    2024, https://arxiv.org/abs/2404.06395; 1-sqrt: A. Haegele et al., "Scaling laws and compute-optimal training beyond
    fixed training durations", 2024, https://arxiv.org/abs/2405.18392

    >>> [WarmupStableDecay(0.5, warmup_steps=2, stable_steps=1, decay_steps=2)(t) for t in range(6)]
    [0.0, 0.25, 0.5, 0.5, 0.25, 0.0]
    """

    lr: float = number()
    warmup_steps: int = count(low=0)
    stable_steps: int = count(low=0)
    decay_steps: int = count()
    min_lr: float = number(0.0)
    decay: str = choice("linear", "cosine", "1-sqrt")

    def _value(self, step: float) -> float:
        if step < self.warmup_steps:
            return self.lr * (step / self.warmup_steps)
        x = min(max(0.0, (step - self.warmup_steps - self.stable_steps) / self.decay_steps), 1.0)
        if self.decay == "cosine":
            return cosine(self.lr, self.min_lr, x)
        return linear(self.lr, self.min_lr, math.sqrt(x) if self.decay == "1-sqrt" else x)


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """``lr * min(s / warmup_steps, sqrt(warmup_steps / s))`` with s = step + 1: up in a line to ``lr``, then down.

    The rate of the Transformer has lr = 1 / sqrt(d_model * warmup_steps).

    Source: A. Vaswani et al., "Attention is all you need", NeurIPS 2017, https://arxiv.org/abs/1706.03762

    >>> [InverseSqrt(0.5, warmup_steps=2)(t) for t in (0, 1, 7)]
    [0.25, 0.5, 0.25]
    """

    lr: float = number()
    warmup_steps: int = count()

    def _value(self, step: float) -> float:
        s = step + 1.0
        return self.lr * min(s / self.warmup_steps, math.sqrt(self.warmup_steps / s))


@dataclass(frozen=True)
class Join(Schedule):
    """One schedule after another: ``schedules[i]`` from ``boundaries[i - 1]`` on, from its own step 0.

    ``schedules`` are functions of the step, or numbers for constants; ``boundaries`` rising integers >= 1, one fewer.

    >>> [Join([0.5, Exponential(0.25, 0.5)], boundaries=[2])(t) for t in range(4)]
    [0.5, 0.5, 0.25, 0.125]
    """

    schedules: tuple[Any, ...] = field(metadata=checked(_inners))
    boundaries: tuple[int, ...] = rising()

    def _validate(self) -> None:
        if len(self.boundaries) != len(self.schedules) - 1:
            raise ValueError(
                f"boundaries={list(self.boundaries)!r}: must have one element fewer than schedules, "
                f"which has {len(self.schedules)}"
            )

    def _value(self, step: float) -> float:
        i = bisect_right(self.boundaries, step)
        return _of(f"schedules[{i}]", self.schedules[i], step - (self.boundaries[i - 1] if i else 0))
