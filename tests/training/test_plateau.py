"""ReduceOnPlateau against torch's ReduceLROnPlateau, with all options, and its own errors."""

import itertools
import math
import pickle

import numpy as np
import pytest

import pyopt
from pyopt.schedules import Constant, ReduceOnPlateau
from support.helpers import refused

ONE = [0.1, 0.2]  # the rates of two groups


def optimizer(rates=ONE):
    return pyopt.SGD([{"params": [np.ones(2)], "lr": lr} for lr in rates])


def rates(opt):
    return [group["lr"] for group in opt.param_groups]


def metrics(seed, steps=80):
    """Return a noisy path that falls, stays and rises, with infinities and NaNs among it."""
    rng = np.random.default_rng(seed)
    path = 3.0 + np.cumsum(rng.choice([-0.3, -0.01, -1e-5, 0.0, 0.1], steps))
    path[rng.random(steps) < 0.05] = np.nan
    path[rng.random(steps) < 0.03] = -np.inf if seed % 2 else np.inf
    return path.tolist()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("seed", range(2))
def test_like_torch(mode, threshold_mode, seed, torch):
    reduced = 0
    for factor, patience, threshold, cooldown, min_lr, eps in itertools.product(
        (0.5, 0.0), (0, 3), (1e-4, 0.05), (0, 2), (0.0, 0.03, [0.01, 0.15]), (1e-8, 0.02)
    ):
        options = dict(mode=mode, factor=factor, patience=patience, threshold=threshold, threshold_mode=threshold_mode,
                       cooldown=cooldown, min_lr=min_lr, eps=eps)  # fmt: skip
        opt = optimizer()
        theirs = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in ONE])
        mine, other = ReduceOnPlateau(opt, **options), torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
        path = metrics(seed)
        for t, metric in enumerate(path if threshold_mode == "abs" else np.exp2(path)):  # torch is wrong below 0
            mine.step(metric)
            other.step(metric)
            assert rates(opt) == rates(theirs), (options, t)
            for name in ("best", "num_bad_epochs", "cooldown_counter", "last_epoch"):
                assert getattr(mine, name) == getattr(other, name), (name, options, t)
        reduced += rates(opt) != ONE
    assert reduced > 20


def test_defaults_are_those_of_torch(torch):
    import inspect

    theirs = inspect.signature(torch.optim.lr_scheduler.ReduceLROnPlateau).parameters
    ours = inspect.signature(ReduceOnPlateau).parameters
    assert [(name, p.default) for name, p in ours.items()] == [(name, p.default) for name, p in theirs.items()]


def test_by_hand():
    opt = optimizer([0.5])
    plateau = ReduceOnPlateau(opt, factor=0.5, patience=1, threshold=0.1, threshold_mode="abs", min_lr=0.2)
    seen = []
    for metric in (5.0, 4.0, 3.95, 3.92, math.nan, math.nan, 3.0):
        plateau.step(metric)
        seen.append(opt.param_groups[0]["lr"])
    assert seen == [0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]


@pytest.mark.parametrize(
    ("mode", "worse", "better"), [("min", (-1.0, -1.00005), -1.0002), ("max", (-1.0, -0.99995), -0.9998)]
)
def test_a_relative_threshold_of_a_negative_metric(mode, worse, better):
    """The margin is a share of the absolute value: neither the same metric nor one a little better counts."""
    opt = optimizer([1.0])
    plateau = ReduceOnPlateau(opt, mode=mode, factor=0.5, patience=1, threshold=1e-4)
    for metric in (-1.0, *worse):
        plateau.step(metric)
    assert rates(opt) == [0.5]
    plateau.step(better)
    assert plateau.best == better


