"""Losses: the bits of the reference on every instruction set and thread count, torch's values, and clear errors."""

import doctest

import numpy as np
import pytest

import pyopt
from helpers import refused, same_bits, tame, wild
from pyopt.kernels import norms, numerics
from pyopt.kernels.losses import LOSSES

SIZES = (0, 1, 7, 4095, 4096, 4097, 70_001)
SHAPES = (
    (0, 3),
    (1, 1),
    (5, 2),
    (700, 10),
    (3, 31),
    (3, 32),
    (3, 33),
    (65, 63),
    (65, 64),
    (9, 129),
    (40, 1000),
    (4099, 9),
)
EXTREME = (np.inf, -np.inf, np.nan, -0.0, 1e4, -1e4)


def labels(rows, classes, seed=1):
    """Return random labels."""
    return np.random.default_rng(seed).integers(0, classes, rows)


def hard_logits(shape, dtype):
    """Return logits with rows of every kind: ordinary, far apart, equal, and with special numbers."""
    z = tame(shape, dtype) * dtype(3)
    for i, special in enumerate(EXTREME[: shape[0] // 2]):
        z[2 * i, i % shape[1]] = special
    if shape[0] > 20:
        z[13], z[15], z[17] = -np.inf, 1e4, tame(shape[1], dtype) * dtype(60)
        nan = np.array([0xFFC00001], np.uint32).view(np.float32)[0]  # negative, with a payload
        z[19, 0] = nan
    return z


def test_all_losses_are_found_and_exported():
    assert set(LOSSES) == {"squared_error", "softmax_cross_entropy"}
    for name, module in LOSSES.items():
        assert callable(getattr(pyopt.losses, name))
        assert "Source:" in module.__doc__
        assert doctest.testmod(module) == (0, 4)


# ---- bits


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_squared_error_has_the_bits_of_the_reference(isa, dtype, threads, reduction):
    pyopt.set_num_threads(threads)
    for n in SIZES:
        if n == 0 and reduction == "mean":
            continue
        for make in (tame, wild):
            x, y = make(n, dtype, 1), make(n, dtype, 2)
            count = n if reduction == "mean" else 1
            value, gradient = pyopt.losses.squared_error(x, y, reduction)
            terms, want = LOSSES["squared_error"].reference(x, y, dtype(2.0 / count))
            same_bits(gradient, want, f"{n}")
            with np.errstate(all="ignore"):
                same_bits(value, norms.tree_sum(terms) / count, f"value of {n}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_softmax_cross_entropy_has_the_bits_of_the_reference(isa, dtype, threads, reduction):
    pyopt.set_num_threads(threads)
    for shape in SHAPES:
        if shape[0] == 0 and reduction == "mean":
            continue
        for z in (tame(shape, dtype) * dtype(3), hard_logits(shape, dtype)):
            target = labels(*shape)
            count = shape[0] if reduction == "mean" else 1
            value, gradient = pyopt.losses.softmax_cross_entropy(z, target, reduction)
            terms, want = LOSSES["softmax_cross_entropy"].reference(z, target, dtype(1.0 / count))
            same_bits(gradient, want, f"{shape}")
            same_bits(value, norms.tree_sum(terms) / count, f"value of {shape}")


def test_a_special_logit_spoils_its_row_only(isa, dtype):
    z = hard_logits((30, 10), dtype)
    _, gradient = pyopt.losses.softmax_cross_entropy(z, labels(30, 10))
    spoilt = np.isnan(gradient).all(axis=1)
    want = np.isnan(z).any(axis=1) | (z == np.inf).any(axis=1) | (z == -np.inf).all(axis=1)
    assert want.sum() == 4
    assert np.array_equal(spoilt, want)
    assert np.isfinite(gradient[~want]).all()
    assert np.abs(gradient[~want].sum(axis=1)).max() < 1e-6


# ---- accuracy


def test_exp_and_log_stay_within_two_ulp(dtype):
    wide = np.longdouble if dtype == np.float64 else np.float64
    rng = np.random.default_rng(0)
    lowest = -87.0 if dtype == np.float32 else -708.0
    x = np.concatenate([rng.uniform(lowest, 0, 200_000), -np.exp(rng.uniform(-30, np.log(-lowest), 200_000))]).astype(
        dtype
    )
    x = np.concatenate([x[x >= lowest], np.array([0.0, -0.0, lowest], dtype)])
    want = np.exp(x.astype(wide))
    assert (np.abs(numerics.exp(x) - want) / np.spacing(want.astype(dtype))).max() <= 2
    assert np.array_equal(numerics.exp(np.array([0.0, -0.0, -np.inf, lowest * 1.01], dtype)), [1, 1, 0, 0])
    y = np.concatenate([1 + np.exp(rng.uniform(-36, 0, 200_000)), np.exp(rng.uniform(0, 40, 200_000))])
    want = np.log(y.astype(np.longdouble))
    some = want > 0
    assert some.mean() > 0.9
    assert (np.abs(numerics.log(y) - want)[some] / np.spacing(want[some].astype(np.float64))).max() <= 2
    assert numerics.log(np.array([1.0]))[0] == 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_torch_agrees(dtype, reduction):
    torch = pytest.importorskip("torch")
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-14}
    for rows, classes in ((5, 3), (300, 10), (64, 1000)):
        z, target = tame((rows, classes), dtype) * dtype(4), labels(rows, classes)
        y = tame((rows, classes), dtype, 5)
        given = torch.from_numpy(z.copy()).requires_grad_()
        loss = torch.nn.functional.cross_entropy(given, torch.from_numpy(target), reduction=reduction)
        loss.backward()
        value, gradient = pyopt.losses.softmax_cross_entropy(z, target, reduction)
        np.testing.assert_allclose(value, loss.detach().numpy(), **tolerance)
        np.testing.assert_allclose(gradient, given.grad.numpy(), **tolerance)
        given.grad = None
        loss = torch.nn.functional.mse_loss(given, torch.from_numpy(y), reduction=reduction)
        loss.backward()
        value, gradient = pyopt.losses.squared_error(z, y, reduction)
        np.testing.assert_allclose(value, loss.detach().numpy(), **tolerance)
        np.testing.assert_allclose(gradient, given.grad.numpy(), **tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_the_slopes_of_the_value(reduction):
    z, target, y, step = tame((4, 5), np.float64), labels(4, 5), tame((4, 5), np.float64, 3), 1e-6
    for loss, other in ((pyopt.losses.softmax_cross_entropy, target), (pyopt.losses.squared_error, y)):
        gradient = loss(z, other, reduction)[1]
        for i in np.ndindex(z.shape):
            high, low = z.copy(), z.copy()
            high[i] += step
            low[i] -= step
            slope = (loss(high, other, reduction)[0] - loss(low, other, reduction)[0]) / (2 * step)
            assert slope == pytest.approx(gradient[i], rel=1e-6, abs=1e-8)


def test_known_values():
    value, gradient = pyopt.losses.softmax_cross_entropy(np.array([[0.0, np.log(3.0)]]), np.array([1]))
    assert value == pytest.approx(np.log(4 / 3), rel=1e-15)
    assert gradient[0] == pytest.approx([0.25, -0.25], rel=1e-15)
    value, gradient = pyopt.losses.softmax_cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1]))
    assert (value, gradient.tolist()) == (20000.0, [[1.0, -1.0]])
    value, gradient = pyopt.losses.squared_error(np.array([1.0, 5.0]), np.array([2.0, 2.0]), "sum")
    assert (value, gradient.tolist()) == (10.0, [-2.0, 6.0])


