"""Estimators beside those of scikit-learn, at an equal loss, objective or accuracy."""

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import isa

from .harness import Contender, faster, race, within

sklearn = pytest.importorskip("sklearn")

from sklearn.datasets import load_digits, make_regression  # noqa: E402
from sklearn.linear_model import Lasso, SGDClassifier  # noqa: E402
from sklearn.model_selection import StratifiedKFold  # noqa: E402
from sklearn.neural_network import MLPClassifier as TheirMLP  # noqa: E402

from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier  # noqa: E402

try:
    from skglm import Lasso as CoordinateDescent
except ImportError:
    CoordinateDescent = None

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ROWS, FEATURES = 500_000, 50
FACTS = {"isa": isa.active(), "threads": pyopt.get_num_threads()}


@pytest.mark.parametrize(("batch", "lr", "bar"), [(1, 0.0075, 1.5), (256, 0.075, 5.0)])
def bench_an_epoch_of_logistic_regression(batch, lr, bar, benchmark):
    """A whole ``fit`` of one epoch, checks of the data and shuffling among it; SGDClassifier takes row by row."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, FEATURES), dtype=np.float32)
    y = (x @ rng.standard_normal(FEATURES) + 2 * rng.logistic(size=ROWS) > 0).astype(int)
    mine = LinearClassifier("sgd", lr=lr, batch_size=batch, max_iter=1, tol=None, random_state=0)
    theirs = SGDClassifier(loss="log_loss", max_iter=1, tol=None, random_state=0)

    def log_loss(estimator):
        z = np.float64(estimator.fit(x, y).decision_function(x)) * (2 * y - 1)
        return np.logaddexp(0, -z).mean()

    losses = {"pyopt": log_loss(mine), "scikit-learn": log_loss(theirs)}
    assert losses["pyopt"] <= losses["scikit-learn"] * 1.001, losses
    contenders = [Contender("pyopt", lambda: mine.fit(x, y)), Contender("scikit-learn", lambda: theirs.fit(x, y))]
    title = f"one epoch of logistic regression, {ROWS} x {FEATURES}, batches of {batch}"
    race(benchmark, title, contenders, [faster("scikit-learn", bar)], 7, x.size, losses, **FACTS)


def bench_lasso(benchmark):
    """L1 as a prox, to the objective of Lasso + 1e-4."""
    x, y = make_regression(20_000, 100, n_informative=20, noise=20.0, random_state=0)
    x, y, alpha = np.float32(x), np.float32(y / y.std()), 0.02
    mine = LinearRegressor("sgd", lr=0.5, prox=pyopt.L1(alpha), batch_size="full", max_iter=20, tol=None)
    theirs = Lasso(alpha)

    def objective(estimator):
        d = y - estimator.fit(x, y).predict(x).astype(np.float64)
        return (d * d).mean() / 2 + alpha * np.abs(estimator.coef_).sum()

    estimators = {"pyopt": mine, "scikit-learn": theirs}
    if CoordinateDescent is not None:
        estimators["skglm"] = CoordinateDescent(alpha)
    values = {name: objective(estimator) for name, estimator in estimators.items()}
    assert values["pyopt"] <= values["scikit-learn"] + 1e-4, values
    contenders = [Contender(name, lambda fit=estimator.fit: fit(x, y)) for name, estimator in estimators.items()]
    title = "lasso, 20000 x 100"
    race(benchmark, title, contenders, [within("scikit-learn", 10.0)], 7, x.size, values, **FACTS)


def bench_perceptron_on_digits(benchmark):
    """The accuracy of scikit-learn's perceptron in cross-validation, or a better one; then a fit."""
    x, y = load_digits(return_X_y=True)
    x = np.float32(x / 16)
    mine = MLPClassifier(
        lr=0.02, schedule=pyopt.schedules.Cosine, batch_norm=True, dropout=0.1, batch_size=100, max_iter=20, tol=None,
        random_state=0,
    )  # fmt: skip
    theirs = TheirMLP(random_state=0)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y))
    scores = {
        name: np.mean([estimator.fit(x[a], y[a]).score(x[b], y[b]) for a, b in folds])
        for name, estimator in (("pyopt", mine), ("scikit-learn", theirs))
    }
    assert scores["pyopt"] >= scores["scikit-learn"], scores
    contenders = [Contender("pyopt", lambda: mine.fit(x, y)), Contender("scikit-learn", lambda: theirs.fit(x, y))]
    errors = {name: 1 - score for name, score in scores.items()}
    race(benchmark, "perceptron, digits", contenders, [faster("scikit-learn", 3.0)], 5, x.size, errors, **FACTS)


@pytest.mark.parametrize(("name", "bar"), [("linear", 0.955), ("perceptron", 0.985)])
def bench_accuracy_on_digits(name, bar, benchmark):
    """Shuffled, stratified cross-validation in five parts; the time is that of a fit."""
    x, y = load_digits(return_X_y=True)
    x = np.float32(x / 16)
    estimator = {
        "linear": LinearClassifier(random_state=0),
        "perceptron": MLPClassifier(
            (256, 128), lr=0.01, schedule=pyopt.schedules.Cosine, batch_norm=True, dropout=0.2, batch_size=64,
            augment=pyopt.augment.Images(mixup=0.2, num_classes=10), image_shape=(1, 8, 8), max_iter=60, tol=None,
            random_state=0,
        ),
    }[name]  # fmt: skip
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(x, y)
    score = np.mean([estimator.fit(x[a], y[a]).score(x[b], y[b]) for a, b in folds])
    assert score >= bar, score
    contenders = [Contender("pyopt", lambda: estimator.fit(x, y))]
    race(
        benchmark, f"accuracy on digits, {name}: {score:.4f}", contenders, [], 1, x.size, {"pyopt": 1 - score}, **FACTS
    )
