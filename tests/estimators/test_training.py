"""The training of the estimators: going on, stopping, history, networks, accuracy on real data."""

import pickle
import re
import sys
import warnings

import numpy as np
import pytest

import pyopt

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score

from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor
from support import ROOT
from support.trained import ALL, NETWORKS, bits, data, made

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# ---- going on


@pytest.mark.parametrize("cls", [LinearRegressor, MLPRegressor])
def test_a_first_batch_of_one_target_says_nothing_of_the_scale(cls):
    """The mean of 37 times 0.3 is rounded, and the spread around it 6e-17."""
    x = np.random.default_rng(0).normal(size=(37, 2))
    model = cls(rule="adam", random_state=0).partial_fit(x, np.full(37, 0.3))
    for _ in range(300):
        model.partial_fit(x, x[:, 0] + 1)
    assert model.score(x, x[:, 0] + 1) > 0.9


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_partial_fit_is_fit_in_pieces(cls, rule):
    x, y = data(cls, classes=2)
    more = {"dropout": 0.2} if cls in NETWORKS else {}
    whole = made(cls, rule=rule, max_iter=5, **more).fit(x, y)
    pieces = made(cls, rule=rule, **more)
    for i in range(5):
        pieces.partial_fit(x, y)
        if i == 2:  # the optimizer's moments must survive
            pieces = pickle.loads(pickle.dumps(pieces))
    assert bits(pieces) == bits(whole)
    assert pieces.history_ == whole.history_
    assert (pieces.n_iter_, pieces.t_) == (whole.n_iter_, whole.t_) == (5, 25)


@pytest.mark.parametrize("cls", ALL)
def test_warm_start(cls):
    x, y = data(cls)
    whole = made(cls, max_iter=6).fit(x, y)
    warm = made(cls, max_iter=3, warm_start=True).fit(x, y)
    assert bits(warm) != bits(whole)
    assert bits(warm.fit(x, y)) == bits(whole)
    cold = made(cls, max_iter=3).fit(x, y)
    assert bits(cold) == bits(cold.fit(x, y))


@pytest.mark.parametrize("cls", ALL)
def test_parameters_may_change_on_the_way(cls):
    x, y = data(cls)
    estimator = made(cls, warm_start=True).fit(x, y)
    before = bits(estimator)
    estimator.set_params(lr=1e-30).fit(x, y)
    assert [np.allclose(np.frombuffer(a), np.frombuffer(b)) for a, b in zip(bits(estimator), before, strict=True)]
    estimator.set_params(rule="lion", lr=0.01).fit(x, y)
    assert bits(estimator) != before
    estimator.set_params(rule="sgd", lr=0.01, hypers={"nesterov": False}).fit(x, y)
    estimator.set_params(hypers={"momentum": 0.9}).fit(x, y)
    assert estimator._optimizer.state[0]["momentum_buffer"].any()


def test_partial_fit_names_the_classes_at_first():
    x, y = data(LinearClassifier)
    estimator = made(LinearClassifier).partial_fit(x[y == "a"], y[y == "a"], classes=["a", "b", "c"])
    assert estimator.coef_.shape == (3, 8)
    with pytest.raises(ValueError, match="'d'"):
        estimator.partial_fit(x[:2], ["a", "d"])


# ---- stopping, history, schedules


@pytest.mark.parametrize("cls", ALL)
def test_early_stopping_keeps_the_best_weights(cls):
    x, y = data(cls, 200)
    parameters = {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 4, "lr": 0.05}
    estimator = made(cls, max_iter=300, **parameters).fit(x, y)
    scores = estimator.history_["validation_score"]
    assert len(scores) == len(estimator.history_["loss"]) == estimator.n_iter_ < 300
    best = int(np.argmax(scores))
    short = made(cls, **parameters).set_params(max_iter=best + 1, n_iter_no_change=1000).fit(x, y)
    assert bits(short) == bits(estimator)


