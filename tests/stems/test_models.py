"""Whole epochs of linear models: the bits of their references, the path of plain steps, sparse as dense."""

import doctest

import numpy as np
import pytest

import pyopt
from pyopt.kernels.linear_models import MODELS, linear_sgd, moments, sparse_sgd
from pyopt.kernels.linear_models.linear_sgd import Penalties
from support.helpers import same_bits, tame, wild

LOSSES = ("squared", "logistic")
PULLS = (
    Penalties(),
    Penalties(two_alpha=0.25, l1=0.125, threshold=0.0625, intercept=0.0),
    Penalties(threshold=0.375),
    Penalties(two_alpha=0.5),
)


def problem(rows, features, models, dtype, make=tame, seed=0):
    """Return arguments of an epoch with an order that leaves rows out and takes some twice."""
    x = make(rows * features, dtype, seed).reshape(rows, features)
    y = make(models * rows, dtype, seed + 1).reshape(models, rows)
    weight = np.abs(make(rows, dtype, seed + 2))
    order = np.random.default_rng(seed).integers(0, rows, rows)
    w, b = make(models * features, dtype, seed + 3).reshape(models, features), make(models, dtype, seed + 4)
    return x, order, w, b, y, weight


def sparse(x, share=0.3, seed=9):
    """Return x with most values dropped, as CSR and dense."""
    keep = np.random.default_rng(seed).uniform(size=x.shape) < share
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))]).astype(np.int64)
    return (x[keep], np.nonzero(keep)[1].astype(np.int32), indptr), np.where(keep, x, 0)


