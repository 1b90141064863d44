"""EarlyStopping: when it stops, by Keras' rules, which weights come back, and what is refused."""

import doctest
import math
import pickle

import numpy as np
import pytest

import pyopt
from pyopt.training import early_stopping
from support.helpers import refused, same_bits

NAN, INF = math.nan, math.inf


def stopped(metrics, **settings):
    """Return the epoch that stops, the best metric and its epoch."""
    stopper = pyopt.EarlyStopping(**settings)
    for epoch, metric in enumerate(metrics):
        if stopper.update(metric):
            assert stopper.stopped_epoch == epoch
            return epoch, stopper.best, stopper.best_epoch
    assert stopper.stopped_epoch is None
    return None, stopper.best, stopper.best_epoch


@pytest.mark.parametrize(
    ("metrics", "settings", "want"),
    [
        ([3, 2, 1, 0], {}, (None, 0, 3)),
        ([3, 2, 2, 0], {}, (2, 2, 1)),  # equal is no improvement
        ([3, 2, 2, 0], dict(patience=1), (2, 2, 1)),  # 0 and 1 are the same
        ([3, 2, 2, 0], dict(patience=2), (None, 0, 3)),
        ([3, 2, 2, 4, 0], dict(patience=2), (3, 2, 1)),
        ([3, 4, 2, 4, 5, 1], dict(patience=2), (4, 2, 2)),  # an improvement starts anew
        ([1, 2, 3, 2], dict(mode="max"), (3, 3, 2)),
        ([1, 2, 3, 2], dict(mode="min"), (1, 1, 0)),
        ([3, 2.6, 2.2, 1.9], dict(min_delta=0.5), (1, 3, 0)),
        ([3, 2.5, 2.0], dict(min_delta=0.5), (1, 3, 0)),  # better by more than min_delta
        ([3, 2.4, 1.8, 1.7], dict(min_delta=0.5), (3, 1.8, 2)),
        ([1, 1.4, 3], dict(min_delta=0.5, mode="max"), (1, 1, 0)),
        ([1, 1.4, 1.6, 1.9, 2.2], dict(min_delta=0.5, mode="max", patience=2), (None, 2.2, 4)),
        ([5, 4, 3, 1], dict(baseline=2, patience=4), (None, 1, 3)),
        ([5, 4, 3, 3], dict(baseline=2, patience=2), (3, 3, 2)),  # better than before, not than the baseline
        ([5, 4, 3, 2.5, 2.6], dict(baseline=2, patience=9), (None, 2.5, 3)),
        ([5, 1, 3, 3], dict(baseline=2, patience=2), (3, 1, 1)),
        ([1, 2, 3, 2, 2, 1], dict(baseline=2.5, mode="max", patience=2), (4, 3, 2)),
        ([1, 5, 4, 4, 3], dict(start_from_epoch=2), (3, 4, 2)),
        ([1, 5, 4, 3, 3], dict(start_from_epoch=2), (4, 3, 3)),
        ([NAN, 3, 2, 2], {}, (3, 2, 2)),  # a NaN in the first epoch is not the best
        ([3, NAN, 2], {}, (1, 3, 0)),
        ([3, NAN, 2, NAN, 3, 3], dict(patience=3), (5, 2, 2)),
        ([NAN, NAN], {}, (1, None, None)),
        ([-INF, INF], dict(mode="max"), (None, INF, 1)),
        ([INF, 3, INF], {}, (2, 3, 1)),
    ],
)
def test_when_it_stops(metrics, settings, want):
    assert stopped(metrics, **settings) == want


@pytest.mark.parametrize("patience", [0, 2])
def test_one_epoch_never_stops(patience):
    assert stopped([NAN], patience=patience, baseline=1.0)[0] is None


def test_by_name():
    stopper = pyopt.EarlyStopping("accuracy", mode="max", patience=1)
    assert not stopper.update({"loss": 5.0, "accuracy": 0.5})
    assert stopper.update({"loss": 1.0, "accuracy": 0.4})
    for bad in ({"loss": 1.0}, {}):
        with refused(ValueError, "monitor='accuracy'", repr(sorted(bad))):
            stopper.update(bad)
    for bad in (None, "high", [1.0, 2.0], {"accuracy": "high"}):
        with refused(TypeError, "accuracy=", "must be a number"):
            stopper.update(bad)
    assert stopper.epoch == 2


def arrays(x):
    return [np.full((2, 3), x, np.float32, order="F"), np.full(2, float(x))]


def loop(stopper, params, metrics, first=0):
    for epoch, metric in enumerate(metrics, first):
        for p in params:
            p[...] = epoch
        if stopper.update(metric, params):
            break


def holds(params, x):
    for p, want in zip(params, arrays(x), strict=True):
        same_bits(p, want)


def test_the_best_weights_come_back():
    params = arrays(-1)
    stopper = pyopt.EarlyStopping(patience=2, restore_best_weights=True)
    loop(stopper, params, [3, 1, 2, 2, 0])
    assert stopper.stopped_epoch == 3
    holds(params, 1)
    left = arrays(7)
    stopper.restore(left)
    holds(left, 1)
    params[0][...] = 9
    stopper.restore()
    holds(params, 1)


def test_they_stay_where_nobody_asked():
    params = arrays(-1)
    stopper = pyopt.EarlyStopping(patience=2)
    loop(stopper, params, [3, 1, 2, 2, 0])
    holds(params, 3)
    with refused(ValueError, "no best weights", "restore_best_weights"):
        stopper.restore()


