"""The estimators: what they compute, what they promise, and what they refuse."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import pyopt

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge  # noqa: E402

from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor, _docs, _losses, _trainer  # noqa: E402  # noqa: E402

ALL = (LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor)
LINEAR = (LinearClassifier, LinearRegressor)
NETWORKS = (MLPClassifier, MLPRegressor)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(cls, rows=150, dtype=np.float64, classes=3):
    """Return features and targets that fit the estimator."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 8)).astype(dtype)
    z = x[:, :3] @ rng.normal(size=(3, classes)) + rng.normal(size=(rows, classes))
    if cls in (LinearRegressor, MLPRegressor):
        return x, (z[:, 0] * 3 + 7).astype(dtype)
    return x, np.array(["a", "b", "c", "d"])[z.argmax(axis=1)]


def made(cls, **parameters):
    """Return an estimator that is quick, unless told otherwise."""
    small = {"hidden_layer_sizes": (9, 7)} if cls in NETWORKS else {}
    return cls(**{"max_iter": 6, "batch_size": 32, "random_state": 0, **small, **parameters})


def bits(estimator):
    """Return all that was learned, as bytes."""
    if hasattr(estimator, "coefs_"):
        return [a.tobytes() for a in (*estimator.coefs_, *estimator.intercepts_)]
    return [estimator.coef_.tobytes(), np.asarray(estimator.intercept_).tobytes()]


def csr(x):
    sparse = pytest.importorskip("scipy.sparse")
    return sparse.csr_matrix(x)


def objective(estimator, x, y, pull):
    d = y - x @ estimator.coef_ - estimator.intercept_
    return (d * d).mean() / 2 + pull(estimator.coef_)


# ---- the optimum is that of scikit-learn's solvers


def standard(dtype=np.float64):
    x, y = load_diabetes(return_X_y=True)
    x, y = x / x.std(axis=0), y / y.std()
    return np.ascontiguousarray(x, dtype), y.astype(dtype)


EXACT = {"rule": "sgd", "lr": 0.2, "batch_size": "full", "max_iter": 4000, "tol": None}


def test_least_squares():
    x, y = standard()
    ours, theirs = LinearRegressor(**EXACT).fit(x, y), LinearRegression().fit(x, y)
    assert objective(ours, x, y, lambda w: 0) == pytest.approx(objective(theirs, x, y, lambda w: 0), rel=1e-5)
    assert ours.predict(x) == pytest.approx(theirs.predict(x), abs=0.05)


@pytest.mark.parametrize("sparse", [False, True])
def test_lasso(sparse):
    x, y = standard()
    alpha = 0.05
    ours = LinearRegressor(prox=pyopt.L1(alpha), **EXACT).fit(csr(x) if sparse else x, y)
    theirs = Lasso(alpha, tol=1e-10).fit(x, y)
    pull = lambda w: alpha * np.abs(w).sum()  # noqa: E731
    assert objective(ours, x, y, pull) == pytest.approx(objective(theirs, x, y, pull), rel=1e-9)
    assert np.array_equal(ours.coef_ == 0, theirs.coef_ == 0)
    assert 0 < (ours.coef_ == 0).sum() < 10
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("sparse", [False, True])
def test_a_prox_makes_zeros_under_any_rule(cls, sparse):
    if sparse and cls in NETWORKS:
        pytest.skip("networks take dense arrays")
    x, y = data(cls)
    pull = pyopt.L1(0.4 if cls in (LinearRegressor, MLPRegressor) else 0.05)
    estimator = made(cls, rule="adam", prox=pull, max_iter=200).fit(csr(x) if sparse else x, y)
    weights = estimator.coefs_[0] if cls in NETWORKS else estimator.coef_
    plain = made(cls, rule="adam", penalty=pull, max_iter=200).fit(csr(x) if sparse else x, y)
    others = plain.coefs_[0] if cls in NETWORKS else plain.coef_
    assert (weights == 0).sum() >= 2
    assert not (others == 0).any()
    value = pull.value([np.ascontiguousarray(w) for w in getattr(estimator, "coefs_", [weights])])
    assert estimator._pull() == pytest.approx(value)


def test_projections_are_kept():
    x, y = data(LinearRegressor)
    for rule in ("sgd", "adam"):
        estimator = made(LinearRegressor, rule=rule, prox=pyopt.NonNegative(), max_iter=50).fit(x, y)
        assert (estimator.coef_ >= 0).all()
        assert (estimator.coef_ == 0).any()


