"""What an optimizer remembers: snapshots, their return to the same bits, and what is refused as one."""

import copy
import pickle
import re

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.numerics import codecs
from support.helpers import (
    everything,
    like,
    make,
    outcome,
    refused,
    same,
    same_bits,
    stepping,
    tame,
    variants,
    wild,
)
from support.two_groups import draw, setup


def trip(snapshot, way):
    return {"as it is": lambda x: x, "pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy}[way](
        snapshot
    )


@pytest.mark.parametrize("way", ["as it is", "pickle", "deepcopy"])
def test_continues_to_the_same_bits(rule, dtype, way):
    opt, params = setup(rule, dtype)
    rows = draw(params, 7)
    for row in rows[:4]:
        opt.step(row)
    assert len({state["step"] for state in opt.state}) > 1
    snapshot = trip(opt.state_dict(), way)
    weights = [p.copy(order="K") for p in params]
    for row in rows[4:]:
        opt.step(row)

    again, others = setup(rule, dtype, seed=99, lr=0.7, weight_decay=0.9)  # all of it is overwritten
    again.step([like(p, 1.0) for p in others])
    for p, weight in zip(others, weights, strict=True):
        p[...] = weight
    again.load_state_dict(snapshot)
    for row in rows[4:]:
        again.step(row)
    same(outcome(again), outcome(opt), way)
    assert repr(again) == repr(opt)


def test_continues_on_another_backend(rule, dtype):
    """A snapshot holds nothing of the engine that made it."""
    backends = ["reference", *instruction_sets.available()]
    results = []
    for first, second in zip(backends, [*backends[1:], backends[0]], strict=True):
        with stepping(first):
            opt, params = setup(rule, dtype)
            for row in draw(params, 3):
                opt.step(row)
        with stepping(second):
            other, others = setup(rule, dtype)
            for p, weight in zip(others, params, strict=True):
                p[...] = weight
            other.load_state_dict(opt.state_dict())
            for row in draw(params, 3, seed=70):
                other.step(row)
        results.append(outcome(other))
    for result in results[1:]:
        same(result, results[0])


@pytest.mark.any_rule
def test_snapshot_stays_as_it_was(rule):
    opt, params = setup(rule, np.float64)
    for row in draw(params, 2):
        opt.step(row)
    snapshot = opt.state_dict()
    before = pickle.dumps(snapshot)
    opt.param_groups[0]["lr"] = 0.9
    for row in draw(params, 2, seed=60):
        opt.step(row)
    assert pickle.dumps(snapshot) == before


@pytest.mark.any_rule
def test_what_was_loaded_is_a_copy(rule):
    opt, params = setup(rule, np.float64)
    opt.step(draw(params, 1)[0])
    snapshot = opt.state_dict()
    before = pickle.dumps(snapshot)
    opt.load_state_dict(snapshot)
    opt.step([np.ones_like(p) for p in params])
    assert pickle.dumps(snapshot) == before
    opt.load_state_dict(snapshot)
    now = outcome(opt)
    for state in snapshot["state"].values():
        state.update({key: value.fill(7) for key, value in state.items() if isinstance(value, np.ndarray)})
    same(outcome(opt), now, "a change of the snapshot reached the optimizer:")


@pytest.mark.any_rule
def test_load_keeps_the_weights_and_memory(rule):
    """A state_dict has no weights, as in torch; those of the optimizer stay bound."""
    opt, params = setup(rule, np.float64)
    before = [p.copy() for p in params]
    opt.load_state_dict(opt.state_dict())
    same(dict(enumerate(params)), dict(enumerate(before)))
    opt.step([np.ones_like(p) for p in params])
    assert not np.array_equal(params[0], before[0], equal_nan=True)


@pytest.mark.any_rule
def test_order_of_the_dict_does_not_count(rule):
    opt, params = setup(rule, np.float64)
    for row in draw(params, 4):
        opt.step(row)
    want = outcome(opt)
    snapshot = opt.state_dict()
    snapshot["state"] = dict(reversed(snapshot["state"].items()))
    opt.load_state_dict(dict(reversed(snapshot.items())))
    same(outcome(opt), want)


@pytest.mark.any_rule
def test_shape_of_torch(rule):
    opt, _ = setup(rule, np.float32)
    snapshot = opt.state_dict()
    assert [group["params"] for group in snapshot["param_groups"]] == [[0, 1], [2, 3, 4]]
    assert list(snapshot["state"]) == [0, 1, 2, 3, 4]
    for i, state in snapshot["state"].items():
        shape = ((130,), (), (0,), (32, 32), (7,))[i]
        arrays = {name: value for name, value in state.items() if name not in ("step", "carry")}
        assert set(arrays) <= {state.name for state in rule.states}
        assert all(value.shape == shape and value.dtype == np.float32 for value in arrays.values())


def test_a_state_may_be_off_in_the_snapshot_and_on_later(rule, dtype):
    """States come and go with their hyper-parameters, also across a load."""
    flags = {state.when for state in rule.states if state.when}
    if not flags:
        assert all(state.when is None for state in rule.states)
        return
    off = {name: type(everything(rule)[name])(0) for name in flags}
    params = [wild(100, dtype)]
    opt = make(rule, params, **everything(rule) | off)
    opt.step([wild(100, dtype, 1)])
    assert not {state.name for state in rule.states if state.when} & set(opt.state[0])
    snapshot = pickle.loads(pickle.dumps(opt.state_dict()))
    theirs = [params[0].copy()]
    other = make(rule, theirs, **everything(rule))
    other.step([np.zeros(100, dtype)])
    theirs[0][...] = params[0]
    other.load_state_dict(snapshot)
    for each in (opt, other):
        for t, values in enumerate((everything(rule), everything(rule) | off, everything(rule))):
            starts = {state.start for state in rule.states}
            each.param_groups[0].update({name: value for name, value in values.items() if name not in starts})
            each.step([wild(100, dtype, 2 + t)])
    same(outcome(opt), outcome(other))


