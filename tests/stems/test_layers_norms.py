"""Batch norm and layer norm: the bits of the references, torch's values, slopes, running statistics, clear errors."""

import numpy as np
import pytest

import pyopt
from pyopt import layers
from pyopt.kernels.layers import batch_norm, layer_norm
from pyopt.kernels.numerics import reductions
from support.helpers import refused, same_bits, tame, wild

IMAGES = (
    (0, 3),
    (1, 1),
    (2, 1, 1, 1),
    (1, 1, 5),
    (1, 2, 1, 31),
    (64, 5),
    (65, 5),
    (129, 613),
    (300, 1),
    (3, 17, 7, 7),
    (130, 18, 2),
    (2, 3, 300),
    (70, 33, 4, 8),
    (3, 0, 4),
    (2, 3, 0),
    (67, 37, 19),
)
ROWS = ((0, 3), (1, 1), (65, 1), (5, 31), (5, 32), (3, 33), (130, 7), (2, 64, 65), (67, 997), (3,), (64, 128))
EPS = 3e-4


def some(make, shape, dtype, seed):
    return make(int(np.prod(shape)), dtype, seed).reshape(shape)


def batch(make, shape, dtype):
    """Return x, dy, weight and bias."""
    return *(some(make, shape, dtype, i) for i in (1, 2)), *(some(make, shape[1:2], dtype, i) for i in (3, 4))


def planes(x):
    return x.reshape(*x.shape[:2], int(np.prod(x.shape[2:])))


def numbers(shape):
    return int(np.prod(shape)) // max(1, shape[1])


# ---- bits


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_has_the_bits_of_the_reference(isa, dtype, threads, training):
    pyopt.set_num_threads(threads)
    for shape in IMAGES:
        if training and (numbers(shape) < 2 or 0 in shape):
            continue
        for make in (tame, wild):
            x, dy, weight, bias = batch(make, shape, dtype)
            label = f"{make.__name__} {shape}"
            mean, var = tame(shape[1], dtype, 5), np.abs(tame(shape[1], dtype, 6))
            given = {} if training else {"mean": mean.astype(np.float64), "variance": var.astype(np.float64)}
            y, *kept = layers.batch_norm(x, mean, var, weight, bias, training, eps=EPS)
            want, m, _, inv_std = batch_norm.reference_forward(planes(x), weight, bias, EPS, **given)
            for got, w in zip((y, *kept), (want.reshape(shape), m, inv_std), strict=True):
                same_bits(got, w, f"forward of {label}")
            want = batch_norm.reference_backward(planes(dy), planes(x), weight, m, inv_std, not training)
            got = layers.batch_norm_backward(dy, x, *kept, weight, training=training)
            for g, w in zip(got, want, strict=True):
                same_bits(g.reshape(w.shape), w, f"backward of {label}")


@pytest.mark.parametrize("threads", [1, 2])
def test_layer_norm_has_the_bits_of_the_reference(isa, storage, threads):
    pyopt.set_num_threads(threads)
    for shape in ROWS:
        for make in (tame, wild):
            x, dy = (some(make, shape, storage, i) for i in (1, 2))
            weight, bias = (make(shape[-1], storage, i) for i in (3, 4))
            flat = [a.reshape(-1, shape[-1]) for a in (x, dy)]
            label = f"{make.__name__} {shape}"
            y, mean, inv_std = layers.layer_norm(x, weight, bias, EPS)
            want = layer_norm.reference_forward(flat[0], weight, bias, EPS)
            assert mean.shape == inv_std.shape == shape[:-1]
            for got, w in zip((y, mean, inv_std), want, strict=True):
                same_bits(got.reshape(w.shape), w, f"forward of {label}")
            want = layer_norm.reference_backward(flat[1], flat[0], weight, *want[1:])
            for got, w in zip(layers.layer_norm_backward(dy, x, mean, inv_std, weight), want, strict=True):
                same_bits(got.reshape(w.shape), w, f"backward of {label}")


