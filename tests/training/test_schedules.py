"""Schedules by hand, at their ends, and in an optimizer that is stopped and resumed."""

import copy
import doctest
import itertools
import math
import pickle
import re
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

import pyopt
from pyopt import schedules as s
from pyopt.schedules import base as schedule_base
from support.helpers import outcome, refused, same

SOME = [
    s.Constant(0.3),
    s.InverseTime(0.3, 0.7, 3),
    s.InverseTime(0.3, 0.7, 3, staircase=True),
    s.Exponential(0.3, 0.9),
    s.Exponential(0.3, 0.9, 5),
    s.Exponential(0.3, 0.9, 5, staircase=True),
    s.Step(0.3, 7, 0.5),
    s.MultiStep(0.3, [4, 9, 10], 0.5),
    s.Polynomial(0.3, 20, 2.0, 0.01),
    s.Polynomial(0.3, 20, 0.7),
    s.LinearWarmup(s.Cosine(0.3, 20), 6, 0.25),
    s.Cosine(0.3, 25, 0.01),
    s.CosineRestarts(0.3, 5, 2, 0.01),
    s.CosineRestarts(0.3, 7),
    s.Cyclic(0.1, 0.3, 4, 6),
    s.Cyclic(0.1, 0.3, 4, mode="triangular2"),
    s.Cyclic(0.1, 0.3, 4, mode="exp_range", gamma=0.97).momentum,
    s.OneCycle(0.3, 30),
    s.OneCycle(0.3, 30, three_phase=True).momentum,
    s.WarmupStableDecay(0.3, 5, 10, 12, 0.01),
    s.WarmupStableDecay(0.3, 5, 10, 12, 0.01, "cosine"),
    s.WarmupStableDecay(0.3, 0, 0, 12, decay="1-sqrt"),
    s.InverseSqrt(0.3, 8),
    s.Join([s.Constant(0.1), s.Exponential(0.3, 0.8), 0.2], [5, 11]),
]
KINDS = [getattr(s, name) for name in s.__all__ if name not in ("Schedule", "ReduceOnPlateau")]


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


def values(schedule, steps):
    return [schedule(t) for t in range(steps)]


# ---- by hand

HALF = 0.5**0.5


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        (s.Constant(0.3), [0.3] * 6),
        (s.InverseTime(0.3, 0.5, 2), [0.3 / x for x in (1, 1.25, 1.5, 1.75, 2, 2.25)]),
        (s.InverseTime(0.3, 0.5, 2, True), [0.3 / x for x in (1, 1, 1.5, 1.5, 2, 2)]),
        (s.Exponential(0.4, 0.25, 2), [0.4, 0.2, 0.1, 0.05, 0.025, 0.0125]),
        (s.Exponential(0.4, 0.25, 2, True), [0.4, 0.4, 0.1, 0.1, 0.025, 0.025]),
        (s.Polynomial(0.5, 4, 2.0, 0.1), [0.5, 0.325, 0.2, 0.125, 0.1, 0.1]),
        (s.Polynomial(0.1, 4, 1.0, 0.5), [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]),
        (s.LinearWarmup(0.4, 4), [0, 0.1, 0.2, 0.3, 0.4, 0.4]),
        (s.LinearWarmup(lambda t: 0.4 / (1 + t), 2, 0.5), [0.2, 0.3, 0.4, 0.2, 0.4 / 3, 0.1]),
        (s.Cosine(0.4, 4, 0.2), [0.4, 0.3 + 0.1 * HALF, 0.3, 0.3 - 0.1 * HALF, 0.2, 0.2]),
        (s.WarmupStableDecay(0.4, 2, 0, 4, 0.2, "cosine"), [0, 0.2, 0.4, 0.3 + 0.1 * HALF, 0.3, 0.3 - 0.1 * HALF]),
        (s.WarmupStableDecay(0.4, 0, 1, 4, 0.2, "1-sqrt"), [0.4, 0.4, 0.3, 0.4 - 0.2 * HALF, 0.4 - 0.1 * 3**0.5, 0.2]),
        (s.InverseSqrt(0.4, 4), [0.1, 0.2, 0.3, 0.4, 0.4 * 0.8**0.5, 0.4 * (4 / 6) ** 0.5]),
        (s.Join([0.5, s.Step(0.4, 1, 0.5)], [3]), [0.5, 0.5, 0.5, 0.4, 0.2, 0.1]),
        (s.Cyclic(0.0, 0.4, 1, 3), [0, 0.4, 0.8 / 3, 0.4 / 3, 0, 0.4]),
        (s.CosineRestarts(0.4, 1, 2, 0.2), [0.4, 0.4, 0.3, 0.4, 0.3 + 0.1 * HALF, 0.3]),
        (s.OneCycle(0.5, 3, 1 / 3, "linear", div_factor=2, final_div_factor=5), [0.5, 0.275, 0.05, 0.05, 0.05, 0.05]),
        (s.OneCycle(0.5, 1, div_factor=2, final_div_factor=5), [0.05] * 6),
    ],
)  # fmt: skip
def test_by_hand(schedule, want):
    close(values(schedule, 6), want)