def test_ridge_leaves_the_intercept_alone():
    x, y = standard()
    y = y + 50
    ours = LinearRegressor(penalty=pyopt.L2(0.15), **EXACT).fit(x, y)
    theirs = Ridge(0.3 * len(x), tol=1e-10).fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-8)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, rel=1e-6)
    decayed = LinearRegressor(hypers={"weight_decay": 0.3}, **EXACT).fit(x, y)
    np.testing.assert_allclose(decayed.coef_, theirs.coef_, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("cls", [LinearRegressor, MLPRegressor])
@pytest.mark.parametrize("pull", ["penalty", "prox", "weight_decay"])
@pytest.mark.parametrize("rule", ["adamw", "momentum"])
def test_nothing_pulls_at_intercepts(cls, rule, pull):
    x, y = data(cls)
    y = y + 100
    parameters = {"hypers": {"weight_decay": 3.0}} if pull == "weight_decay" else {pull: pyopt.L2(3.0)}
    estimator = made(cls, rule=rule, max_iter=200, **parameters).fit(x, y)
    assert estimator.predict(x) == pytest.approx(y, abs=0.3 * 100)
    plain = made(cls, rule=rule, max_iter=200).fit(x, y)
    sizes = [sum(float(np.square(w).sum()) for w in (e.coefs_ if cls in NETWORKS else [e.coef_]))
             for e in (estimator, plain)]  # fmt: skip
    assert sizes[0] < 0.9 * sizes[1]


def test_elastic_net():
    x, y = standard()
    ours = LinearRegressor(prox=pyopt.L1(0.05), penalty=pyopt.L2(0.1), **EXACT).fit(x, y)
    theirs = ElasticNet(alpha=0.25, l1_ratio=0.2, tol=1e-10).fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_logistic_regression(classes, rule):
    x, y = data(LinearClassifier, 300, classes=classes)
    rate = {"sgd": 1.0, "adam": 0.02}[rule]
    ours = LinearClassifier(rule, lr=rate, penalty=pyopt.L2(0.5 / 300), batch_size="full", max_iter=3000, tol=None)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, y)
    ours.fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-5)
    assert ours.coef_.shape == theirs.coef_.shape


def test_several_targets_are_each_their_own():
    x, y = standard()
    both = np.stack([y, 3 - 2 * y + x[:, 0]], axis=1)
    for parameters in (EXACT, {**EXACT, "hypers": {"momentum": 0.0, "nesterov": False}}):  # in one call, step by step
        ours = LinearRegressor(**parameters).fit(x, both)
        assert ours.coef_.shape == (2, 10)
        for i in range(2):
            alone = LinearRegressor(**parameters).fit(x, both[:, i])
            np.testing.assert_allclose(ours.coef_[i], alone.coef_, rtol=1e-9)
            np.testing.assert_allclose(ours.predict(x)[:, i], alone.predict(x), rtol=1e-9)


# ---- one call or many, dense or sparse: the same path


@pytest.mark.parametrize("cls", LINEAR)
@pytest.mark.parametrize("batch", [1, 7, "full"])
def test_an_epoch_in_one_call_is_as_step_by_step(cls, batch):
    x, y = data(cls, classes=2)
    parameters = {"rule": "sgd", "lr": 0.01, "batch_size": batch, "penalty": [pyopt.L2(0.1), pyopt.L1(0.05)]}
    weight = np.random.default_rng(1).integers(0, 3, len(x))
    fast = made(cls, **parameters).fit(x, y, weight)
    slow = made(cls, **parameters, hypers={"nesterov": False}).fit(x, y, weight)
    assert fast._fast(False)
    assert not slow._fast(False)
    np.testing.assert_allclose(fast.coef_, slow.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fast.intercept_, slow.intercept_, rtol=1e-9)
    np.testing.assert_allclose(fast.history_["loss"], slow.history_["loss"], rtol=1e-9)


@pytest.mark.parametrize("cls", LINEAR)
@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_sparse_is_dense(cls, rule):
    x, y = data(cls)
    x[np.random.default_rng(1).uniform(size=x.shape) < 0.6] = 0
    dense, sparse = (made(cls, rule=rule, penalty=pyopt.L2(0.01)).fit(given, y) for given in (x, csr(x)))
    np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(sparse.predict(csr(x)) == dense.predict(x), True) if cls is LinearClassifier else (
        np.testing.assert_allclose(sparse.predict(csr(x)), dense.predict(x), rtol=1e-9)
    )


@pytest.mark.parametrize("cls", ALL)
def test_rules_train(cls, rule):
    x, y = data(cls)
    estimator = made(cls, rule=rule.name, max_iter=40).fit(x, y)
    assert estimator.history_["loss"][-1] < 0.99 * estimator.history_["loss"][0]
    assert estimator.score(x, y) > (0.4 if cls in (LinearClassifier, MLPClassifier) else 0.05)


