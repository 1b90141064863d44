"""Snapshots that an optimizer refuses: what is wrong is named, and nothing has changed."""

import copy

import numpy as np
import pytest

from support.helpers import OPTIMIZERS, refused
from support.two_groups import draw, setup


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
