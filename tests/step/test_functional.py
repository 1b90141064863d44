"""The functional form: the optimizers' bits on lists that the caller owns, and torch's order of arguments."""

import importlib
import inspect

import numpy as np
import pytest

import pyopt
from pyopt import functional
from pyopt.kernels.rules import RULES
from support.helpers import GRADIENTS, everything, gradients, make, refused, same, some_penalty, tame, variants, wild

ABSENT = {"betas", "ema_decay", "ema_bias_correction"}


def options(rule, hypers):
    """Return the hyper-parameters by the names of the functional form: betas as beta1 and beta2, no states."""
    starts = {state.start for state in rule.states}
    values = {name: value for name, value in hypers.items() if name not in ABSENT | starts}
    return values | ({"beta1": hypers["betas"][0], "beta2": hypers["betas"][1]} if "betas" in hypers else {})


def columns(rule, params, hypers):
    """Return the lists of states at their start."""
    first = [hypers[state.start] if isinstance(state.start, str) else state.start for state in rule.states]
    return [[np.full_like(p, start) for p in params] for start in first]


def call(rule, params, grads, states, steps, **kwargs):
    getattr(functional, rule.name)(params, grads, *states, steps, **kwargs)


def test_has_every_rule():
    assert set(RULES) <= set(vars(functional))


def test_same_bits_as_the_optimizer(rule, dtype):
    for hypers in variants(rule):
        params = [wild(n, dtype, n) for n in (130, 1, 0, 1024)]
        theirs = [p.copy() for p in params]
        states, steps = columns(rule, params, hypers), [np.zeros((), dtype) for _ in params]
        opt = make(rule, theirs, **hypers)
        for t, row in enumerate(gradients(params, 4)):
            row[t % 4] = None
            call(rule, params, row, states, steps, **options(rule, hypers))
            opt.step(row)
        assert [int(step) for step in steps] == [state["step"] for state in opt.state] == [3, 3, 3, 3]
        same(dict(enumerate(params)), dict(enumerate(theirs)), f"{hypers}")
        for state, column in zip(rule.states, states, strict=True):
            for i, array in enumerate(column):
                if state.name in opt.state[i]:
                    same({state.name: array}, {state.name: opt.state[i][state.name]}, f"{hypers}")


@pytest.mark.any_rule
def test_stages(rule, dtype):
    hypers, penalty = everything(rule), [some_penalty(kind) for kind in GRADIENTS.values()]
    params, theirs = [wild(300, dtype)], [wild(300, dtype)]
    opt = make(rule, theirs, penalty=penalty, **hypers)
    states, steps = columns(rule, params, hypers), np.zeros(1)
    for row in gradients(params, 2):
        opt.step([row[0].copy()], grad_scale=3.0)
        call(
            rule, params, row, states, steps, penalty=penalty, grad_scale=3.0, zero_grads=True, **options(rule, hypers)
        )
        assert not row[0].any()
    same({"p": params[0]}, {"p": theirs[0]})
    assert steps.tolist() == [2.0]


def test_states_that_are_off_are_not_looked_at():
    p = np.ones(3)
    functional.adam([p], [np.ones(3)], [np.zeros(3)], [np.zeros(3)], [], [np.zeros(1)], lr=0.5)
    functional.sgd([p], [np.ones(3)], None, [np.zeros(1)], lr=0.5)
    np.testing.assert_allclose(p, 0.0, atol=1e-7)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adam", "adamw"])
def test_order_of_arguments_is_that_of_torch(name, torch):
    """Lists come by position, in torch's order; sgd, which counts no steps there, has state_steps last as well."""
    theirs = inspect.signature(getattr(importlib.import_module(f"torch.optim.{name}"), name)).parameters
    ours = inspect.signature(getattr(functional, name)).parameters
    lists = [key for key, value in ours.items() if value.kind != value.KEYWORD_ONLY]
    torch_lists = [
        key for key, value in theirs.items() if value.default is value.empty and value.kind != value.KEYWORD_ONLY
    ]
    # torch says d_p_list, momentum_buffer_list and state_sums for grads, momentum_buffers and sums
    alike = {"d_p_list": "grads", "momentum_buffer_list": "momentum_buffers", "state_sums": "sums"}
    assert lists == [alike.get(key, key) for key in torch_lists] + ["state_steps"] * ("state_steps" not in torch_lists)
    keywords = {key for key, value in theirs.items() if value.kind == value.KEYWORD_ONLY}
    assert keywords - set(ours) <= {"has_complex", "capturable", "differentiable", "found_inf", "foreach", "fused"}


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_against_torch(amsgrad, torch):
    from torch.optim.adam import adam

    arrays = [[tame(7, np.float64, i) for i in range(2)] for _ in range(2)]
    states = [[[np.zeros(7) for _ in range(2)] for _ in range(3)] for _ in range(2)]
    steps = [np.zeros(()), np.zeros(())]
    tensors = [[torch.from_numpy(a) for a in row] for row in (arrays[1], *states[1])]
    counts = [torch.zeros(()), torch.zeros(())]
    given = {
        "lr": 0.1,
        "beta1": 0.8,
        "beta2": 0.7,
        "eps": 1e-3,
        "weight_decay": 0.1,
        "amsgrad": amsgrad,
        "maximize": True,
    }
    for t in range(5):
        grads = [tame(7, np.float64, 10 + 2 * t + i) for i in range(2)]
        functional.adam(arrays[0], grads, *states[0], steps, **given)
        adam(tensors[0], [torch.tensor(g) for g in grads], *tensors[1:], counts, foreach=False, **given)
    np.testing.assert_allclose(arrays[0], arrays[1], rtol=1e-12)
    np.testing.assert_allclose(states[0], states[1], rtol=1e-12, atol=1e-15)
    assert [float(x) for x in steps] == [float(x) for x in counts] == [5.0, 5.0]