@pytest.mark.parametrize("cls", ALL)
def test_it_stops_where_early_stopping_says(cls):
    x, y = data(cls, 200)
    losses = made(cls, max_iter=500, tol=0.01, n_iter_no_change=3).fit(x, y).history_["loss"]
    stopper = pyopt.EarlyStopping(min_delta=0.01 * losses[0], patience=3)
    assert [stopper.update(loss) for loss in losses] == [False] * (len(losses) - 1) + [True]
    held = {"early_stopping": True, "validation_fraction": 0.5}
    scores = made(cls, max_iter=500, tol=0.02, n_iter_no_change=5, **held).fit(x, y).history_["validation_score"]
    stopper = pyopt.EarlyStopping(min_delta=0.02, patience=5, mode="max")
    assert [stopper.update(score) for score in scores] == [False] * (len(scores) - 1) + [True]


@pytest.mark.parametrize("cls", [LinearRegressor, MLPRegressor])
def test_one_sample_has_no_score(cls):
    x, y = data(cls, 10)
    with pytest.raises(ValueError, match=r"validation_fraction=0.1: holds 1 sample out"):
        made(cls, early_stopping=True, validation_fraction=0.1).fit(x, y)
    made(cls, early_stopping=True, validation_fraction=0.2).fit(x, y)


@pytest.mark.parametrize("cls", ALL)
def test_tol_stops_and_none_does_not(cls):
    x, y = data(cls)
    assert made(cls, max_iter=3000, batch_size="full", tol=0.01, n_iter_no_change=2).fit(x, y).n_iter_ < 3000
    assert made(cls, max_iter=50, tol=None, lr=1e-12).fit(x, y).n_iter_ == 50
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        made(cls, max_iter=2).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(cls, max_iter=2, tol=None).fit(x, y)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_schedules_see_every_step(cls, rule):
    x, y = data(cls, classes=2)
    asked = []

    def rate(t):
        asked.append(t)
        return 0.01 / (1 + t)

    scheduled = made(cls, rule=rule, lr=rate, max_iter=2).fit(x, y)
    assert sorted(set(asked)) == list(range(10))
    made_by = made(cls, rule=rule, lr=0.01, max_iter=2, schedule=lambda lr, steps: lambda t: lr / (1 + t)).fit(x, y)
    assert bits(made_by) == bits(scheduled) != bits(made(cls, rule=rule, lr=0.01, max_iter=2).fit(x, y))
    steps = []
    made(cls, max_iter=3, schedule=lambda lr, n: steps.append(n) or (lambda t: lr)).fit(x, y)
    assert set(steps) == {15}


def test_the_loss_of_the_history_is_the_loss():
    x, y = data(LinearRegressor)
    estimator = made(LinearRegressor, batch_size="full", max_iter=3, penalty=pyopt.L2(0.1)).fit(x, y)
    assert estimator.history_["loss"][0] == pytest.approx(y.var() / 2 + 0.1 * 8 * estimator._base["weights"] ** 2)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("rich", [True, False])
def test_verbose(cls, rich, capsys, monkeypatch):
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    else:
        pytest.importorskip("rich")
    x, y = data(cls)
    made(cls, verbose=True).fit(x, y)
    out = capsys.readouterr().out
    assert cls.__name__ in out
    assert "loss" in out
    made(cls).fit(x, y)
    assert capsys.readouterr().out == ""


# ---- networks


