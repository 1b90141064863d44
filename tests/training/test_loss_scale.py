"""The dynamic loss scale, as users of torch's GradScaler know it."""

import math
import pickle

import numpy as np
import pytest

import pyopt
from support.helpers import refused, same_bits, tame

BAD = [np.array([np.nan, 1.0], np.float32)]


def test_gradients_are_divided_by_it():
    a, b, g = (tame(50, np.float32, i) for i in range(3))
    b[...] = a
    pyopt.Adam([a], lr=0.1).step([g * 1024], grad_scale=pyopt.DynamicLossScale(1024.0))
    pyopt.Adam([b], lr=0.1).step([g])
    same_bits(a, b)


def test_it_halves_after_a_skipped_step_and_doubles_after_an_interval():
    scaler = pyopt.DynamicLossScale(1024.0, growth_interval=2)
    opt = pyopt.SGD([np.ones(2, np.float32)])
    seen = []
    for bad in (False, True, False, False, False, True):
        opt.step(BAD if bad else [np.ones(2, np.float32)], grad_scale=scaler)
        assert opt.skipped is bad
        scaler.update()
        seen.append(scaler.scale)
    assert seen == [1024, 512, 512, 1024, 1024, 512]


def test_like_torch(torch):
    scaler, theirs = pyopt.DynamicLossScale(64.0, 3.0, 0.25, 3), torch.amp.GradScaler("cpu", 64.0, 3.0, 0.25, 3)
    p = torch.nn.Parameter(torch.ones(2))
    optimizer, opt = torch.optim.SGD([p], lr=0.1), pyopt.SGD([np.ones(2, np.float32)], lr=0.1)
    for bad in np.random.default_rng(0).random(60) < 0.2:
        g = np.array([np.inf if bad else 1.0, 1.0], np.float32)
        theirs.scale(torch.ones(1))
        p.grad = torch.from_numpy(g.copy())
        theirs.step(optimizer)
        theirs.update()
        opt.step([g], grad_scale=scaler)
        scaler.update()
        assert scaler.scale == theirs.get_scale()
    assert scaler.state_dict() == theirs.state_dict()


def test_several_optimizers_share_one():
    scaler = pyopt.DynamicLossScale(8.0)
    first, second = (pyopt.SGD([np.ones(2, np.float32)]) for _ in range(2))
    first.step(BAD, grad_scale=scaler)
    second.step([np.ones(2, np.float32)], grad_scale=scaler)
    scaler.update()
    assert (first.skipped, second.skipped, scaler.scale) == (True, False, 4.0)


def test_it_stays_where_float32_has_its_inverse():
    """However many batches are bad, a step afterwards divides by a number: 0 stays 0."""
    scaler, w = pyopt.DynamicLossScale(growth_factor=10.0, growth_interval=1), np.ones(2, np.float32)
    opt = pyopt.SGD([w], lr=0.5)
    for _ in range(1100):
        opt.step(BAD, grad_scale=scaler)
        scaler.update()
    assert scaler.scale == 2.0**-126
    opt.step([np.array([0, 2.0**-126], np.float32)], grad_scale=scaler)
    assert w.tolist() == [1.0, 0.5]
    for _ in range(100):
        scaler.update()
    opt.step([np.full(2, scaler.scale, np.float32)], grad_scale=scaler)
    np.testing.assert_allclose(w, [0.5, 0.0], atol=1e-6)


def test_it_continues_from_its_state():
    scaler, other = pyopt.DynamicLossScale(4.0, growth_interval=2), pyopt.DynamicLossScale()
    scaler.update()
    other.load_state_dict(pickle.loads(pickle.dumps(scaler.state_dict())))
    other.update()
    assert other.scale == 8.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [("init_scale", 0.0), ("init_scale", math.inf), ("growth_factor", 0.5), ("backoff_factor", 1.0),
     ("backoff_factor", 0.0), ("growth_interval", 0), ("growth_interval", 1.5), ("growth_interval", True)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting, value):
    with refused((ValueError, TypeError), f"{setting}={value!r}", "must be"):
        pyopt.DynamicLossScale(**{setting: value})


def test_ranges_are_written_as_one_reads_them():
    with pytest.raises(ValueError, match=r"init_scale=0: must be in \[1.17549e-38, 8.50706e\+37\]$"):
        pyopt.DynamicLossScale(0)
    with pytest.raises(ValueError, match=r"backoff_factor=0: must be in \(0, 1\)$"):
        pyopt.DynamicLossScale(backoff_factor=0)


def test_integers_of_numpy():
    scaler = pyopt.DynamicLossScale(growth_interval=np.int64(2))
    scaler.load_state_dict(scaler.state_dict() | {"_growth_tracker": np.int32(1)})
    scaler.update()
    assert scaler.scale == 131072.0
    assert type(scaler.state_dict()["growth_interval"]) is int
    assert type(scaler.state_dict()["_growth_tracker"]) is int


@pytest.mark.parametrize("nothing", [None, 3, []], ids=str)
def test_no_state(nothing):
    with pytest.raises(ValueError, match="a dict with the keys"):
        pyopt.DynamicLossScale().load_state_dict(nothing)


@pytest.mark.parametrize("change", [{"scale": -1.0}, {"_growth_tracker": 2000}, {"extra": 1}])
def test_a_wrong_state_changes_nothing(change):
    scaler = pyopt.DynamicLossScale()
    before = scaler.state_dict()
    with pytest.raises(ValueError, match=next(iter(change)).replace("scale", "init_scale")):
        scaler.load_state_dict(before | change)
    assert scaler.state_dict() == before