def test_exponential_against_its_chained_form():
    rate, schedule = 0.3, s.Exponential(0.3, 0.999)
    for t in range(5000):
        if t % 1000 == 0:
            assert schedule(t) == pytest.approx(rate, rel=1e-12)
        rate *= 0.999


def test_cosine_against_its_chained_form():
    """The recursion by which torch steps it."""
    rate, low, length = 0.3, 0.01, 50
    schedule = s.Cosine(0.3, length, low)
    for t in range(1, length):
        a, b = math.cos(math.pi * t / length), math.cos(math.pi * (t - 1) / length)
        rate = (1 + a) / (1 + b) * (rate - low) + low
        assert schedule(t) == pytest.approx(rate, rel=1e-11)


def test_elementary_functions():
    x = np.linspace(0, 1, 10_001)
    np.testing.assert_allclose([schedule_base.cos_pi(v) for v in x], np.cos(np.pi * x), rtol=0, atol=6e-16)
    assert [schedule_base.cos_pi(v) for v in (0.0, 0.5, 1.0)] == [1.0, 0.0, -1.0]
    for base, exponent in itertools.product((0.0, 0.3, 1.0, 1.1), (0.0, 0.5, 1.0, 2.5, 9.0)):
        assert schedule_base.power(base, exponent) == pytest.approx(base**exponent, rel=1e-15)


def test_bits_do_not_depend_on_the_c_library(monkeypatch):
    """Cosines and whole powers come from + - * / alone."""

    def refuse(*_):
        raise AssertionError("a function of the C library")

    for name in ("cos", "sin", "pow", "exp", "log"):
        monkeypatch.setattr(math, name, refuse)
    got = [schedule(13).hex() for schedule in (s.Cosine(0.3, 40), s.Exponential(0.3, 0.9), s.Step(0.3, 3, 0.7))]
    assert got == ["0x1.d3b628bc64f2ap-3", "0x1.38582f61ad38bp-4", "0x1.2708ede54b48bp-4"]


# ---- steps


@pytest.mark.parametrize("schedule", SOME, ids=repr)
def test_whole_and_broken_steps(schedule):
    """Any number >= 0 is a step; whole ones give the same value whatever their type."""
    for t in (0, 3, 17):
        want = schedule(t)
        assert type(want) is float
        assert want == schedule(float(t)) == schedule(np.int64(t)) == schedule(np.float32(t))
    low, high = sorted((schedule(2), schedule(3)))
    between = schedule(2.5)
    assert math.isfinite(between)
    kind = getattr(schedule, "schedule", schedule)
    if not isinstance(kind, (s.Cyclic, s.OneCycle, s.CosineRestarts, s.Join)):
        assert low <= between <= high


@pytest.mark.parametrize("schedule", SOME, ids=repr)
@pytest.mark.parametrize("bad", [-1, -1e-9, math.nan, math.inf, "1", None, True, 10**400])
def test_no_steps(schedule, bad):
    with refused((TypeError, ValueError), f"step={bad!r}", "finite and >= 0"):
        schedule(bad)


@pytest.mark.parametrize("schedule", SOME, ids=repr)
@pytest.mark.parametrize("step", [10**6, 2**53 + 1, 10**30, 1e300])
def test_huge_steps(schedule, step):
    last = schedule(step)
    assert 0 <= last <= 0.95
    if isinstance(schedule, (s.Polynomial, s.Cosine, s.OneCycle, s.WarmupStableDecay)):
        assert last == schedule(10**5)


def test_growth_without_end_is_refused_by_the_optimizer():
    grows = s.Exponential(0.1, 1.5)
    assert grows(10**6) == math.inf
    assert s.Exponential(0.1, 1.5, 2)(10**6 + 1) == math.inf
    opt = pyopt.SGD([np.ones(2)], lr=lambda t: grows(10**6))
    with refused(ValueError, "lr=inf", opt=opt):
        opt.step([np.ones(2)])


