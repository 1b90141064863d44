"""State dicts of older versions load and go on to the same bits; those of newer ones are refused.

support/states_of_0_1.json was written by an early revision: for each of its rules the parameters and the state_dict
after two steps, and all numbers after two more.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import pyopt
from pyopt.kernels.numerics import codecs
from support.helpers import OPTIMIZERS, refused, same_bits

ARRAY = re.compile(r"(\w+) \(([\d,]*)\) ([0-9a-f]*)")
OLD = json.loads((Path(__file__).parents[1] / "support/states_of_0_1.json").read_text())
OTHERS = OLD["others"]


def read(x):
    """Return what JSON holds, with texts such as ``float32 (2,) 00...`` as arrays."""
    if isinstance(x, dict):
        return {int(key) if key.isdigit() else key: read(value) for key, value in x.items()}
    if isinstance(x, list):
        return [read(value) for value in x]
    if isinstance(x, str) and (found := ARRAY.fullmatch(x)):
        shape = [int(n) for n in found[2].split(",") if n]
        kind = np.uint16 if found[1] == "uint16" else codecs.dtype(found[1])
        return np.frombuffer(bytes.fromhex(found[3]), kind).reshape(shape).copy()
    return x


def gradients(params, seed):
    return [((np.arange(p.size) * 7 + 5 * seed) % 13 / 8 - 0.75).astype(p.dtype).reshape(p.shape) for p in params]


def optimizer(old):
    """Return an optimizer that has loaded an old snapshot, and its parameters."""
    pytest.importorskip("ml_dtypes")
    w, b, c = params = read(old["params"])
    opt = OPTIMIZERS[old["state"]["rule"]]([{"params": [("w", w), ("b", b)]}, {"params": [("c", c)]}])
    opt.load_state_dict(read(old["state"]))
    return opt, params


def other(name):
    """Return an object that an old snapshot of it goes with."""
    w = np.ones(2, np.float32)
    return {
        "PolyakAverage": lambda: pyopt.PolyakAverage([w]),
        "SnapshotEnsemble": lambda: pyopt.SnapshotEnsemble([w], pyopt.schedules.CosineRestarts(0.1, T_0=2)),
        "EarlyStopping": pyopt.EarlyStopping,
        "ReduceOnPlateau": lambda: pyopt.schedules.ReduceOnPlateau(pyopt.SGD([w])),
        "DynamicLossScale": pyopt.DynamicLossScale,
    }[name]()


@pytest.mark.parametrize("old", OLD["optimizers"], ids=lambda old: old["state"]["rule"])
def test_an_old_snapshot_goes_on_to_the_same_bits(old):
    opt, params = optimizer(old)
    for seed in (4, 5):
        opt.step(gradients(params, seed))
    *numbers, first, second, third = read(old["after"])
    for got, want in zip(params, numbers, strict=True):
        same_bits(got, want)
    for got, want in zip(opt.state, (first, second, third), strict=True):
        got.pop("row_decay", None)
        assert list(got) == list(want)
        for key in want:
            same_bits(got[key], want[key], key)


def test_hyper_parameters_that_came_later_get_their_defaults():
    old = OLD["optimizers"][0]
    state = read(old["state"])
    for name in ("dampening", "metric", "seed"):
        del state["param_groups"][1][name]
    opt, _ = optimizer(old)
    opt.param_groups[1].update(dampening=0.75, seed=3)
    opt.load_state_dict(state)
    assert [opt.param_groups[1][name] for name in ("dampening", "metric", "seed")] == [0.0, None, 0]
    assert opt.param_groups[0]["dampening"] == 0.25
    state["param_groups"][1]["warmth"] = 1.0
    with refused(ValueError, "group 1", "unknown keys ['warmth']", opt=opt):
        opt.load_state_dict(state)


@pytest.mark.parametrize("name", OTHERS)
def test_an_old_snapshot_of_what_belongs_to_a_training(name):
    made, old = other(name), read(OTHERS[name])
    made.load_state_dict(old)
    again = {key: value for key, value in made.state_dict().items() if key != "version"}
    assert repr(again) == repr(old)
    assert made.state_dict().get("version", 1) == 1
    for change, words in (
        ({"version": 2}, "a newer pyopt"),
        ({"version": 0.5}, "version of the state_dict is 0.5"),
        ({"warmth": 1}, "unknown keys ['warmth']"),
    ):
        with refused(ValueError, words):
            made.load_state_dict(old | change)
        assert repr({key: value for key, value in made.state_dict().items() if key != "version"}) == repr(old)


def test_settings_that_came_later_get_their_defaults():
    made, old = other("EarlyStopping"), read(OTHERS["EarlyStopping"])
    made.start_from_epoch = 4
    made.load_state_dict({key: value for key, value in old.items() if key != "start_from_epoch"})
    assert (made.start_from_epoch, made.patience, made.best) == (0, 3, 2.0)
    with refused(ValueError, "lacks the keys ['wait']"):
        made.load_state_dict({key: value for key, value in old.items() if key != "wait"})
