"""The reference and the kernels against torch.optim in float64, over random hyper-parameters and flags."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyopt.kernels.rules import RULES
from support.helpers import OPTIMIZERS

TORCH_HAS = ("sgd", "adagrad", "rmsprop", "adam", "adamw")
STEPS = 12
SHARE = st.floats(0.0, 0.999)
AMOUNT = st.one_of(st.just(0.0), st.floats(1e-3, 1.0))


CHANGES = [
    ("sgd", {3: {"momentum": 0.9, "dampening": 0.25}, 6: {"lr": 0.3, "weight_decay": 0.1}, 9: {"momentum": 0.0}}),
    (
        "sgd",
        {2: {"momentum": 0.9}, 4: {"nesterov": True}, 6: {"maximize": True}, 8: {"nesterov": False, "dampening": 0.5}},
    ),
    ("sgd", {0: {"momentum": 0.9, "dampening": 0.5}, 3: {"momentum": 0.0}, 6: {"momentum": 0.5}}),
    ("rmsprop", {0: {"centered": True, "momentum": 0.5}, 4: {"centered": False}, 7: {"momentum": 0.0, "alpha": 0.5}}),
    (
        "adam",
        {0: {"amsgrad": True, "weight_decay": 0.1}, 4: {"amsgrad": False, "betas": (0.5, 0.6)}, 8: {"amsgrad": True}},
    ),
    ("adamw", {0: {"amsgrad": True}, 4: {"amsgrad": False, "weight_decay": 0.0}, 8: {"lr": 0.01, "eps": 0.1}}),
    ("adagrad", {3: {"lr_decay": 0.5}, 6: {"lr_decay": 0.0, "weight_decay": 0.3}, 8: {"lr": 1.0}}),
]


def value(hyper):
    """Return a strategy for one hyper-parameter, over its whole range."""
    if isinstance(hyper.default, bool):
        return st.booleans()
    if isinstance(hyper.default, tuple):
        return st.tuples(SHARE, SHARE)
    if hyper.high < np.inf or hyper.name in ("momentum", "dampening"):
        return st.one_of(st.just(0.0), SHARE)
    return st.floats(1e-10, 1e-2) if hyper.name == "eps" else AMOUNT


def in_torch(rule):
    """Return the hyper-parameters that torch has, too."""
    return [*rule.hypers, rule.hyper("maximize")]


def hypers(rule):
    """Return a strategy for all hyper-parameters of a rule, the flags included."""
    every = st.fixed_dictionaries({hyper.name: value(hyper) for hyper in in_torch(rule)})
    # a centered v - m^2 cancels to 0 where alpha is 0: there torch's last bit decides between inf, nan and a number
    return every.filter(
        lambda values: (
            rule.check(rule.Values(**values)) is None and not (values.get("centered") and values["alpha"] < 0.1)
        )
    )


def both(torch, rule, values, starts, grads):
    """Return the weights after the steps, ours and torch's, as flat vectors."""
    ours = [start.copy() for start in starts]
    theirs = [torch.tensor(start, requires_grad=True) for start in starts]
    mine = OPTIMIZERS[rule.name](ours, **values)
    other = getattr(torch.optim, OPTIMIZERS[rule.name].__name__)(theirs, foreach=False, **values)
    for row in grads:
        mine.step(row)
        for p, g in zip(theirs, row, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        other.step()
    return np.concatenate([p.ravel() for p in ours]), np.concatenate([p.detach().numpy().ravel() for p in theirs])


def draw(seed, skip=False):
    """Return weights and gradients of two tensors; with ``skip`` the second one sits out some steps."""
    rng = np.random.default_rng(seed)
    starts = [rng.normal(size=(5, 3)), rng.normal(size=4)]
    grads = [[rng.normal(size=p.shape) for p in starts] for _ in range(STEPS)]
    if skip:
        for row in grads[1::3]:
            row[1] = None
    return starts, grads


@pytest.mark.parametrize("name", TORCH_HAS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_same_path_as_torch(torch, name, data):
    rule = RULES[name]
    values = data.draw(hypers(rule), label="hyper-parameters")
    ours, theirs = both(torch, rule, values, *draw(data.draw(st.integers(0, 9)), skip=data.draw(st.booleans())))
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11 * np.abs(theirs).max())


def test_every_rule_that_torch_has_is_compared(torch):
    assert {name for name, kind in OPTIMIZERS.items() if hasattr(torch.optim, kind.__name__)} == set(TORCH_HAS)


@pytest.mark.parametrize("name", TORCH_HAS)
def test_defaults_are_those_of_torch(torch, name):
    import inspect

    theirs = inspect.signature(getattr(torch.optim, OPTIMIZERS[name].__name__)).parameters
    for hyper in in_torch(RULES[name]):
        assert hyper.default == theirs[hyper.name].default, hyper.name
    shared = [hyper for hyper in theirs if hyper in {h.name for h in RULES[name].hypers}]
    assert shared == [h.name for h in RULES[name].hypers], "the order of positional arguments"


@pytest.mark.parametrize("name", TORCH_HAS)
def test_default_path(torch, name):
    np.testing.assert_allclose(*both(torch, RULES[name], {}, *draw(0)), rtol=1e-13)


@pytest.mark.parametrize(("name", "changes"), CHANGES, ids=[name for name, _ in CHANGES])
def test_hyper_parameters_changed_between_steps(torch, name, changes):
    """States that are switched on later start then, undampened; those switched off are kept, and not used."""
    starts, grads = draw(1)
    ours, theirs = [p.copy() for p in starts], [torch.tensor(p, requires_grad=True) for p in starts]
    mine = OPTIMIZERS[name](ours, lr=0.1)
    other = getattr(torch.optim, OPTIMIZERS[name].__name__)(theirs, lr=0.1, foreach=False)
    for t, row in enumerate(grads):
        for opt in (mine, other):
            opt.param_groups[0].update(changes.get(t, {}))
        mine.step(row)
        for p, g in zip(theirs, row, strict=True):
            p.grad = torch.tensor(g)
        other.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-12, err_msg=f"step {t}")


@pytest.mark.parametrize("name", TORCH_HAS)
def test_single_precision_stays_within_rounding(torch, name):
    """In float32 the last bits differ; each step may add a few units in the last place."""
    starts, grads = draw(3)
    starts = [p.astype(np.float32) for p in starts]
    grads = [[g.astype(np.float32) for g in row] for row in grads]
    ours, theirs = both(torch, RULES[name], {"lr": 0.01, "weight_decay": 0.1}, starts, grads)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=STEPS * 4 * 2.0**-23 * np.abs(theirs).max())