def test_the_sums_of_the_references_are_sums():
    terms = tame((131, 3, 45), np.float64)
    np.testing.assert_allclose(reductions.batch_sum(terms), terms.sum(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(reductions.row_sum(terms[:, 0]), terms[:, 0].sum(axis=1), rtol=1e-11)
    # the tree: two leaves of 64, one of 3; within a leaf in order, because there is one term a sample
    plain = [sum(part, 0.0) for part in np.split(terms[:, 0, 0], [64, 128])]
    assert reductions.batch_sum(terms[:, :1, :1])[0] == (plain[0] + plain[1]) + plain[2]


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_a_special_number_spoils_its_channel_or_row_only(isa, dtype, special):
    x = tame((6, 4, 5), dtype)
    for place in ((0, 2, 0), (3, 2, 1)):
        spoilt = x.copy()
        spoilt[place] = special
        y = layers.batch_norm(spoilt, training=True)[0]
        assert np.isnan(y[:, 2]).all()
        same_bits(y[:, [0, 1, 3]], layers.batch_norm(x, training=True)[0][:, [0, 1, 3]])
        y = layers.layer_norm(spoilt)[0]
        assert np.isnan(y[place[:2]]).all()
        assert np.isnan(y).sum() == 5


# ---- values


def close(got, want, dtype, label=""):
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    tolerance = (2e-6 if dtype == np.float32 else 1e-13) * scale
    assert np.abs(np.asarray(got) - want).max(initial=0) <= tolerance, label


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_agrees_with_torch(dtype, training, affine, torch):
    for shape in ((37, 5), (6, 3, 4, 5), (4, 2, 9), (70, 3, 33)):
        x, dy, weight, bias = batch(tame, shape, dtype)
        x = x * dtype(3) + dtype(2)
        mean, var = tame(shape[1], dtype, 5), np.abs(tame(shape[1], dtype, 6)) + dtype(0.5)
        wide = [torch.from_numpy(a.astype(np.float64)) for a in (x, weight, bias, dy, mean, var)]
        tx, tw, tb, slope, tmean, tvar = (t.requires_grad_() if i < 3 else t for i, t in enumerate(wide))
        vectors = (weight, bias) if affine else ()
        y, *kept = layers.batch_norm(x, mean, var, *vectors, training=training, momentum=0.3, eps=1e-3)
        ty = torch.nn.functional.batch_norm(
            tx, tmean, tvar, *((tw, tb) if affine else ()), training=training, momentum=0.3, eps=1e-3
        )
        ty.backward(slope)
        dx, dweight, dbias = layers.batch_norm_backward(dy, x, *kept, *vectors[:1], training=training)
        for got, want in ((y, ty.detach()), (dx, tx.grad), (mean, tmean), (var, tvar)):
            close(got, want.numpy(), dtype, f"{shape}")
        if affine:
            close(dweight, tw.grad.numpy(), dtype)
            close(dbias, tb.grad.numpy(), dtype)


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_agrees_with_torch(dtype, affine, torch):
    for shape in ((37, 5), (6, 3, 67), (9,)):
        x, dy = (some(tame, shape, dtype, i) * dtype(3) + dtype(1) for i in (1, 2))
        weight, bias = (tame(shape[-1], dtype, i) for i in (3, 4))
        tx, tw, tb = (torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in (x, weight, bias))
        y, *kept = layers.layer_norm(x, *((weight, bias) if affine else ()), eps=1e-3)
        ty = torch.nn.functional.layer_norm(tx, shape[-1:], *((tw, tb) if affine else ()), eps=1e-3)
        ty.backward(torch.from_numpy(dy.astype(np.float64)))
        dx, dweight, dbias = layers.layer_norm_backward(dy, x, *kept, *((weight,) if affine else ()))
        close(y, ty.detach().numpy(), dtype)
        close(dx, tx.grad.numpy(), dtype)
        if affine:
            close(dweight, tw.grad.numpy(), dtype)
            close(dbias, tb.grad.numpy(), dtype)


def slopes(call, arrays, dy, step=1e-6):
    """Return the slope of sum(dy * call(*arrays)) with respect to each number of each array."""
    found = []
    for a in arrays:
        g = np.empty_like(a)
        for i in np.ndindex(a.shape):
            at = a[i]
            a[i] = at + step
            high = (dy * call(*arrays)).sum()
            a[i] = at - step
            g[i] = (high - (dy * call(*arrays)).sum()) / (2 * step)
            a[i] = at
        found.append(g)
    return found


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4)])
def test_gradients_are_slopes(shape):
    x, dy, weight, bias = batch(tame, shape, np.float64)
    want = slopes(lambda x, w, b: layers.batch_norm(x, None, None, w, b, True, eps=0.01)[0], (x, weight, bias), dy)
    kept = layers.batch_norm(x, training=True, eps=0.01)[1:]
    for got, w in zip(layers.batch_norm_backward(dy, x, *kept, weight, training=True), want, strict=True):
        np.testing.assert_allclose(got, w, rtol=1e-6, atol=1e-8)
    weight, bias = (tame(shape[-1], np.float64, i) for i in (3, 4))
    want = slopes(lambda x, w, b: layers.layer_norm(x, w, b, 0.01)[0], (x, weight, bias), dy)
    kept = layers.layer_norm(x, eps=0.01)[1:]
    for got, w in zip(layers.layer_norm_backward(dy, x, *kept, weight), want, strict=True):
        np.testing.assert_allclose(got, w, rtol=1e-6, atol=1e-8)