@pytest.mark.parametrize(("schedule", "last"), [
    (s.CosineRestarts(0.1, 3), [2, 5, 8, 11, 14, 17]),
    (s.CosineRestarts(0.1, 2, 2), [1, 5, 13]),
    (s.CosineRestarts(0.1, 1), list(range(20))),
    (s.Cyclic(0.1, 0.2, 2, 3), [4, 9, 14, 19]),
    (s.Cyclic(0.1, 0.2, 2), [3, 7, 11, 15, 19]),
])  # fmt: skip
def test_ends_of_cycles(schedule, last):
    assert [t for t in range(20) if schedule.ends_cycle(t)] == last
    for bad in (-1, 1.5, True):
        with refused((TypeError, ValueError), f"step={bad!r}", "integer >= 0"):
            schedule.ends_cycle(bad)


# ---- as objects


@pytest.mark.parametrize("schedule", SOME, ids=repr)
def test_copies_are_equal(schedule):
    twins = [pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule), eval(repr(schedule), vars(s))]
    for twin in twins:
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert values(twin, 30) == values(schedule, 30)
    first = fields(schedule)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(schedule, first, 0.5)


def test_others_are_not_equal():
    assert len(set(SOME)) == len(SOME)
    assert s.Cosine(0.1, 10) != s.Cosine(0.1, 11)
    assert s.MultiStep(0.1, [1, 2]) == s.MultiStep(0.1, (1, 2))
    assert s.LinearWarmup(0.1, 5) == s.LinearWarmup(s.Constant(0.1), 5)


def test_every_schedule_is_among_the_samples():
    assert {type(schedule) for schedule in SOME} == set(KINDS)
    assert [t for t in [doctest.testmod(s)] if t.failed or t.attempted < 20] == []
    for kind in KINDS:
        for f in fields(kind):
            assert f"{f.name}" in kind.__doc__, f"{f.name} of {kind.__name__} is not documented"


# ---- arguments