# ---- arguments


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64, ">i4"])
def test_labels_of_any_integer_dtype(kind):
    z, target = tame((9, 4), np.float32), labels(9, 4)
    want = pyopt.losses.softmax_cross_entropy(z, target)
    value, gradient = pyopt.losses.softmax_cross_entropy(z, np.repeat(target, 2).astype(kind)[::2])
    assert value == want[0]
    same_bits(gradient, want[1])


def test_out_takes_the_gradient(dtype):
    z, target, y = tame((9, 4), dtype), labels(9, 4), tame((9, 4), dtype, 4)
    for loss, other in ((pyopt.losses.softmax_cross_entropy, target), (pyopt.losses.squared_error, y)):
        out = np.full_like(z, np.nan)
        value, gradient = loss(z, other, out=out)
        want = loss(z, other)
        assert gradient is out
        assert value == want[0]
        same_bits(out, want[1])


def test_the_mean_of_nothing_is_refused_and_its_sum_is_zero(dtype):
    nothing, none = np.empty((0, 3), dtype), np.empty(0, np.int64)
    for loss, other in ((pyopt.losses.softmax_cross_entropy, none), (pyopt.losses.squared_error, nothing)):
        value, gradient = loss(nothing, other, "sum")
        assert (value, gradient.shape, gradient.dtype) == (0.0, (0, 3), dtype)
        with refused(ValueError, "mean", "empty"):
            loss(nothing, other)


