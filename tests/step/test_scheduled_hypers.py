"""Any number may be a function of the steps taken: the bits of values written by hand, and errors before a step."""

import math
import pickle

import numpy as np
import pytest

import pyopt
from pyopt import functional
from support.helpers import everything, make, outcome, own_hypers, refused, same, stepping, tame

pytestmark = pytest.mark.devices

CASES = [
    pytest.param(rule, hyper, id=f"{rule.name}-{hyper.name}")
    for rule, hyper in own_hypers()
    if not isinstance(hyper.default, bool) and hyper.name not in {state.start for state in rule.states}
]
FIXED = [
    pytest.param(rule, hyper, id=f"{rule.name}-{hyper.name}")
    for rule, hyper in own_hypers()
    if isinstance(hyper.default, bool) or hyper.name in {state.start for state in rule.states}
]


class Falling:
    """A schedule of numbers above 0 for every hyper-parameter."""

    def __init__(self, start):
        self.start = start

    def __call__(self, t):
        return self.start * 0.75**t


def settings(rule, hyper):
    """Return hyper-parameters that accept any value above 0 of one of them."""
    return {**everything(rule), "ema_decay": 0.5} | ({"nesterov": False} if "nesterov" in everything(rule) else {})


def scheduled(hyper):
    """Return the schedule, and its value at a step."""
    if isinstance(hyper.default, tuple):
        first, second = map(Falling, hyper.default)
        return (first, second), lambda t: (first(t), second(t))
    start = Falling(hyper.default or 0.5)
    return start, start


@pytest.mark.parametrize(("rule", "hyper"), CASES)
def test_bits_are_those_of_values_written_by_hand(rule, hyper, isa):
    schedule, value = scheduled(hyper)
    hypers = settings(rule, hyper)
    p, q = tame(300, np.float32), tame(300, np.float32)
    with stepping(isa):
        opt, other = (make(rule, [x], **hypers | {hyper.name: y}) for x, y in ((p, schedule), (q, value(0))))
        for t in range(4):
            other.param_groups[0][hyper.name] = value(t)
            for each in (opt, other):
                each.step([tame(300, np.float32, t)])
    same(outcome(opt), outcome(other))
    assert opt.param_groups[0][hyper.name] == schedule


@pytest.mark.parametrize(("rule", "hyper"), CASES)
def test_every_value_is_checked_before_the_step(rule, hyper):
    pair = isinstance(hyper.default, tuple)
    for bad in (math.nan, -0.5, "x", (0.5,)):
        given = (hyper.default[0], lambda t, bad=bad: bad) if pair else lambda t, bad=bad: bad
        p = tame(5, np.float64)
        opt = make(rule, [tame(5, np.float64), p], **settings(rule, hyper) | {hyper.name: given})
        with refused((ValueError, TypeError), f"{hyper.name}=", repr(bad), "must be", opt=opt, arrays=[p]):
            opt.step([np.ones(5), np.ones(5)])


@pytest.mark.parametrize(("rule", "hyper"), FIXED)
def test_flags_and_first_values_take_none(rule, hyper):
    with refused(TypeError, f"{hyper.name}=", "must be"):
        make(rule, [np.ones(3)], **{hyper.name: lambda t: hyper.default})


@pytest.mark.parametrize("bad", [(abs,), (abs, 0.5, 0.5), 0.5])
def test_a_pair_stays_a_pair(bad):
    with refused(ValueError, "betas=", "two numbers"):
        pyopt.Adam([np.ones(3)], betas=bad)
    opt = pyopt.Adam([np.ones(3)], betas=lambda t: bad)
    with refused(ValueError, "betas=", "two numbers", opt=opt):
        opt.step([np.ones(3)])
    with refused(TypeError, "lr=", "must be"):
        pyopt.Adam([np.ones(3)], lr=(abs, 0.5))
    opt = pyopt.Adam([np.ones(3)], betas=[Falling(0.9), 0.5])
    assert type(opt.param_groups[0]["betas"]) is tuple  # a list could change unseen


def test_a_combination_is_checked_at_its_step():
    p = np.ones(3)
    opt = pyopt.SGD([p], lr=0.1, momentum=lambda t: 0.5 if t == 0 else 0.0, nesterov=True)
    opt.step([np.ones(3)])
    with refused(ValueError, "nesterov=True", "momentum=0.0", opt=opt, arrays=[p]):
        opt.step([np.ones(3)])
    pyopt.SGD([p], lr=0.1, momentum=0.5, dampening=lambda t: 0.0, nesterov=True).step([np.ones(3)])
    with refused(ValueError, "nesterov=True"):  # what does not depend on the schedule is known at once
        pyopt.SGD([p], lr=lambda t: 0.1, nesterov=True)


def test_a_coupled_decay_of_zero(isa):
    """Its stage stays where another penalty follows."""
    p, q = tame(200, np.float32), tame(200, np.float32)
    with stepping(isa):
        opt = pyopt.SGD([p], lr=0.1, weight_decay=lambda t: 0.5 * (t != 1), penalty=pyopt.L1(0.25))
        other = pyopt.SGD([q], lr=0.1, penalty=pyopt.L1(0.25))
        for t in range(3):
            other.param_groups[0]["weight_decay"] = 0.5 * (t != 1)
            for each in (opt, other):
                each.step([tame(200, np.float32, t)])
    same(outcome(opt), outcome(other))


def test_options_that_may_be_missing_come_and_go():
    p = np.array([1.0, 2.0])
    opt = pyopt.SGD([p], lr=1.0, clip_value=lambda t: None if t == 0 else 0.25)
    opt.step([np.array([0.5, 0.5])])
    assert p.tolist() == [0.5, 1.5]
    opt.step([np.array([0.5, 0.5])])
    assert p.tolist() == [0.25, 1.25]


def test_written_later_and_taken_back():
    p, q = np.ones(4), np.ones(4)
    opt, other = (pyopt.SGD([x], lr=0.1, momentum=0.5) for x in (p, q))
    for momentum in (0.5, lambda t: 0.25 * t, 0.75):
        opt.param_groups[0]["momentum"] = momentum
        other.param_groups[0]["momentum"] = momentum(1) if callable(momentum) else momentum
        for each in (opt, other):
            each.step([np.ones(4)])
    same(outcome(opt), outcome(other))


def test_in_the_functional_form():
    p, q, m, v, step = np.ones(3), np.ones(3), np.zeros(3), np.zeros(3), np.zeros(1)
    opt = pyopt.Adam([q], lr=0.1, betas=(Falling(0.9), 0.99))
    for _ in range(3):
        functional.adam([p], [np.ones(3)], [m], [v], [None], [step], lr=0.1, beta1=Falling(0.9), beta2=0.99)
        opt.step([np.ones(3)])
    assert p.tobytes() == q.tobytes()


def test_snapshots_carry_schedules():
    p, q = np.ones(3), np.ones(3)
    opt, other = pyopt.SGD([p], momentum=Falling(0.9)), pyopt.SGD([q])
    opt.step([np.ones(3)])
    q[...] = p
    other.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    for each in (opt, other):
        each.step([np.ones(3)])
    same(outcome(opt), outcome(other))