def test_a_large_mean_costs_the_variance_no_digits(dtype):
    offset = dtype(2.0**14 if dtype == np.float32 else 2.0**40)  # sums keep all bits, and the differences are exact
    x = np.round(tame((300, 4), dtype) * dtype(64)) / dtype(64)
    far = x + offset
    assert np.array_equal(far - offset, x)
    tall = layers.batch_norm(far, training=True), layers.batch_norm(x, training=True)
    wide = layers.layer_norm(far.T.copy()), layers.layer_norm(x.T.copy())
    for got, want in (tall, wide):
        np.testing.assert_allclose(got[2], want[2], rtol=1e-12)
        if dtype == np.float32:  # the mean itself is float64
            close(got[0], want[0], dtype)


def test_a_constant_channel_becomes_its_bias(dtype):
    x = np.full((70, 2, 3), dtype(0.1))
    bias = np.array([1.0, -2.0], dtype)
    same_bits(layers.batch_norm(x, bias=bias, training=True)[0], np.broadcast_to(bias[None, :, None], x.shape).copy())
    same_bits(layers.layer_norm(x)[0], np.zeros_like(x))


def test_running_statistics(dtype):
    x = np.array([[1.0], [3.0]], dtype)
    mean, var = np.array([10.0], dtype), np.array([4.0], dtype)
    layers.batch_norm(x, mean, var, training=True, momentum=0.25)
    assert (mean[0], var[0]) == (8.0, 3.5)  # 0.75 * 10 + 0.25 * 2; 0.75 * 4 + 0.25 * 2: the unbiased variance is 2
    before = mean.copy(), var.copy()
    layers.batch_norm(x, mean, var)
    layers.batch_norm(x, mean, var, training=True, momentum=0.0)
    assert (mean, var) == before
    layers.batch_norm(x, mean, var, training=True, momentum=1.0)
    assert (mean[0], var[0]) == (2.0, 2.0)


def test_out_takes_the_result(dtype):
    x, dy, weight, bias = batch(tame, (9, 4, 3), dtype)
    out = np.full_like(x, np.nan)
    y, *kept = layers.batch_norm(x, None, None, weight, bias, True, out=out)
    assert y is out
    same_bits(y, layers.batch_norm(x, None, None, weight, bias, True)[0])
    dx = layers.batch_norm_backward(dy, x, *kept, weight, training=True, out=out)[0]
    assert dx is out
    same_bits(dx, layers.batch_norm_backward(dy, x, *kept, weight, training=True)[0])
    y, *kept = layers.layer_norm(x, out=out)
    assert y is out
    same_bits(y, layers.layer_norm(x)[0])
    assert layers.layer_norm_backward(dy, x, *kept, out=out)[0] is out
    same_bits(out, layers.layer_norm_backward(dy, x, *kept)[0])


# ---- errors

