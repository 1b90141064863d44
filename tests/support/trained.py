"""What the tests of the estimators share: data, quick estimators, and what they have learned."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor

ALL = (LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor)
LINEAR = (LinearClassifier, LinearRegressor)
NETWORKS = (MLPClassifier, MLPRegressor)


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


def standard(dtype=np.float64):
    x, y = load_diabetes(return_X_y=True)
    x, y = x / x.std(axis=0), y / y.std()
    return np.ascontiguousarray(x, dtype), y.astype(dtype)
