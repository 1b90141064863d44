"""The estimators: what they compute, and in which dtypes, weights and bits."""

import numpy as np
import pytest

import pyopt

pytest.importorskip("sklearn")

from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge

from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor, _losses, _trainer
from pyopt.kernels.losses import LOSSES
from pyopt.optim import OPTIMIZERS
from support.trained import ALL, LINEAR, NETWORKS, bits, csr, data, made, objective, standard

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# ---- the optimum is that of scikit-learn's solvers


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
    with pyopt.kernels.cpu.isa.use("baseline" if "baseline" in pyopt.kernels.cpu.isa.available() else "neon"):
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


# ---- what one more rule or loss needs


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_the_rate_of_every_rule_is_good(rule):
    """Where this fails for a new rule, it needs a rate of its own in _rates.py."""
    given = {"rule": rule, "hypers": {"weight_decay": 0.0}, "random_state": 0, "tol": None}
    x, y = load_diabetes(return_X_y=True)
    assert LinearRegressor(max_iter=200, **given).fit(x, y).score(x, y) > 0.45
    x, y = (a[:600] for a in load_digits(return_X_y=True))
    assert MLPClassifier((16,), batch_size=20, max_iter=20, **given).fit(x / 16, y).score(x / 16, y) > 0.8


def test_every_loss_is_offered():
    offered = {
        _losses.Loss(name, n, None).function for name in _losses.REGRESSION + _losses.CLASSIFICATION for n in (1, 2)
    }
    assert offered == set(LOSSES), "REGRESSION and CLASSIFICATION of estimators/_losses.py"