@pytest.mark.parametrize(
    ("cls", "loss", "options"),
    [
        *((cls, loss, {"delta": 2.0} if loss == "huber" else None) for cls in (LinearRegressor, MLPRegressor)
          for loss in _losses.REGRESSION),
        *((cls, loss, {"gamma": 1.0} if loss == "focal" else None) for cls in (LinearClassifier, MLPClassifier)
          for loss in _losses.CLASSIFICATION),
        (LinearClassifier, "log_loss", {"label_smoothing": 0.2}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("classes", [2, 3])
def test_losses_train(cls, loss, options, classes):
    if options == {"label_smoothing": 0.2} and classes == 2:
        pytest.skip("binary cross-entropy has no smoothing")
    x, y = data(cls, 300, classes=classes)
    if cls in (LinearRegressor, MLPRegressor):
        y = np.abs(y) if loss == "poisson" else y
    estimator = made(cls, loss=loss, loss_options=options, max_iter=150).fit(x, y)
    plain = made(cls, loss=loss, max_iter=150).fit(x, y)
    assert estimator.score(x, y) > (0.6 if cls in (LinearClassifier, MLPClassifier) else 0.4)
    assert (bits(estimator) == bits(plain)) == (options is None)
    assert hasattr(estimator, "predict_proba") == (loss == "log_loss")


# ---- bits


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_a_seed_gives_the_same_bits(cls, rule, isa):
    x, y = data(cls, classes=2)
    more = {"dropout": 0.3, "batch_norm": True} if cls in NETWORKS else {}
    found = []
    for threads in (1, 2):
        pyopt.set_num_threads(threads)
        found.append(bits(made(cls, rule=rule, **more).fit(x, y)))
    with pyopt.kernels.isa.use("baseline" if "baseline" in pyopt.kernels.isa.available() else "neon"):
        found.append(bits(made(cls, rule=rule, **more).fit(x, y)))
    assert found[0] == found[1] == found[2]
    assert bits(made(cls, rule=rule, random_state=1, **more).fit(x, y)) != found[0]


@pytest.mark.parametrize("cls", ALL)
def test_dtypes_stay(cls, dtype):
    x, y = data(cls, dtype=dtype)
    estimator = made(cls).fit(x, y)
    coefs = estimator.coefs_ if cls in NETWORKS else [estimator.coef_]
    assert {a.dtype for a in coefs} == {np.dtype(dtype)}
    result = estimator.predict(x) if cls in (LinearRegressor, MLPRegressor) else estimator.predict_proba(x)
    assert result.dtype == dtype


@pytest.mark.parametrize("cls", ALL)
def test_features_are_not_copied(cls, dtype, monkeypatch):
    x, y = data(cls, 400, dtype)
    seen, epoch = [], _trainer.Trainer._epochs

    def spy(self, X, *rest):
        seen.append(np.may_share_memory(X, x))
        epoch(self, X, *rest)

    monkeypatch.setattr(_trainer.Trainer, "_epochs", spy)
    made(cls).fit(x, y)
    made(cls, early_stopping=True).fit(x, y)
    assert seen == [True, True]


# ---- weights


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_integer_weights_are_copies(cls, rule):
    x, y = data(cls, 60)
    weight = np.random.default_rng(0).integers(0, 4, 60)
    parameters = {"rule": rule, "batch_size": "auto"}
    weighted = made(cls, **parameters).fit(x, y, sample_weight=weight)
    copied = made(cls, **parameters).fit(x.repeat(weight, axis=0), y.repeat(weight))
    function = "predict" if cls in (LinearRegressor, MLPRegressor) else "decision_function"
    np.testing.assert_allclose(getattr(weighted, function)(x), getattr(copied, function)(x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("cls", LINEAR)
def test_weights_count_in_batches_of_one(cls):
    x, y = data(cls, 60, classes=2)
    weight = np.where(np.arange(60) < 30, 5.0, 0.1)
    plain, weighted = (made(cls, rule="sgd", batch_size=1).fit(x, y, w) for w in (None, weight))
    assert not np.allclose(plain.coef_, weighted.coef_)


def test_class_weight_is_sample_weight():
    x, y = data(LinearClassifier)
    by_class = {"a": 2.0, "b": 0.5, "c": 1.0}
    for cls in (LinearClassifier, MLPClassifier):
        one = made(cls, class_weight=by_class).fit(x, y)
        other = made(cls).fit(x, y, sample_weight=[by_class[label] for label in y])
        assert bits(one) == bits(other)
        assert bits(made(cls, class_weight="balanced").fit(x, y)) != bits(made(cls).fit(x, y))


# ---- going on


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


def test_digits():
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    x, y = load_digits(return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert cross_val_score(LinearClassifier(max_iter=100, random_state=0), x, y, cv=folds).mean() >= 0.955
    network = MLPClassifier((128,), rule="adamw", lr=0.01, batch_size=64, batch_norm=True, dropout=0.2, max_iter=30,
                            tol=None, random_state=0, schedule=lambda lr, n: lambda t: lr * (1 - t / n))  # fmt: skip
    assert cross_val_score(network, np.float32(x), y, cv=folds).mean() >= 0.975


# ---- what is refused


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, ("rule='adamm'", "adam, adamw"), {"rule": "adamm"}),
        (ValueError, ("lr=-1",), {"lr": -1}),
        (ValueError, ("loss='l3'",), {"loss": "l3"}),
        (TypeError, ("loss_options=3", "dict"), {"loss_options": 3}),
        (TypeError, ("schedule=1", "function"), {"schedule": 1}),
        (ValueError, ("only one of them",), {"schedule": lambda lr, n: None, "lr": lambda t: 0.1}),
        (TypeError, ("hypers=3", "dict"), {"hypers": 3}),
        (ValueError, ("['lr'] in hypers",), {"hypers": {"lr": 1}}),
        (TypeError, ("max_iter=1.5", "integer"), {"max_iter": 1.5}),
        (ValueError, ("max_iter=0", ">= 1"), {"max_iter": 0}),
        (ValueError, ("tol=-1", ">= 0"), {"tol": -1}),
        (TypeError, ("batch_size='some'", '"auto" or "full"'), {"batch_size": "some"}),
        (ValueError, ("batch_size=0",), {"batch_size": 0}),
        (ValueError, ("validation_fraction=1",), {"validation_fraction": 1.0}),
        (ValueError, ("n_iter_no_change=0",), {"n_iter_no_change": 0}),
        (TypeError, ("early_stopping=1", "True or False"), {"early_stopping": 1}),
        (TypeError, ("penalty=3",), {"penalty": 3}),
    ],
)
def test_bad_parameters(cls, error, words, change):
    x, y = data(cls)
    with pytest.raises(error) as caught:
        made(cls, **change).fit(x, y)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (("hidden_layer_sizes=(3, 0)",), {"hidden_layer_sizes": (3, 0)}),
        (("activation='tanh'", "relu, gelu"), {"activation": "tanh"}),
        (("batch_norm=1",), {"batch_norm": 1}),
        (("dropout=1.0", "[0, 1)"), {"dropout": 1.0}),
        (("augment=3",), {"augment": 3}),
    ],
)
def test_bad_parameters_of_networks(words, change):
    x, y = data(MLPClassifier)
    with pytest.raises((ValueError, TypeError)) as caught:
        made(MLPClassifier, **change).fit(x, y)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("cls", ALL)
def test_bad_data(cls):
    x, y = data(cls)
    with pytest.raises(ValueError, match=r"all sample weights are zero|\bzero\b"):
        made(cls).fit(x, y, sample_weight=np.zeros(len(x)))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        made(cls).fit(x, y, sample_weight=-np.ones(len(x)))
    with pytest.raises(ValueError, match="smaller learning rate"):
        made(cls, rule="sgd", lr=1e300, max_iter=50).fit(x * 1e100, y)
    with pytest.raises(ValueError, match="early_stopping"):
        made(cls, early_stopping=True).partial_fit(x, y)


def test_poisson_wants_counts():
    x, y = data(LinearRegressor)
    with pytest.raises(ValueError, match="counts"):
        made(LinearRegressor, loss="poisson").fit(x, y - 100)


# ---- documentation and imports


@pytest.mark.parametrize("cls", ALL)
def test_documentation(cls):
    for name in clone(cls()).get_params():
        assert f"\n{name} : " in cls.__doc__
    assert all(f'"{loss}"' in cls.__doc__ for loss in cls.losses)
    assert cls.__doc__.count("\nAttributes\n---") == cls.__doc__.count("\nParameters\n---") == 1
    assert set(_docs.PARAMETERS) >= set(cls().get_params())
    assert set(_trainer.MAKING) <= set(cls().get_params())


def test_import_is_lazy_and_says_what_is_missing():
    text = "import sys, pyopt; assert 'sklearn' not in sys.modules; print(pyopt.estimators.LinearClassifier.__name__)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout == "LinearClassifier\n", done.stderr
    text = "import sys; sys.modules['sklearn'] = None; import pyopt; pyopt.estimators"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert "ImportError: pyopt.estimators needs scikit-learn" in done.stderr
    assert "pip install 'pyopt-kernels[demo]'" in done.stderr


def test_breast_cancer_by_the_defaults():
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    assert LinearClassifier(random_state=0).fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.95
    assert MLPClassifier(random_state=0).fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.95
