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
    GRADIENTS,
    OPTIMIZERS,
    everything,
    gradients,
    like,
    make,
    outcome,
    refused,
    same,
    same_bits,
    some_penalty,
    stepping,
    tame,
    variants,
    wild,
)

SIZES = (130, 1, 0, 1024, 7)


def schedule(t):
    return 0.25 / (1 + t)


def setup(rule, dtype, seed=0, **hypers):
    """Return an optimizer of two groups that differ, one of them on a schedule, and its parameters."""
    params = [wild(n, dtype, seed + i) for i, n in enumerate(SIZES)]
    params[1] = params[1].reshape(())
    params[3] = np.asfortranarray(params[3].reshape(32, 32))
    groups = [
        {"params": [("w", params[0]), ("b", params[1])], **(everything(rule) | hypers)},
        {"params": params[2:], "lr": schedule, "penalty": [some_penalty(kind) for kind in GRADIENTS.values()]},
    ]
    return make(rule, groups), params


def draw(params, steps, seed=50):
    """Return gradients with some of them missing, so that the step counts differ."""
    rows = [[like(p, g) for p, g in zip(params, row, strict=True)] for row in gradients(params, steps, seed)]
    for t, row in enumerate(rows):
        row[t % 3] = None
    return rows


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


# ---- what is refused


def change(path, value):
    """Return a function that writes ``value`` at ``path`` of a snapshot; ``del`` takes the entry away."""

    def apply(snapshot):
        *where, last = path
        for key in where:
            snapshot = snapshot[key]
        if value is del_:
            del snapshot[last]
        else:
            snapshot[last] = value

    return apply


del_ = object()
BAD = [
    (("rule",), "ftrl", "'ftrl'"),
    (("version",), 2, "a newer pyopt"),
    (("version",), 0, "version of the state_dict is 0"),
    (("version",), "1", "'1'"),
    (("optimizer",), 1, "unknown keys ['optimizer']"),
    (("version",), del_, "version"),
    (("rule",), del_, "rule"),
    (("state",), del_, "state"),
    (("param_groups",), del_, "param_groups"),
    (("state",), [], "state"),
    (("state", 4), del_, "state"),
    (("state", 5), {"step": 0, "carry": 0.0}, "state"),
    (("state", 0, "step"), del_, "step"),
    (("state", 0, "carry"), del_, "carry"),
    (("state", 0, "step"), -1, "-1"),
    (("state", 3, "step"), 1.5, "1.5"),
    (("state", 3, "step"), "1", "'1'"),
    (("state", 3, "step"), None, "None"),
    (("state", 3, "step"), True, "True"),
    (("state", 3, "step"), 2**62, str(2**62)),
    (("state", 3, "step"), 2**70, str(2**70)),
    (("state", 3), None, "params[3] in the state_dict is None"),
    (("state", 3), 1.0, "params[3] in the state_dict is 1.0"),
    (("state", 3, "carry"), "x", "x"),
    (("state", 3, "carry"), None, ""),
    (("state", 3, "carry"), float("nan"), "nan"),
    (("state", 0, "momenta"), np.zeros(130), "momenta"),
    (("param_groups",), None, "param_groups"),
    (("param_groups",), 2, "param_groups"),
    (("param_groups", 1), None, "group 1"),
    (("param_groups", 1), [1], "group 1"),
    (("param_groups", 1), del_, "1 parameter group"),
    (("param_groups", 0, "param_names"), None, "None"),
    (("param_groups", 0, "param_names"), 5, "5"),
    (("param_groups", 0, "param_names"), ("b", "w"), "'b', 'w'"),
    (("param_groups", 0, "param_names"), ("w",), "'w'"),
    (("param_groups", 0, "param_names"), del_, "param_names"),
    (("param_groups", 0, "lr"), -1.0, "lr=-1.0"),
    (("param_groups", 1, "lr"), float("nan"), "lr=nan"),
    (("param_groups", 1, "penalty"), "l1", "'l1'"),
    (("param_groups", 1, "speed"), 1.0, "speed"),
]


@pytest.mark.parametrize(("path", "value", "word"), BAD, ids=lambda x: str(x)[:30] if isinstance(x, tuple) else "")
@pytest.mark.any_rule
def test_wrong_snapshot(rule, path, value, word):
    opt, params = setup(rule, np.float64)
    for row in draw(params, 2):
        opt.step(row)
    groups = [dict(group) for group in opt.param_groups]
    snapshot = opt.state_dict()
    opt.step(draw(params, 1)[0])
    change(path, value)(snapshot)
    with refused(TypeError if path[-1] == "penalty" else ValueError, word, opt=opt, arrays=params):
        opt.load_state_dict(snapshot)
    assert [dict(group) for group in opt.param_groups] == groups


@pytest.mark.parametrize(
    "wrong", ["shape", "dtype", "order of axes", "missing", "None", "masked", "list", "transposed"]
)
@pytest.mark.any_rule
def test_wrong_state_array(rule, wrong):
    opt, params = setup(rule, np.float64)
    opt.step(draw(params, 1)[0])
    snapshot = opt.state_dict()
    names = [key for key in snapshot["state"][0] if key not in ("step", "carry")]
    for name in names:
        broken = copy.deepcopy(snapshot)
        have = broken["state"][0][name]
        new = {
            "shape": have[:-1],
            "dtype": have.astype(np.float32),
            "order of axes": have.reshape(13, 10),
            "missing": del_,
            "None": None,
            "masked": np.ma.masked_array(have),
            "list": have.tolist(),
            "transposed": have[None],
        }[wrong]
        change(("state", 0, name), new)(broken)
        with refused((ValueError, TypeError), name, "w", opt=opt, arrays=params):
            opt.load_state_dict(broken)
    assert names or not [state for state in rule.states if state.when is None]


@pytest.mark.parametrize("nothing", [None, [], 3, {}, "state"], ids=str)
@pytest.mark.any_rule
def test_no_snapshot(rule, nothing):
    opt, params = setup(rule, np.float64)
    with refused((ValueError, TypeError), opt=opt, arrays=params):
        opt.load_state_dict(nothing)


@pytest.mark.any_rule
def test_snapshot_of_another_rule(rule):
    opt, params = setup(rule, np.float64)
    for name, cls in OPTIMIZERS.items():
        if name != rule.name:
            with refused(ValueError, repr(name), repr(rule.name), opt=opt, arrays=params):
                opt.load_state_dict(cls(params).state_dict())


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