def test_without_a_stop_they_are_for_you_to_restore():
    params = arrays(-1)
    stopper = pyopt.EarlyStopping(patience=5, restore_best_weights=True)
    loop(stopper, params, [3, 1, 2, NAN])
    holds(params, 3)
    stopper.restore()
    holds(params, 1)


def test_weights_of_the_first_epoch_watched():
    """Where nothing ever improves they are the best there are."""
    params = arrays(-1)
    stopper = pyopt.EarlyStopping(start_from_epoch=1, restore_best_weights=True, patience=2)
    loop(stopper, params, [1, NAN, NAN])
    assert (stopper.best, stopper.best_epoch, stopper.stopped_epoch) == (None, 1, 2)
    holds(params, 1)


def test_resumed_in_the_middle():
    metrics = [5, 3, 4, 3.5, 2, 6, 7, 8]
    settings = dict(min_delta=0.25, patience=3, restore_best_weights=True, baseline=9.0)
    want = pyopt.EarlyStopping(**settings)
    loop(want, arrays(0), metrics)
    for cut in range(1, 8):
        first, params = pyopt.EarlyStopping(**settings), arrays(0)
        loop(first, params, metrics[:cut])
        snapshot = first.state_dict()
        saved = pickle.dumps(snapshot)
        other, params = pyopt.EarlyStopping(), arrays(0)
        other.load_state_dict(pickle.loads(saved))
        loop(first, arrays(0), metrics[cut:], cut)
        assert pickle.dumps(snapshot) == saved, "a later update changed the snapshot"
        loop(other, params, metrics[cut:], cut)
        assert {**other.state_dict(), "best_weights": 0} == {**want.state_dict(), "best_weights": 0}
        holds(params, 4)


def test_what_cannot_be_restored_is_refused_before():
    params = arrays(0)
    stopper = pyopt.EarlyStopping(restore_best_weights=True, patience=5)
    for bad, error, words in (
        ((), ValueError, "params is empty"),
        (np.zeros(3), TypeError, "list of arrays"),
        ([0.5], TypeError, "params[0] is float"),
        ([np.ma.masked_array([0.5])], TypeError, "params[0] is a masked array"),
    ):
        with refused(error, words):
            stopper.update(1.0, bad)
    locked = np.zeros(2)
    locked.flags.writeable = False
    with refused(ValueError, "params[0] is read-only"):
        stopper.update(1.0, [locked])
    assert stopper.epoch == 0
    stopper.update(1.0, params)
    for bad in (params[:1], [params[0].T.copy(), params[1]], [params[0], params[1].astype(np.float32)]):
        with refused(ValueError, "params are", "must be float32[2, 3], float64[2]", arrays=bad):
            stopper.restore(bad)
        with refused(ValueError, "params are"):
            stopper.update(2.0, bad)
    assert stopper.epoch == 1
    other = pyopt.EarlyStopping()
    other.load_state_dict(stopper.state_dict())
    with refused(ValueError, "params is missing", "load_state_dict"):
        other.restore()
    other.restore(params)
    holds(params, 0)


@pytest.mark.parametrize(
    ("settings", "quoted", "allowed"),
    [
        (dict(monitor=3), "monitor=3", "a name"),
        (dict(min_delta=-0.1), "min_delta=-0.1", ">= 0"),
        (dict(min_delta=NAN), "min_delta=nan", ">= 0"),
        (dict(patience=-1), "patience=-1", ">= 0"),
        (dict(patience=0.5), "patience=0.5", "integer"),
        (dict(mode="auto"), "mode='auto'", "min, max"),
        (dict(baseline=NAN), "baseline=nan", "None or a finite number"),
        (dict(baseline=INF), "baseline=inf", "None or a finite number"),
        (dict(baseline="1"), "baseline='1'", "None or a finite number"),
        (dict(baseline=True), "baseline=True", "None or a finite number"),
        (dict(restore_best_weights=1), "restore_best_weights=1", "True or False"),
        (dict(start_from_epoch=-1), "start_from_epoch=-1", ">= 0"),
    ],
)
def test_bad_arguments(settings, quoted, allowed):
    with refused((TypeError, ValueError), quoted, "must be", allowed):
        pyopt.EarlyStopping(**settings)
    stopper = pyopt.EarlyStopping(patience=4)
    stopper.update(1.0)
    before = stopper.state_dict()
    with refused((TypeError, ValueError), quoted, "must be", allowed):
        stopper.load_state_dict(before | settings)
    assert stopper.state_dict() == before


def test_no_state_dict():
    stopper = pyopt.EarlyStopping(restore_best_weights=True)
    stopper.update(1.0, arrays(0))
    good = stopper.state_dict()
    for bad, words in (
        ({}, "keys"),
        (None, "keys"),
        (good | {"epoch": -1}, "epoch=-1"),
        (good | {"wait": None}, "wait=None"),
        (good | {"best": NAN}, "best=nan"),
        (good | {"best": "1"}, "best='1'"),
        (good | {"best_epoch": 0.5}, "best_epoch=0.5"),
        (good | {"stopped_epoch": -1}, "stopped_epoch=-1"),
        (good | {"best_weights": np.zeros(3)}, "best_weights is ndarray"),
        (good | {"best_weights": [None]}, "best_weights[0] is NoneType"),
        (good | {"restore_best_weights": False}, "best_weights"),
    ):
        with refused((TypeError, ValueError), words):
            stopper.load_state_dict(bad)
    assert stopper.epoch == 1
    stopper.load_state_dict(good | {"best": INF})
    assert stopper.best == INF


def test_doctest():
    assert doctest.testmod(early_stopping) == (0, 5)