def rates(rows, batch, dtype):
    return np.linspace(0.05, 0.01, -(-rows // batch)).astype(dtype)


def compare(module, loss, x, order, w, b, y, weight, rate, batch, pull, label):
    """Assert that the kernel and the reference leave the same bits; return the weights."""
    want_w, want_b, got_w, got_b = w.copy(), b.copy(), w.copy(), b.copy()
    want = module.reference(loss, x, order, want_w, want_b, y, weight, rate, batch, pull)
    got = module.epoch(loss, x, order, got_w, got_b, y, weight, rate, batch, pull)
    same_bits(got_w, want_w, f"w of {label}")
    same_bits(got_b, want_b, f"b of {label}")
    same_bits(got, want, f"value of {label}")
    return got_w


@pytest.mark.parametrize("pull", PULLS, ids=range(len(PULLS)))
@pytest.mark.parametrize("loss", LOSSES)
def test_bits_of_the_reference(isa, dtype, loss, pull):
    for rows, features, models in ((1, 1, 1), (7, 3, 2), (200, 50, 1), (131, 31, 3), (70, 16, 1)):
        for make in (tame, wild):
            for batch in (1, 2, 64, 70, rows):
                x, *rest = problem(rows, features, models, dtype, make)
                label = f"{make.__name__} {rows, features, models} in {batch}"
                after = compare(linear_sgd, loss, x, *rest, rates(rows, batch, dtype), batch, pull, label)
                assert make is wild or not np.array_equal(after, rest[1])


@pytest.mark.parametrize("pull", [p._replace(l1=0.0) for p in PULLS], ids=range(len(PULLS)))
@pytest.mark.parametrize("loss", LOSSES)
def test_bits_of_the_sparse_reference(isa, dtype, loss, pull):
    for rows, features, models in ((7, 5, 2), (200, 50, 1), (70, 31, 3)):
        for make in (tame, wild):
            for batch in (1, 3, 66, rows):
                x, *rest = problem(rows, features, models, dtype, make)
                label = f"{make.__name__} {rows, features, models} in {batch}"
                compare(sparse_sgd, loss, sparse(x)[0], *rest, rates(rows, batch, dtype), batch, pull, label)


@pytest.mark.parametrize("loss", LOSSES)
def test_threads_take_models_and_leave_the_bits(dtype, loss):
    x, order, w, b, y, weight = problem(20_000, 9, 5, dtype)
    found = []
    for threads in (1, 2):
        pyopt.set_num_threads(threads)
        new_w, new_b = w.copy(), b.copy()
        value = linear_sgd.epoch(loss, x, order, new_w, new_b, y, weight, rates(20_000, 7, dtype), 7)
        found.append((new_w.tobytes(), new_b.tobytes(), value))
    assert found[0] == found[1]


@pytest.mark.parametrize("pull", [p._replace(l1=0.0) for p in PULLS], ids=range(len(PULLS)))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch", [1, 13])
def test_sparse_is_dense(loss, batch, pull):
    x, order, w, b, y, weight = problem(300, 40, 2, np.float64)
    compressed, x = sparse(x)
    rate = rates(300, batch, np.float64)
    if pull.two_alpha:
        rate[100 // batch] = 3.0  # the scale turns negative: 1 - rate * two_alpha
    ends = []
    for module, given in ((linear_sgd, x), (sparse_sgd, compressed)):
        new_w, new_b = w.copy(), b.copy()
        ends.append((module.epoch(loss, given, order, new_w, new_b, y, weight, rate, batch, pull), new_w, new_b))
    for got, want in zip(*ends, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    assert (ends[0][1] == 0).any() == (ends[1][1] == 0).any() == (pull.threshold > 0)
    assert np.array_equal(ends[0][1] == 0, ends[1][1] == 0)


@pytest.mark.parametrize("batch", [1, 8, 50])
def test_plain_steps_of_sgd_take_the_same_path(batch):
    x, order, w, b, y, weight = problem(50, 6, 1, np.float64)
    pull = Penalties(two_alpha=0.25, l1=0.125)
    got_w, got_b, rate = w.copy(), b.copy(), rates(50, batch, np.float64)
    value = linear_sgd.epoch("squared", x, order, got_w, got_b, y, weight, rate, batch, pull)
    params = [w.copy(), b.copy()]
    opt = pyopt.SGD([{"params": params[:1], "penalty": [pyopt.L2(0.125), pyopt.L1(0.125)]}, {"params": params[1:]}])
    want = 0.0
    for step, start in enumerate(range(0, 50, batch)):
        rows = order[start : start + batch]
        d = x[rows] @ params[0][0] + params[1] - y[0, rows]
        want += (weight[rows] * d * d).sum() / 2
        c = weight[rows] * d / len(rows)
        for group in opt.param_groups:
            group["lr"] = rate[step]
        opt.step([(c @ x[rows])[None], np.array([c.sum()])])
    np.testing.assert_allclose(got_w, params[0], rtol=1e-12)
    np.testing.assert_allclose(got_b, params[1], rtol=1e-12)
    assert value == pytest.approx(want, rel=1e-12)


def test_logistic_value_and_slope():
    z, y, weight = tame(40, np.float64) * 5, tame(40, np.float64, 1), np.abs(tame(40, np.float64, 2))
    value = linear_sgd.losses("logistic", z, y, weight)
    np.testing.assert_allclose(value, weight * (np.logaddexp(0, z) - y * z), rtol=1e-12, atol=1e-14)
    step = 1e-6
    high, low = (linear_sgd.losses("logistic", z + d, y, weight) for d in (step, -step))
    slope = (high - low) / (2 * step)
    np.testing.assert_allclose(linear_sgd.coefficients("logistic", z, y, weight), slope, rtol=1e-6, atol=1e-8)


def test_intercept_may_stay():
    x, order, w, b, y, weight = problem(50, 6, 2, np.float32)
    before = b.copy()
    linear_sgd.epoch("squared", x, order, w, b, y, weight, rates(50, 5, np.float32), 5, Penalties(intercept=0.0))
    same_bits(b, before)


@pytest.mark.parametrize("stem", MODELS)
def test_example_and_source(stem):
    result = doctest.testmod(MODELS[stem], raise_on_error=False)
    assert result.attempted >= 3
    assert result.failed == 0
    assert "\nRanges: " in MODELS[stem].__doc__
    assert "\nSource: " in MODELS[stem].__doc__


# ---- moments


@pytest.mark.parametrize("threads", [1, 2])
def test_moments_have_the_bits_of_the_reference(isa, dtype, threads):
    pyopt.set_num_threads(threads)
    for rows, columns in ((1, 1), (7, 3), (4097, 9), (70_001, 1)):
        for make in (tame, wild):
            x, weight = make(rows * columns, dtype, 1).reshape(rows, columns), np.abs(make(rows, dtype, 2))
            centre = make(columns, dtype, 3)
            same_bits(moments.first(x, weight), moments.reference_first(x, weight))
            same_bits(moments.second(x, centre, weight), moments.reference_second(x, centre, weight))