CYCLE, LINE = s.OneCycle(0.1, 10), dict(max_lr=0.1, total_steps=10)
BAD = [
    (s.Constant, dict(lr=-0.1), "lr=-0.1", "finite and >= 0"),
    (s.Constant, dict(lr="0.1"), "lr='0.1'", "finite and >= 0"),
    (s.Constant, dict(lr=math.nan), "lr=nan", "finite and >= 0"),
    (s.InverseTime, dict(lr=0.1, decay_rate=-1.0), "decay_rate=-1.0", "finite and >= 0"),
    (s.InverseTime, dict(lr=0.1, decay_rate=1.0, decay_steps=0), "decay_steps=0", "integer >= 1"),
    (s.InverseTime, dict(lr=0.1, decay_rate=1.0, staircase=1), "staircase=1", "True or False"),
    (s.Exponential, dict(lr=0.1, gamma=0.0), "gamma=0.0", "finite and > 0"),
    (s.Exponential, dict(lr=0.1, gamma=math.inf), "gamma=inf", "finite and > 0"),
    (s.Exponential, dict(lr=0.1, gamma=0.5, decay_steps=1.5), "decay_steps=1.5", "integer >= 1"),
    (s.Exponential, dict(lr=0.1, gamma=0.5, staircase=None), "staircase=None", "True or False"),
    (s.Step, dict(lr=0.1, step_size=0), "step_size=0", "integer >= 1"),
    (s.Step, dict(lr=0.1, step_size=True), "step_size=True", "integer >= 1"),
    (s.Step, dict(lr=0.1, step_size=3, gamma=-1), "gamma=-1", "finite and > 0"),
    (s.MultiStep, dict(lr=0.1, milestones=[3, 2]), "milestones=[3, 2]", "rising"),
    (s.MultiStep, dict(lr=0.1, milestones=[2, 2]), "milestones=[2, 2]", "rising"),
    (s.MultiStep, dict(lr=0.1, milestones=[0]), "milestones[0]=0", "integer >= 1"),
    (s.MultiStep, dict(lr=0.1, milestones=3), "milestones=3", "list"),
    (s.MultiStep, dict(lr=0.1, milestones=[3], gamma=0), "gamma=0", "finite and > 0"),
    (s.Polynomial, dict(lr=0.1, total_iters=0), "total_iters=0", "integer >= 1"),
    (s.Polynomial, dict(lr=0.1, total_iters=5, power=0), "power=0", "finite and > 0"),
    (s.Polynomial, dict(lr=0.1, total_iters=5, end_lr=-1), "end_lr=-1", "finite and >= 0"),
    (s.LinearWarmup, dict(schedule=-0.1, warmup_steps=5), "schedule=-0.1", "finite and >= 0"),
    (s.LinearWarmup, dict(schedule=None, warmup_steps=5), "schedule=None", "finite and >= 0"),
    (s.LinearWarmup, dict(schedule=0.1, warmup_steps=0), "warmup_steps=0", "integer >= 1"),
    (s.LinearWarmup, dict(schedule=0.1, warmup_steps=5, start_factor=1.5), "start_factor=1.5", "in [0, 1]"),
    (s.Cosine, dict(lr=0.1, T_max=0), "T_max=0", "integer >= 1"),
    (s.Cosine, dict(lr=0.1, T_max="5"), "T_max='5'", "integer >= 1"),
    (s.Cosine, dict(lr=0.1, T_max=5, eta_min=-1.0), "eta_min=-1.0", "finite and >= 0"),
    (s.CosineRestarts, dict(lr=0.1, T_0=0), "T_0=0", "integer >= 1"),
    (s.CosineRestarts, dict(lr=0.1, T_0=5, T_mult=0), "T_mult=0", "integer >= 1"),
    (s.CosineRestarts, dict(lr=0.1, T_0=5, T_mult=1.5), "T_mult=1.5", "integer >= 1"),
    (s.CosineRestarts, dict(lr=0.1, T_0=5, eta_min=None), "eta_min=None", "finite and >= 0"),
    (s.OneCycle, LINE | dict(max_lr=-1), "max_lr=-1", "finite and >= 0"),
    (s.OneCycle, LINE | dict(total_steps=0), "total_steps=0", "integer >= 1"),
    (s.OneCycle, LINE | dict(pct_start=1.1), "pct_start=1.1", "in [0, 1]"),
    (s.OneCycle, LINE | dict(pct_start=0.6, three_phase=True), "pct_start=0.6", "in [0, 0.5]"),
    (s.OneCycle, LINE | dict(anneal_strategy="cosine"), "anneal_strategy='cosine'", "cos, linear"),
    (s.OneCycle, LINE | dict(base_momentum=1.0), "base_momentum=1.0", "in [0, 1)"),
    (s.OneCycle, LINE | dict(max_momentum=0.5), "max_momentum=0.5", "base_momentum=0.85"),
    (s.OneCycle, LINE | dict(div_factor=0.0), "div_factor=0.0", "finite and > 0"),
    (s.OneCycle, LINE | dict(final_div_factor=-1.0), "final_div_factor=-1.0", "finite and > 0"),
    (s.OneCycle, LINE | dict(three_phase=2), "three_phase=2", "True or False"),
    (s.Cyclic, dict(base_lr=0.3, max_lr=0.1), "max_lr=0.1", "base_lr=0.3"),
    (s.Cyclic, dict(base_lr=-0.3, max_lr=0.1), "base_lr=-0.3", "finite and >= 0"),
    (s.Cyclic, dict(base_lr=0.1, max_lr=0.3, step_size_up=0), "step_size_up=0", "integer >= 1"),
    (s.Cyclic, dict(base_lr=0.1, max_lr=0.3, step_size_down=0), "step_size_down=0", "integer >= 1"),
    (s.Cyclic, dict(base_lr=0.1, max_lr=0.3, mode="square"), "mode='square'", "triangular2"),
    (s.Cyclic, dict(base_lr=0.1, max_lr=0.3, gamma=1.5), "gamma=1.5", "in (0, 1]"),
    (s.Cyclic, dict(base_lr=0.1, max_lr=0.3, base_momentum=0.95), "max_momentum=0.9", "base_momentum=0.95"),
    (s.Cyclic, dict(base_lr=0.1, max_lr=0.3, base_momentum=-0.1), "base_momentum=-0.1", "in [0, 1)"),
    (s.MomentumOf, dict(schedule=s.Constant(0.1)), "schedule=Constant(lr=0.1)", "OneCycle or a Cyclic"),
    (s.WarmupStableDecay, dict(lr=0.1, warmup_steps=-1, stable_steps=0, decay_steps=1), "warmup_steps=-1", ">= 0"),
    (s.WarmupStableDecay, dict(lr=0.1, warmup_steps=0, stable_steps=-1, decay_steps=1), "stable_steps=-1", ">= 0"),
    (s.WarmupStableDecay, dict(lr=0.1, warmup_steps=0, stable_steps=0, decay_steps=0), "decay_steps=0", ">= 1"),
    (s.WarmupStableDecay, dict(lr=0.1, warmup_steps=0, stable_steps=0, decay_steps=1, decay=""), "decay=''", "1-sqrt"),
    (s.WarmupStableDecay, dict(lr=0.1, warmup_steps=0, stable_steps=0, decay_steps=1, min_lr=-1), "min_lr=-1", ">= 0"),
    (s.InverseSqrt, dict(lr=0.1, warmup_steps=0), "warmup_steps=0", "integer >= 1"),
    (s.Join, dict(schedules=[], boundaries=[]), "schedules=[]", "one at least"),
    (s.Join, dict(schedules=[0.1, "x"], boundaries=[3]), "schedules[1]='x'", "finite and >= 0"),
    (s.Join, dict(schedules=[0.1, 0.2], boundaries=[]), "boundaries=[]", "one element fewer"),
    (s.Join, dict(schedules=[0.1, 0.2, 0.3], boundaries=[4, 3]), "boundaries=[4, 3]", "rising"),
    (s.Join, dict(schedules=0.1, boundaries=[]), "schedules=0.1", "list of schedules"),
]