Z, T = tame((6, 4), np.float32), labels(6, 4)
READ_ONLY = np.zeros_like(Z)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, ("target[2] is 4", "[0, 4)"), {"target": np.array([0, 1, 4, 0, 9, 0])}),
        (ValueError, ("target[1] is -1", "[0, 4)"), {"target": np.array([0, -1, 2, 0, 0, 0], np.int8)}),
        (ValueError, ("18446744073709551615",), {"target": np.array([0, 2**64 - 1, 0, 0, 0, 0], np.uint64)}),
        (ValueError, ("target has shape (5,)", "(6,)"), {"target": T[:5]}),
        (ValueError, ("target has shape (6, 1)",), {"target": T[:, None]}),
        (TypeError, ("float64", "integers"), {"target": T.astype(float)}),
        (TypeError, ("bool", "integers"), {"target": T > 1}),
        (TypeError, ("masked",), {"target": np.ma.array(T)}),
        (TypeError, ("logits", "list"), {"logits": [[1.0]]}),
        (TypeError, ("logits", "float16"), {"logits": Z.astype(np.float16)}),
        (TypeError, ("logits", "masked"), {"logits": np.ma.array(Z)}),
        (ValueError, ("logits", "strides", "ascontiguousarray"), {"logits": np.asfortranarray(Z)}),
        (ValueError, ("logits has shape (6,)",), {"logits": Z[:, 0].copy()}),
        (ValueError, ("logits has shape (6, 0)",), {"logits": Z[:, :0].copy()}),
        (ValueError, ("reduction='none'", "'mean' or 'sum'"), {"reduction": "none"}),
        (TypeError, ("out", "float64", "float32"), {"out": Z.astype(np.float64)}),
        (ValueError, ("out has shape (5, 4)", "(6, 4)"), {"out": Z[:5].copy()}),
        (ValueError, ("out", "read-only"), {"out": READ_ONLY}),
        (ValueError, ("out shares memory",), {"out": Z}),
    ],
)
def test_bad_arguments_of_softmax_cross_entropy(error, words, change):
    given = {"logits": Z, "target": T, **change}
    with refused(error, *words, arrays=[Z, *given.values()]):
        pyopt.losses.softmax_cross_entropy(**given)


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (TypeError, ("target", "float64", "float32"), {"target": Z.astype(np.float64)}),
        (ValueError, ("target has shape (6,)", "(6, 4)"), {"target": Z[:, 0].copy()}),
        (ValueError, ("target", "strides"), {"target": np.asfortranarray(Z)}),
        (ValueError, ("prediction", "strides"), {"prediction": Z[:, ::2]}),
        (ValueError, ("out shares memory with prediction or target",), {"out": Z}),
        (ValueError, ("reduction=None",), {"reduction": None}),
    ],
)
def test_bad_arguments_of_squared_error(error, words, change):
    given = {"prediction": Z + 1, "target": Z, **change}
    with refused(error, *words, arrays=[Z, *given.values()]):
        pyopt.losses.squared_error(**given)
