"""What the estimators refuse, and how they are documented and imported."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.base import clone

from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor, _docs, _trainer
from support.trained import ALL, data, made

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

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
        (ValueError, ("rule=['sgd']", "adam, adamw"), {"rule": ["sgd"]}),
        (ValueError, ("validation_fraction='a'", "(0, 1)"), {"validation_fraction": "a"}),
        (ValueError, ("random_state=-1", ">= 0"), {"random_state": -1}),
        (ValueError, ("lr=-1",), {"rule": "sgd", "schedule": lambda lr, n: -1.0}),
        (TypeError, ("lr=None",), {"rule": "sgd", "schedule": lambda lr, n: None}),
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
        (("augment=", "it returned ndarray and NoneType"), {"augment": lambda x, y, **_: (x, None)}),
        (("hidden_layer_sizes=None", "integer"), {"hidden_layer_sizes": None}),
        (("hidden_layer_sizes=(True,)", "integers >= 1"), {"hidden_layer_sizes": (True,)}),
        (("activation=['relu']", "relu, gelu"), {"activation": ["relu"]}),
        (("image_shape=5", "tuple of integers"), {"image_shape": 5}),
        (("image_shape=(-1, -4)", "features"), {"image_shape": (-1, -4)}),
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


@pytest.mark.parametrize("cls", [LinearClassifier, MLPClassifier])
def test_classes_that_do_not_fit(cls):
    x, y = data(cls)
    known = np.unique(y)
    for few in ([], known[:1]):
        with pytest.raises(ValueError, match=r"classes has (no|one) class.*: a classifier needs at least 2"):
            made(cls).partial_fit(x, y, classes=few)
    estimator = made(cls).partial_fit(x, y, classes=known[::-1])
    with pytest.raises(ValueError, match=r"classes=.*: must be those of the first call"):
        estimator.partial_fit(x, y, classes=[*known, 99])


@pytest.mark.parametrize(
    ("cls", "change"),
    [
        (LinearRegressor, {"fit_intercept": False}),
        (MLPClassifier, {"hidden_layer_sizes": (5,)}),
        (MLPClassifier, {"activation": "gelu"}),
        (MLPClassifier, {"batch_norm": True}),
        (MLPClassifier, {"dropout": 0.5}),
    ],
)
def test_a_model_that_is_there_keeps_its_shape(cls, change):
    """What the model was made with was changed in name only."""
    x, y = data(cls)
    estimator = made(cls, warm_start=True).fit(x, y).set_params(**change)
    for call in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match=rf"{next(iter(change))}=.*: training goes on with a model that has"):
            call(x, y)
    estimator.set_params(warm_start=False).fit(x, y)


@pytest.mark.parametrize("rule", ["sgd", "momentum"])
def test_momentum_and_decay_may_be_functions(rule):
    x, y = data(LinearRegressor)
    for hypers in ({"momentum": 0.5}, {"weight_decay": 0.1}):
        moving = {name: lambda _, number=number: number for name, number in hypers.items()}
        want, got = (made(LinearRegressor, rule=rule, hypers=some).fit(x, y) for some in (hypers, moving))
        assert np.allclose(got.coef_, want.coef_, rtol=1e-10)
    with pytest.raises(TypeError, match="momentum='a'"):
        made(LinearRegressor, rule=rule, hypers={"momentum": "a"}).fit(x, y)


@pytest.mark.parametrize("cls", [LinearClassifier, MLPClassifier])
@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_weights_of_classes_are_not_negative(cls, wrong):
    """Samples of such a class were left out."""
    x, y = data(cls)
    with pytest.raises(ValueError, match=r"class_weight=\{.*must be finite numbers >= 0"):
        made(cls, class_weight=dict.fromkeys(y.tolist(), 1.0) | {y[0].item(): wrong}).fit(x, y)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("scale", [1e308, 1e-310])
def test_weights_of_samples_that_have_no_mean(cls, scale):
    x, y = data(cls)
    with pytest.raises(ValueError, match="weights of the samples sum to"):
        made(cls).fit(x, y, sample_weight=np.full(len(x), scale))


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_numbers_whose_squares_overflow(rule):
    """A rate of 0 learned nothing and said nothing."""
    x, y = data(LinearRegressor)
    with pytest.raises(ValueError, match="X is so large"):
        made(LinearRegressor, rule=rule).fit(x * 1e300, y)
    for cls in (LinearRegressor, MLPRegressor):
        with pytest.raises(ValueError, match="y is so large"):
            made(cls, rule=rule).fit(x, y * 1e300)


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


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int64, np.uint64, bool, float, str, object])
def test_labels_of_any_kind(kind):
    """Tables stand in for sorting where labels are small integers; the classes are those of NumPy."""
    wide = kind is np.int64
    some = np.array(["a", "c", "b"] if kind in (str, object) else [0, 1, 1] if kind is bool else [7, 120, 3], kind)
    for labels in (
        some,
        -some if kind in (np.int8, np.int16, np.int64, float) else some,
        some * 10**15 if wide else some,
    ):
        y = np.random.default_rng(0).choice(labels, 60)
        x = np.random.default_rng(1).normal(size=(60, 3)) + np.unique(y, return_inverse=True)[1][:, None]
        for cls in (LinearClassifier, MLPClassifier):
            estimator = made(cls, max_iter=200, lr=0.05).fit(x, y)
            assert np.array_equal(estimator.classes_, np.unique(y))
            assert estimator.classes_.dtype == y.dtype
            assert estimator.score(x, y) > 0.6
            assert estimator.partial_fit(x[:9], y[:9]).classes_.dtype == y.dtype


# ---- sparse matrices and other dtypes


@pytest.mark.parametrize("cls", [LinearRegressor, LinearClassifier])
@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        (sparse.csr_matrix, "indices", lambda old: old + 1),
        (sparse.csr_matrix, "indices", lambda old: -old),
        (sparse.csr_matrix, "indices", lambda old: old.astype(np.int64) + 2**32),
        (sparse.csr_array, "indptr", lambda old: old + (np.arange(len(old)) == 2) * 9),
        (sparse.csr_array, "indptr", lambda old: old + 1),
        (sparse.csr_matrix, "indptr", lambda old: old[:-1]),
        (sparse.csr_matrix, "data", lambda old: old[:-1]),
        (sparse.csc_matrix, "indices", lambda old: old + 1),
        (sparse.coo_matrix, "col", lambda old: old + 1),
    ],
)
def test_sparse_matrices_that_are_not_valid(cls, kind, name, change):
    """Indices beyond the matrix would be addresses beyond an array."""
    x, y = data(cls)
    good, wrong = made(cls).fit(x, y), kind(x)
    before = good.coef_.copy()
    setattr(wrong, name, change(getattr(wrong, name)))
    for call, rest in ((made(cls).fit, [y]), (good.partial_fit, [y]), (good.predict, [])):
        with pytest.raises(
            ValueError, match=rf"X is a {wrong.format.upper()} matrix of shape \({len(x)}, .* not valid"
        ):
            call(wrong, *rest)
    assert np.array_equal(good.coef_, before)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_weights_of_another_shape(kind):
    """Weights may be set by hand; too few of them would be read beyond their end."""
    x, y = data(LinearRegressor)
    estimator = made(LinearRegressor).fit(x, y)
    features = x.shape[1]
    for coef, intercept in ((features - 1, 0.0), (features + 1, 0.0), ((2, features), np.zeros(3)), ((), 0.0)):
        estimator.coef_, estimator.intercept_ = np.ones(coef), intercept
        with pytest.raises(ValueError, match=rf"coef_ has shape .* not to {features} features"):
            estimator.predict(kind(x))


def test_a_sparse_matrix_with_too_many_columns():
    x = sparse.csr_matrix((np.ones(2), np.array([0, 2**31]), np.array([0, 1, 2])), shape=(2, 2**31 + 1))
    with pytest.raises(ValueError, match=r"X has shape \(2, 2147483649\): .* fewer than 2\^31"):
        LinearRegressor().fit(x, [0.0, 1.0])


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_sparse_arrays_with_gaps(rule):
    x, y = data(LinearRegressor)
    dense, spread = sparse.csr_matrix(x), sparse.csr_matrix(x)
    for name in ("data", "indices", "indptr"):
        setattr(spread, name, np.repeat(getattr(dense, name), 2)[::2])
    want = made(LinearRegressor, rule=rule).fit(dense, y)
    got = made(LinearRegressor, rule=rule).fit(spread, y)
    assert np.array_equal(got.coef_, want.coef_)
    assert np.array_equal(want.predict(spread), want.predict(dense))


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("cls", ALL)
def test_going_on_with_another_dtype(cls, rule):
    """Training goes on in the dtype that it began with."""
    x, y = data(cls)
    x = x.astype(np.float32).astype(np.float64)
    for kind in (np.asarray, sparse.csr_matrix)[: 2 if "Linear" in cls.__name__ else 1]:
        for first, then in ((np.float64, np.float32), (np.float32, np.float64)):
            want, got = (made(cls, rule=rule, lr=0.01).fit(kind(x.astype(first)), y) for _ in range(2))
            want.partial_fit(kind(x.astype(first)), y)
            got.partial_fit(kind(x.astype(then)), y)
            assert np.array_equal(got.predict(x.astype(first)), want.predict(x.astype(first)))