X = tame((6, 4), np.float32)
V = tame(4, np.float32, 1)
S = np.ones(4)
READ_ONLY = np.zeros_like(X)
READ_ONLY.flags.writeable = False
FROZEN = np.zeros_like(V)
FROZEN.flags.writeable = False


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (TypeError, ("x is list",), {"x": [[1.0]]}),
        (TypeError, ("x has dtype", "float16"), {"x": X.astype(np.float16)}),
        (TypeError, ("masked",), {"x": np.ma.array(X)}),
        (ValueError, ("x has strides",), {"x": np.asfortranarray(X)}),
        (ValueError, ("x has shape (4,)", "(samples, channels)"), {"x": V}),
        (ValueError, ("x has shape (1, 4)", "1 numbers", "training=True"), {"x": X[:1].copy()}),
        (ValueError, ("x has shape (0, 4)",), {"x": X[:0].copy()}),
        (ValueError, ("weight has shape (3,)", "(4,)"), {"weight": V[:3].copy()}),
        (TypeError, ("bias has dtype float64", "float32"), {"bias": S}),
        (TypeError, ("running_mean has dtype float64",), {"running_mean": S}),
        (ValueError, ("both or neither",), {"running_var": None}),
        (
            ValueError,
            ("running_mean=None", "training=False"),
            {"running_mean": None, "running_var": None, "training": 0},
        ),
        (TypeError, ("training=1", "True or False"), {"training": 1}),
        (ValueError, ("momentum=1.5", "[0, 1]"), {"momentum": 1.5}),
        (TypeError, ("momentum=None",), {"momentum": None}),
        (ValueError, ("eps=0.0",), {"eps": 0.0}),
        (ValueError, ("eps=nan",), {"eps": np.nan}),
        (ValueError, ("running_mean is read-only",), {"running_mean": FROZEN}),
        (ValueError, ("running_var is read-only",), {"running_var": FROZEN}),
        (ValueError, ("running_mean shares memory with weight",), {"running_mean": V, "weight": V}),
        (ValueError, ("running_mean shares memory with running_var",), {"running_mean": V, "running_var": V}),
        (ValueError, ("out has shape (5, 4)", "(6, 4)"), {"out": X[:5].copy()}),
        (TypeError, ("out has dtype float64",), {"out": X.astype(np.float64)}),
        (ValueError, ("out is read-only",), {"out": READ_ONLY}),
        (ValueError, ("out shares memory with x",), {"x": X, "out": X}),
    ],
)
def test_bad_arguments_of_batch_norm(error, words, change):
    given = {"x": X + 1, "running_mean": V * 0, "running_var": V * 2, "training": True, **change}
    if given["training"] == 0:
        given["training"] = False
    with refused(error, *words, arrays=[X, V, *given.values()]):
        layers.batch_norm(**given)


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, ("dy has shape (5, 4)", "(6, 4)"), {"dy": X[:5].copy()}),
        (TypeError, ("dy has dtype float64",), {"dy": X.astype(np.float64)}),
        (TypeError, ("mean has dtype float32", "float64"), {"mean": V}),
        (ValueError, ("inv_std has shape (3,)", "(4,)"), {"inv_std": S[:3].copy()}),
        (ValueError, ("weight has shape (3,)",), {"weight": V[:3].copy()}),
        (TypeError, ("training='yes'",), {"training": "yes"}),
        (ValueError, ("out shares memory with dy",), {"dy": X, "out": X}),
        (ValueError, ("out is read-only",), {"out": READ_ONLY}),
    ],
)
def test_bad_arguments_of_batch_norm_backward(error, words, change):
    given = {"dy": X + 2, "x": X + 1, "mean": S, "inv_std": S, "training": True, **change}
    with refused(error, *words, arrays=[X, V, S, *given.values()]):
        layers.batch_norm_backward(**given)


T = np.ones(6)


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, ("x has shape ()",), {"x": np.ones((), np.float32)}),
        (ValueError, ("x has shape (6, 0)", "empty"), {"x": X[:, :0].copy()}),
        (ValueError, ("weight has shape (6,)", "(4,)"), {"weight": T.astype(np.float32)}),
        (ValueError, ("eps=-1",), {"eps": -1}),
        (ValueError, ("out shares memory with bias",), {"bias": X[0], "out": X}),
    ],
)
def test_bad_arguments_of_layer_norm(error, words, change):
    given = {"x": X * 2, **change}
    with refused(error, *words, arrays=[X, *given.values()]):
        layers.layer_norm(**given)


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, ("mean has shape (4,)", "(6,)"), {"mean": S}),
        (TypeError, ("inv_std has dtype float32",), {"inv_std": T.astype(np.float32)}),
        (ValueError, ("dy has shape (4,)",), {"dy": V}),
        (ValueError, ("x has shape (6, 0)",), {"x": X[:, :0].copy(), "dy": X[:, :0].copy()}),
        (ValueError, ("out shares memory with x",), {"x": X, "out": X}),
    ],
)
def test_bad_arguments_of_layer_norm_backward(error, words, change):
    given = {"dy": X + 2, "x": X + 1, "mean": T, "inv_std": T, **change}
    with refused(error, *words, arrays=[X, *given.values()]):
        layers.layer_norm_backward(**given)
