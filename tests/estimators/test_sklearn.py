"""The estimators inside scikit-learn: its own checks, and its tools on real data."""

import pickle

import numpy as np
import pytest

import pyopt

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ALL = (LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor)
CLASSIFIERS = (
    LinearClassifier(random_state=0),
    MLPClassifier((16,), lr=0.01, max_iter=60, random_state=0),
)


@parametrize_with_checks(
    [*(cls() for cls in ALL), LinearClassifier("sgd"), LinearRegressor("sgd"), LinearClassifier(loss="hinge")]
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def scaled(estimator):
    return make_pipeline(StandardScaler(), estimator)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_pipeline(classifier):
    x, y = load_wine(return_X_y=True)
    pipeline = scaled(clone(classifier)).fit(x[::2], y[::2])
    assert pipeline.score(x[1::2], y[1::2]) > 0.93
    assert pipeline.predict_proba(x).shape == (178, 3)


@pytest.mark.parametrize("regressor", [LinearRegressor(random_state=0), MLPRegressor((16,), max_iter=60, lr=0.01)])
def test_cross_val_score(regressor):
    x, y = load_diabetes(return_X_y=True)
    assert cross_val_score(scaled(regressor), x, y, cv=4).mean() > 0.4


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_grid_search(classifier):
    x, y = load_breast_cancer(return_X_y=True)
    name = type(classifier).__name__.lower()
    grid = {f"{name}__penalty": [None, pyopt.L2(1e-3), pyopt.L2(1.0)], f"{name}__rule": ["adam", "sgd"]}
    search = GridSearchCV(scaled(classifier), grid, cv=3).fit(x, y)
    assert search.best_score_ > 0.96
    assert search.best_params_[f"{name}__penalty"] != pyopt.L2(1.0)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_voting(classifier):
    x, y = load_iris(return_X_y=True)
    members = [("ours", scaled(classifier)), ("theirs", LogisticRegression())]
    voting = VotingClassifier(members, voting="soft").fit(x[::2], y[::2])
    assert voting.score(x[1::2], y[1::2]) > 0.9


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_bagging(classifier):
    x, y = load_digits(return_X_y=True)
    bagging = BaggingClassifier(classifier, n_estimators=3, max_features=0.8, random_state=0)
    assert bagging.fit(x[::2] / 16, y[::2]).score(x[1::2] / 16, y[1::2]) > 0.92
    assert {type(member) for member in bagging.estimators_} == {type(classifier)}


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_stacking(classifier):
    x, y = load_wine(return_X_y=True)
    members = [("ours", scaled(classifier)), ("theirs", scaled(LogisticRegression()))]
    stacking = StackingClassifier(members, LinearClassifier(random_state=0), cv=3).fit(x[::2], y[::2])
    assert stacking.score(x[1::2], y[1::2]) > 0.9


@pytest.mark.parametrize("cls", ALL)
def test_pickle_and_clone(cls):
    x, y = load_wine(return_X_y=True)
    estimator = cls(penalty=pyopt.L2(1e-4), hypers={"betas": (0.8, 0.99)}, max_iter=5, random_state=0)
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params()
    assert pickle.loads(pickle.dumps(estimator)).get_params() == estimator.get_params()
    estimator.fit(x, y)
    assert not hasattr(clone(estimator), "history_")
    again = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(again.predict(x), estimator.predict(x))
    assert np.array_equal(copied.fit(x, y).predict(x), estimator.predict(x))


@pytest.mark.parametrize("cls", ALL)
def test_metadata_routing(cls):
    import sklearn

    x, y = load_iris(return_X_y=True)
    weight = np.where(np.arange(150) % 3, 1.0, 0.0)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = cls(max_iter=20, random_state=0).set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=False)
        weighed = cross_validate(estimator, x, y, params={"sample_weight": weight}, return_estimator=True, cv=3)
    plain = cross_validate(clone(estimator), x, y, return_estimator=True, cv=3)
    assert not np.array_equal(weighed["estimator"][0].predict(x), plain["estimator"][0].predict(x)) or (
        weighed["estimator"][0].history_ != plain["estimator"][0].history_
    )


@pytest.mark.parametrize("cls", ALL)
def test_feature_names(cls):
    pandas = pytest.importorskip("pandas")
    x, y = load_iris(return_X_y=True)
    frame = pandas.DataFrame(x, columns=list("abcd"))
    estimator = cls(max_iter=5).fit(frame, y)
    assert estimator.n_features_in_ == 4
    assert estimator.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frame[list("badc")])


@pytest.mark.parametrize("cls", ALL)
def test_html(cls):
    x, y = load_iris(return_X_y=True)
    estimator = cls(rule="lion", max_iter=2)
    assert cls.__name__ in estimator._repr_html_()
    assert "lion" in repr(estimator)
    assert cls.__name__ in estimator.fit(x, y)._repr_html_()


def test_n_features():
    x, y = load_iris(return_X_y=True)
    for cls in ALL:
        estimator = cls(max_iter=2).fit(x, y)
        assert estimator.n_features_in_ == 4
        with pytest.raises(ValueError, match="4 features"):
            estimator.predict(x[:, :3])