BAD = [
    ({"state_steps": [np.zeros(2)]}, TypeError, ["state_steps[0]"]),
    ({"state_steps": [-1.0 * np.ones(1)]}, ValueError, ["state_steps[0]", "-1.0", "[0, 2**62)"]),
    ({"state_steps": [np.full(1, 0.5)]}, ValueError, ["state_steps[0]", "0.5"]),
    ({"state_steps": [np.full(1, np.nan)]}, ValueError, ["state_steps[0]", "nan"]),
    ({"state_steps": [np.full(1, np.inf)]}, ValueError, ["state_steps[0]", "inf", "2**62"]),
    ({"state_steps": [np.full(1, 2**63, np.uint64)]}, ValueError, ["state_steps[0]", str(2**63), "2**62"]),
    ({"state_steps": [np.full(1, 127, np.int8)]}, ValueError, ["state_steps[0]", "128", "int8"]),
    ({"state_steps": [np.full(1, 2048, np.float16)]}, ValueError, ["state_steps[0]", "2049", "float16"]),
    ({"state_steps": [np.ones(1, bool)]}, TypeError, ["state_steps[0]", "True", "array of one number"]),
    ({"state_steps": [np.full(1, 1j)]}, TypeError, ["state_steps[0]", "1.j", "array of one number"]),
    ({"state_steps": None}, TypeError, ["state_steps is NoneType", "list"]),
    ({"params": None}, TypeError, ["params is NoneType", "list"]),
    ({"params": np.ones(3)}, TypeError, ["params is ndarray", "list"]),
    ({"grads": None}, TypeError, ["grads is NoneType", "list"]),
    ({"grads": np.ones((1, 3))}, TypeError, ["grads is ndarray", "list"]),
    ({"exp_avgs": None}, TypeError, ["exp_avgs is NoneType", "list"]),
    ({"zero_grads": "no"}, TypeError, ["zero_grads='no'", "True or False"]),
    ({"state_steps": []}, ValueError, ["state_steps", "0 entries", "1 param"]),
    ({"exp_avgs": []}, ValueError, ["exp_avgs", "0 entries"]),
    ({"exp_avgs": [np.zeros(4)]}, ValueError, ["exp_avg", "(4,)", "(3,)"]),
    ({"exp_avgs": [np.zeros(3, np.int32)]}, TypeError, ["exp_avg", "int32", "float64"]),
    ({"exp_avgs": [None]}, TypeError, ["exp_avg"]),
    ({"grads": []}, ValueError, ["0 gradients", "1 param"]),
    ({"grads": [np.zeros((3, 1))]}, ValueError, ["(3, 1)", "(3,)"]),
    ({"lr": -1.0}, ValueError, ["lr=-1.0", ">= 0"]),
    ({"beta1": 1.0}, ValueError, ["1.0", "[0, 1)"]),
    ({"grad_scale": 0.0}, ValueError, ["grad_scale=0.0"]),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD, ids=lambda x: str(x)[:40] if isinstance(x, dict) else "")
def test_errors_change_nothing(change, error, words):
    good = {"params": [np.ones(3)], "grads": [np.ones(3)], "exp_avgs": [np.ones(3)], "exp_avg_sqs": [np.ones(3)],
            "max_exp_avg_sqs": [np.ones(3)], "state_steps": [np.ones(1)]}  # fmt: skip
    with refused(error, *words, arrays=[a for column in good.values() for a in column]):
        functional.adam(**(good | change))


def test_a_state_may_not_be_the_gradient():
    p, g = np.ones(3), np.ones(3)
    with refused(ValueError, "share memory", arrays=[p, g]):
        functional.lion([p], [g], [g], [np.zeros(1)], lr=0.1)
    assert pyopt.Lion([p], lr=0.1).step([g]) is None