def test_hyper_parameters_written_between_steps_act_as_from_the_start(rule, dtype):
    """Where they are written before the first step."""
    hypers = [row for row in variants(rule) if all(row[state.when] for state in rule.states if state.when)]
    for values in hypers:
        p, q = wild(50, dtype), wild(50, dtype)
        want, got = make(rule, [p], **values), make(rule, [q], **values | {"lr": 0.9})
        got.param_groups[0]["lr"] = values["lr"]
        for t in range(2):
            want.step([wild(50, dtype, t)])
            got.step([wild(50, dtype, t)])
        same(outcome(got), outcome(want))


@pytest.mark.any_rule
def test_groups_added_later_start_at_their_first_step(rule, dtype):
    a, b = wild(50, dtype), wild(60, dtype)
    opt = make(rule, [a], **everything(rule))
    opt.step([wild(50, dtype, 1)])
    opt.add_param_group({"params": [b]})
    opt.step([wild(50, dtype, 2), wild(60, dtype, 3)])
    assert [state["step"] for state in opt.state] == [2, 1]
    q = wild(60, dtype)
    alone = make(rule, [q], **everything(rule))
    alone.step([wild(60, dtype, 3)])
    same_bits(b, q)


@pytest.mark.parametrize(
    "written",
    [{"ema_decay": 0.9}, {"state_dtype": "float16"}, {"amsgrad": True, "state_dtype": {"exp_avg": "bfloat16"}},
     {"rounding": "remainder"}, {"shadow_dtype": "float16"}],
    ids=str,
)  # fmt: skip
def test_a_snapshot_between_a_change_and_the_step_that_sees_it(written):
    """It can be loaded, goes on to the same bits, and taking it changes nothing."""
    start = [wild(50, np.float32).astype(codecs.dtype("bfloat16")) for _ in range(2)]
    grads = [wild(50, np.float32, t) for t in range(3)]
    params = [[p.copy() for p in start] for _ in range(2)]
    opt, other = (pyopt.AdamW(own) for own in params)
    opt.step(grads[:2])
    opt.param_groups[0].update(written)
    before = outcome(opt)
    snapshot = opt.state_dict()
    same(outcome(opt), before)
    for p, q in zip(*params, strict=True):
        q[...] = p
    other.load_state_dict(pickle.loads(pickle.dumps(snapshot)))
    for each in (opt, other):
        each.step(grads[1:])
    same(outcome(other), outcome(opt))


def test_a_snapshot_with_a_state_that_was_turned_off_before_its_storage_changed():
    p = wild(50, np.float32)
    opt = pyopt.Adam([p], amsgrad=True, ema_decay=0.9)
    for written in ({}, {"amsgrad": False, "ema_decay": None}, {"state_dtype": "float16"}):
        opt.param_groups[0].update(written)
        opt.step([wild(50, np.float32, 1)])
        q = p.copy()
        other = pyopt.Adam([q])
        other.load_state_dict(opt.state_dict())
        same(outcome(other), outcome(opt))


def test_a_snapshot_has_its_own_dict_of_storage_types():
    opt = pyopt.AdamW([np.ones(3)], state_dtype={"exp_avg": "float32"})
    snapshot = opt.state_dict()
    opt.param_groups[0]["state_dtype"]["exp_avg"] = "float16"
    assert snapshot["param_groups"][0]["state_dtype"] == {"exp_avg": "float32"}


@pytest.mark.any_rule
def test_optimizers_are_not_copied(rule):
    """A copy would step the same weights, or none that anybody holds."""
    opt, _ = setup(rule, np.float64)
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="state_dict"):
            way(opt)


def test_repr_names_every_hyper_parameter(rule):
    opt, _ = setup(rule, np.float64)
    for hyper in rule.all_hypers:
        assert len(re.findall(rf"^ +{hyper.name}: ", repr(opt), re.MULTILINE)) == 2


@pytest.mark.any_rule
def test_states_lie_in_memory_as_their_parameter(rule, dtype):
    """One short first tile then aligns all of them, and no two are a little apart modulo 4096."""
    opt, params = setup(rule, dtype)
    for p, state in zip(params, opt.state, strict=True):
        for array in state.values():
            if isinstance(array, np.ndarray):
                assert array.strides == p.strides
                assert (array.ctypes.data - p.ctypes.data) % 512 == 0 or p.size == 0


@pytest.mark.parametrize("change", [{"state_dtype": "bfloat16"}, {"ema_decay": 0.5}, {"amsgrad": True}])
def test_a_refused_step_has_made_nothing_of_what_was_written(change):
    p = tame((4, 3), np.float32)
    opt = pyopt.AdamW([p], lr=0.1, betas=(0.7, 0.8), weight_decay=0.25)
    opt.step([p + 1])
    had = opt.state[0]
    opt.param_groups[0].update(change)
    for call in (
        lambda: opt.step([p[:2]]),
        lambda: opt.step([p + 1], grad_scale=-1.0),
        lambda: opt.step_rows([5], p[:1]),
        lambda: opt.step_rows([0], p[:2]),
    ):
        with refused(ValueError, opt=opt, arrays=[p]):
            call()
    opt.param_groups[0]["lr"] = lambda t: -1.0
    for call in (lambda: opt.step([p + 1]), lambda: opt.step_rows([0], p[:1])):
        with refused(ValueError, "lr", opt=opt, arrays=[p]):
            call()
    assert all(opt.state[0][key] is had[key] for key in ("exp_avg", "exp_avg_sq"))