@pytest.mark.parametrize(
    ("kind", "arguments", "quoted", "allowed"), BAD, ids=[f"{k.__name__} {q}" for k, _, q, _ in BAD]
)
def test_bad_arguments(kind, arguments, quoted, allowed):
    with refused((TypeError, ValueError), quoted, "must", allowed):
        kind(**arguments)


@pytest.mark.parametrize(("value", "error"), [(None, TypeError), ("a", TypeError), (-1.0, ValueError)])
def test_an_inner_schedule_that_returns_no_rate(value, error):
    for schedule, words in (
        (s.LinearWarmup(lambda _: value, 2), ("schedule(0)=", "schedule(0)=", "schedule(3)=")),
        (s.Join([lambda _: value, lambda _: value], [2]), ("schedules[0](0)=", "schedules[0](1)=", "schedules[1](3)=")),
    ):
        for step, word in zip((0, 1, 5), words, strict=True):
            with pytest.raises(error, match=re.escape(f"{word}{value!r}: must be finite and >= 0")):
                schedule(step)


def test_every_argument_has_a_bad_case():
    seen = {(kind, quoted.split("=")[0].split("[")[0]) for kind, _, quoted, _ in BAD}
    rates = {(kind, f.name) for kind in KINDS for f in fields(kind) if f.name == "lr"}  # one kind of field
    assert {(kind, f.name) for kind in KINDS for f in fields(kind)} - rates - seen == set()


# ---- in an optimizer


@pytest.mark.parametrize("schedule", SOME, ids=repr)
def test_resumed_run_has_the_same_bits(schedule):
    """A snapshot in the middle, pickled, goes on as if nothing had been."""

    def make():
        p = np.linspace(-1, 1, 40, dtype=np.float32)
        return p, pyopt.Adam([p], lr=schedule, betas=(s.MomentumOf(CYCLE), 0.9))

    grads = [np.random.default_rng(t).normal(size=40).astype(np.float32) for t in range(16)]
    _, opt = make()
    for g in grads:
        opt.step([g])
    q, first = make()
    for g in grads[:7]:
        first.step([g])
    saved = pickle.dumps((first.state_dict(), q))
    snapshot, weights = pickle.loads(saved)
    other = pyopt.Adam([weights], lr=7.0)
    other.load_state_dict(snapshot)
    for g in grads[7:]:
        other.step([g])
    same(outcome(other), outcome(opt))
    assert other.param_groups[0]["lr"] == schedule
    assert len({schedule(t) for t in range(16)}) > 1 or isinstance(schedule, s.Constant)


def test_bits_are_those_of_rates_written_by_hand():
    cycle = s.OneCycle(0.3, 12)
    p, q = np.ones(9), np.ones(9)
    opt, other = pyopt.SGD([p], lr=cycle, momentum=cycle.momentum), pyopt.SGD([q], momentum=0.5)
    for t in range(12):
        other.param_groups[0].update(lr=cycle(t), momentum=cycle.momentum(t))
        for each in (opt, other):
            each.step([np.cos(np.arange(9.0) + t)])
    same(outcome(opt), outcome(other))
