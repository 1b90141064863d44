"""Tensors of PyTorch in the memory of this process, wherever arrays are taken: by view, with versions, given back."""

import inspect

import numpy as np
import pytest

import pyopt
from pyopt import functional
from support.helpers import refused, same_bits, tame


def test_losses_and_layers_give_tensors_for_tensors(torch):
    x, y, bias = tame((6, 4), np.float32, 1), tame((6, 4), np.float32, 2), tame(4, np.float32, 3)
    calls = [
        (pyopt.losses.huber, (x, y), {"reduction": "none", "sample_weight": abs(x[:, 0])}),
        (pyopt.losses.softmax_cross_entropy, (x, np.array([0, 3, 1, 1, 2, 0])), {"label_smoothing": 0.25}),
        (pyopt.layers.layer_norm, (x, bias, bias), {}),
        (pyopt.layers.bias_gelu, (x, bias), {}),
    ]
    for function, args, options in calls:
        tensors = [torch.from_numpy(a.copy()).requires_grad_(a.dtype.kind == "f") for a in args]
        got, want = function(*tensors, **options), function(*args, **options)
        got, want = (x if isinstance(x, tuple) else (x,) for x in (got, want))
        for a, b in zip(got, want, strict=True):
            assert isinstance(a, torch.Tensor) == isinstance(b, np.ndarray), function.__name__
            same_bits(np.asarray(a), b, function.__name__)


def test_every_loss_and_layer_takes_tensors():
    for module in (pyopt.losses, pyopt.layers):
        for name in module.__all__:
            function = getattr(module, name)
            assert function.__name__ == name
            assert hasattr(function, "__wrapped__")
            assert "out" in inspect.signature(function).parameters


def test_what_is_written_to_has_another_version(torch):
    x, y, out = (torch.from_numpy(tame((5, 3), np.float32, i)).bfloat16() for i in range(3))
    _, grad = pyopt.losses.squared_error(x, y, out=out)
    assert grad is out
    assert [a._version for a in (x, y, out)] == [0, 0, 1]
    mean, var = torch.zeros(3), torch.ones(3)
    pyopt.layers.batch_norm(x.float(), mean, var, training=True)
    assert mean._version == var._version == 1
    assert (mean != 0).all()
    total, g = torch.zeros(5, 3), torch.ones(5, 3)
    functional.accumulate([total], [g])
    assert (total == 1).all()
    assert (total._version, g._version) == (1, 0)


@pytest.mark.parametrize("zero", [False, True])
def test_functional_form(torch, zero):
    model = torch.nn.Linear(4, 3)
    grads = [torch.from_numpy(tame(tuple(p.shape), np.float32, i)) for i, p in enumerate(model.parameters())]
    states = [[torch.zeros_like(p) for p in model.parameters()] for _ in range(3)]
    steps = [torch.tensor(2.0), torch.tensor(5.0)]
    lists = [[p.detach().numpy().copy() for p in model.parameters()], *([a.numpy().copy() for a in x]
             for x in (grads, *states, steps))]  # fmt: skip
    options = {"lr": 0.25, "beta2": 0.5, "zero_grads": zero, "amsgrad": True}
    before = [a._version for a in model.parameters()]
    if zero:
        functional.adamw(model.parameters(), iter(grads), *states, steps, **options)
    else:
        functional.adamw(params=model.parameters(), grads=grads, exp_avgs=states[0], exp_avg_sqs=states[1],
                         max_exp_avg_sqs=states[2], state_steps=iter(steps), **options)  # fmt: skip
    functional.adamw(*lists, **options)
    for tensors, arrays in zip(([*model.parameters()], grads, *states, steps), lists, strict=True):
        for t, a in zip(tensors, arrays, strict=True):
            same_bits(t.detach().numpy(), a)
    assert [a._version for a in model.parameters()] == [version + 1 for version in before]
    assert [s._version for s in (*states[0], *steps)] == [1] * 4
    assert [g._version for g in grads] == [zero] * 2


def test_averages_follow_tensors(torch):
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    mean = pyopt.PolyakAverage([w])
    ensemble = pyopt.SnapshotEnsemble([w], pyopt.schedules.CosineRestarts(0.1, T_0=1))
    mean.update()
    w.data = torch.tensor([3.0, 6.0])  # other memory
    mean.update()
    ensemble.update()
    version = w._version
    with mean.swapped():
        assert w.tolist() == [2.0, 4.0]
        assert w._version > version
    assert w.tolist() == [3.0, 6.0]
    w.data = torch.zeros(2)
    with ensemble.swapped(0):
        assert w.tolist() == [3.0, 6.0]
    state = mean.state_dict()
    again = pyopt.PolyakAverage([w])
    again.load_state_dict(state)
    with again.swapped():
        assert w.tolist() == [2.0, 4.0]


def test_the_best_weights_of_tensors(torch):
    w = torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
    stopper = pyopt.EarlyStopping(patience=1, restore_best_weights=True)
    assert not stopper.update(1.0, [w])
    w.data = torch.tensor([7.0, 8.0], dtype=torch.bfloat16)
    version = w._version
    assert stopper.update(2.0, [w])
    assert w.tolist() == [1.0, 2.0]
    assert w._version > version
    w.data = torch.zeros(2, dtype=torch.bfloat16)
    stopper.restore()
    assert w.tolist() == [1.0, 2.0]


def test_a_penalty_says_what_it_takes(torch):
    w = torch.ones(3)
    for call in (pyopt.L1(0.5).value, pyopt.GroupLasso(0.5).value, pyopt.L1(0.5).grad, pyopt.NonNegative().value):
        with refused(TypeError, "Tensor", "a NumPy array is needed", "detach().numpy()"):
            call(w)
    assert pyopt.L1(0.5).value([w.numpy()]) == 1.5


def test_estimators_take_tensors(torch):
    x = torch.from_numpy(tame((40, 3), np.float32, 1))
    y, weight = x[:, 0] * 2 - x[:, 1], torch.ones(40)
    made = pyopt.estimators.LinearRegressor(random_state=0, max_iter=5, tol=None).fit(x, y, sample_weight=weight)
    want = pyopt.estimators.LinearRegressor(random_state=0, max_iter=5, tol=None)
    want.fit(x.numpy(), y.numpy(), sample_weight=weight.numpy())
    same_bits(made.coef_, want.coef_)
    same_bits(made.predict(x), want.predict(x.numpy()))