def test_resumed_from_snapshots():
    def make():
        opt = optimizer()
        return opt, ReduceOnPlateau(opt, "max", 0.7, 2, cooldown=1, min_lr=[0.01, 0.02])

    path = metrics(3)
    opt, plateau = make()
    for metric in path:
        plateau.step(metric)
    first, mine = make()
    for metric in path[:33]:
        mine.step(metric)
    saved = pickle.loads(pickle.dumps((first.state_dict(), mine.state_dict())))
    before = repr(saved[1])
    other = optimizer()
    resumed = ReduceOnPlateau(other, patience=50)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for metric in path[33:]:
        resumed.step(metric)
    assert rates(other) == rates(opt) != ONE
    assert resumed.state_dict() == plateau.state_dict()
    assert repr(saved[1]) == before


@pytest.mark.parametrize(
    ("options", "quoted", "allowed"),
    [
        (dict(mode="least"), "mode='least'", "min, max"),
        (dict(factor=1.0), "factor=1.0", "[0, 1)"),
        (dict(factor=-0.1), "factor=-0.1", "[0, 1)"),
        (dict(patience=-1), "patience=-1", ">= 0"),
        (dict(patience=1.5), "patience=1.5", "integer"),
        (dict(threshold=-1e-4), "threshold=-0.0001", ">= 0"),
        (dict(threshold=1.0), "threshold=1.0", "[0, 1)"),
        (dict(threshold_mode="relative"), "threshold_mode='relative'", "rel, abs"),
        (dict(cooldown=-1), "cooldown=-1", ">= 0"),
        (dict(min_lr=-1.0), "min_lr=-1.0", ">= 0"),
        (dict(min_lr=[0.1, math.nan]), "min_lr=nan", ">= 0"),
        (dict(min_lr=[0.1]), "min_lr=[0.1]", "2 parameter groups"),
        (dict(eps=-1.0), "eps=-1.0", ">= 0"),
    ],
)
def test_bad_arguments(options, quoted, allowed):
    with refused((TypeError, ValueError), quoted, "must", allowed):
        ReduceOnPlateau(optimizer(), **options)
    opt = optimizer()
    plateau = ReduceOnPlateau(opt)
    plateau.step(1.0)
    before = plateau.state_dict()
    with refused((TypeError, ValueError), quoted, "must", allowed):
        plateau.load_state_dict(before | options)
    assert plateau.state_dict() == before


@pytest.mark.parametrize("bad", [{}, None, {"best": 1.0}])
def test_no_state_dict(bad):
    plateau = ReduceOnPlateau(optimizer())
    with refused(ValueError, "keys", "must be"):
        plateau.load_state_dict(bad)
    for name, value in {"best": math.nan, "num_bad_epochs": -1, "cooldown_counter": 0.5, "last_epoch": "1"}.items():
        with refused((TypeError, ValueError), f"{name}={value!r}", "must be"):
            plateau.load_state_dict(plateau.state_dict() | {name: value})
    assert plateau.state_dict() == ReduceOnPlateau(optimizer()).state_dict()


def test_what_it_cannot_reduce():
    with refused(TypeError, "optimizer=0.1", "param_groups"):
        ReduceOnPlateau(0.1)
    with refused(TypeError, "lr=Constant(lr=0.1) in group 1", "must be a number"):
        ReduceOnPlateau(optimizer([0.1, Constant(0.1)]))
    opt = optimizer()
    plateau = ReduceOnPlateau(opt, patience=0)
    each = ReduceOnPlateau(opt, patience=0, min_lr=[0.0, 0.0])
    for metric in ("low", None, [1.0, 2.0]):
        with refused(TypeError, f"metric={metric!r}", "must be a number"):
            plateau.step(metric)
    opt.param_groups[1]["lr"] = Constant(0.1)
    with refused(TypeError, "lr=Constant(lr=0.1) in group 1"):
        plateau.step(1.0)
    opt.param_groups[1]["lr"] = 0.2
    opt.add_param_group({"params": [np.ones(2)], "lr": 0.3})
    with refused(ValueError, "min_lr=[0.0, 0.0]", "3 parameter groups"):
        each.step(1.0)
    assert plateau.last_epoch == each.last_epoch == 0
    for metric in (1.0, 1.0):
        plateau.step(metric)
    assert rates(opt) == [0.1 * 0.1, 0.2 * 0.1, 0.3 * 0.1]