def test_gradients_of_a_network_are_slopes():
    for more in ({}, {"batch_norm": True}, {"activation": "gelu"}, {"dropout": 0.4}):
        x, y = data(MLPRegressor, 40)
        estimator = made(MLPRegressor, max_iter=2, batch_size="full", **more).fit(x, y)
        network, loss = estimator._model, estimator._loss
        target, weight = y[:, None].copy(), np.ones(40)

        def value(network=network, loss=loss, target=target, weight=weight, x=x):
            z, tape = network.forward(x, None, 3)
            value, dz = loss(z, target, weight)
            return value * loss.scale, tape, dz

        _, tape, dz = value()
        grads = network.backward(tape, dz)
        params = [a for arrays in network.groups.values() for a in arrays]
        assert [g.shape for g in grads] == [p.shape for p in params]
        for p, g in zip(params, grads, strict=True):
            for i in list(np.ndindex(p.shape))[:: max(1, p.size // 5)]:
                at, step = p[i], 1e-5
                ends = []
                for end in (at + step, at - step):
                    p[i] = end
                    ends.append(value()[0])
                p[i] = at
                assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(g[i], rel=2e-4, abs=1e-5), (more, i)


def test_dropout_and_augmentation_are_for_training_only():
    x, y = data(MLPClassifier)
    calls = []

    def shifted(rows, labels, *, seed, step, index):
        assert np.array_equal(rows, x[index])
        calls.append(step)
        return rows + np.float64(0.5), labels

    plain = made(MLPClassifier).fit(x, y)
    other = made(MLPClassifier, augment=shifted, max_iter=2).fit(x, y)
    assert calls == list(range(10))
    assert bits(made(MLPClassifier, dropout=0.5).fit(x, y)) != bits(plain)
    before = len(calls)
    assert np.array_equal(other.predict_proba(x), other.predict_proba(x))
    assert len(calls) == before
    dropped = made(MLPClassifier, dropout=0.5).fit(x, y)
    assert np.array_equal(dropped.predict_proba(x), dropped.predict_proba(x))


def test_images_are_augmented_and_their_targets_mixed(dtype):
    x, y = load_digits(return_X_y=True)
    x, y = (x[:300] / 16).astype(dtype), y[:300]
    augment = pyopt.augment.Images(crop_padding=1, rotate=10.0, mixup=0.2, num_classes=10)
    more = {"hidden_layer_sizes": (64,), "max_iter": 40, "lr": 0.01}
    estimator = made(MLPClassifier, augment=augment, image_shape=(1, 8, 8), **more)
    assert estimator.fit(x, y).score(x, y) > 0.9
    plain = made(MLPClassifier, **more).fit(x, y)
    assert estimator.history_["loss"][-1] > 2 * plain.history_["loss"][-1]
    assert bits(clone(estimator).fit(x, y)) == bits(estimator)
    with pytest.raises(ValueError, match=r"image_shape=.*64 features"):
        made(MLPClassifier, augment=augment, image_shape=(1, 8, 9)).fit(x, y)
    smaller = pyopt.augment.Images(size=(7, 7))
    with pytest.raises(ValueError, match="sizes must not change"):
        made(MLPClassifier, augment=smaller, image_shape=(1, 8, 8)).fit(x, y)


def test_batch_norm_takes_no_batch_of_one():
    x, y = data(MLPClassifier, 33)  # 32 and 1
    estimator = made(MLPClassifier, batch_norm=True, max_iter=2).fit(x, y)
    assert estimator.t_ == 2
    assert np.isfinite(estimator.predict_proba(x)).all()
    with pytest.raises(ValueError, match="batch_size=1"):
        made(MLPClassifier, batch_norm=True, batch_size=1).fit(x, y)


def test_a_network_without_hidden_layers_is_linear():
    x, y = data(MLPClassifier)
    estimator = made(MLPClassifier, hidden_layer_sizes=(), max_iter=400, lr=0.05).fit(x, y)
    assert [w.shape for w in estimator.coefs_] == [(8, 3)]
    assert estimator.score(x, y) > 0.6


# ---- accuracy on real data


def test_digits_as_the_guide_has_them():
    """The programs in docs/estimators.md, in order, and what they print."""
    page = ROOT / "docs" / "estimators.md"
    found = []
    known = {"print": found.append}
    for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        exec(code, known)
    linear, network, best = found
    assert linear > 0.91
    assert network > 0.93
    assert best >= 0.985


def test_a_linear_model_of_digits():
    x, y = load_digits(return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert cross_val_score(LinearClassifier(max_iter=100, random_state=0), x, y, cv=folds).mean() >= 0.955


def test_breast_cancer_by_the_defaults():
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    assert LinearClassifier(random_state=0).fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.95
    assert MLPClassifier(random_state=0).fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.95
