"""Losses: the bits of the reference on every instruction set and thread count, and what their numbers mean."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyopt
from pyopt.kernels import loss as stages
from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.losses import ELEMENTWISE
from pyopt.kernels.numerics import codecs, elementary, reductions
from support.helpers import same_bits, tame, wild
from support.losses import OPTIONS, SHAPES, SIZES, call, hard_logits, inputs, labels, softmax_reference

STORED = [np.dtype(x) for x in (np.float32, np.float64, np.float16)]
REDUCTIONS = ("mean", "sum", "none")


def expect(name, arrays, options, reduction, weight=None, pos_weight=None):
    """Return value and gradient of an elementwise loss by its reference."""
    count = arrays[0].size if reduction == "mean" else 1
    if name == "binary_cross_entropy":
        arrays = (*arrays, np.asarray(1.0 if pos_weight is None else pos_weight, codecs.compute(arrays[0].dtype)))
    total, values, gradient = stages.reference(name, arrays, 1.0 / count, options, weight)
    with np.errstate(all="ignore"):
        return (values if reduction == "none" else np.float64(total) / count), gradient


# ---- bits


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_an_elementwise_loss_has_the_bits_of_the_reference(isa, storage, threads, name):
    pyopt.set_num_threads(threads)
    for i, n in enumerate(SIZES):
        for make in (tame, wild):
            arrays = inputs(name, n, storage, make)
            for j, options in enumerate(OPTIONS[name]):
                reduction = ("sum", "mean", "none")[(i + j) % 3 if n else 0]
                got = call(name, *arrays, reduction, **options)
                want = expect(name, arrays, options, reduction)
                same_bits(got[1], want[1], f"gradient of {n}, {options}")
                same_bits(got[0], want[0], f"{reduction} of {n}, {options}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [(0, 5), (1, 1), (17, 3), (1000, 7), (37, 1031), (4097, 17), (70_001, 2), (9, 4, 130)])
def test_weights_of_elements_and_of_rows_have_the_bits_of_the_reference(isa, storage, threads, rows):
    """The weights of rows and of classes are stretched and repeated a tile at a time, whatever the tile."""
    pyopt.set_num_threads(threads)
    real = codecs.compute(np.dtype(storage))
    for name in ("squared_error", "binary_cross_entropy"):
        arrays = inputs(name, math.prod(rows), storage, tame)
        arrays = [a.reshape(rows) for a in arrays]
        for k in range(1, len(rows) + 1):
            weight = np.abs(tame(rows[:k], real, 7))
            more = {}
            if name == "binary_cross_entropy":
                more["pos_weight"] = np.abs(tame(rows[-k:], real, 8))
            got = call(name, *arrays, "sum", sample_weight=weight, **more)
            want = expect(name, arrays, {}, "sum", weight, **more)
            same_bits(got[1], want[1], f"{name}, {weight.shape}")
            same_bits(got[0], want[0], f"value of {name}, {weight.shape}")
            got = call(name, *arrays, "none", sample_weight=weight, **more)[0]
            same_bits(got, expect(name, arrays, {}, "none", weight, **more)[0], f"values of {name}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("soft", [False, True])
def test_softmax_cross_entropy_has_the_bits_of_the_reference(isa, storage, threads, soft):
    pyopt.set_num_threads(threads)
    real = codecs.compute(np.dtype(storage))
    for i, shape in enumerate(SHAPES):
        target = (np.abs(tame(shape, real, 5)) / 8 % 1).astype(storage) if soft else labels(*shape)
        weights = {"class_weights": np.abs(tame(shape[1], real, 6)), "sample_weight": np.abs(tame(shape[0], real, 7))}
        if not soft and shape[0] > 4:
            target[1::3] = -100
        for z in (tame(shape, storage) * storage(3), hard_logits(shape, storage)):
            for j, options in enumerate(({}, {"label_smoothing": 0.25}, weights, {"label_smoothing": 0.1, **weights})):
                reduction = REDUCTIONS[(i + j) % 3] if shape[0] else "sum"
                got = pyopt.losses.softmax_cross_entropy(z, target, reduction, **options)
                want = softmax_reference(z, target, reduction, **options)
                same_bits(got[1], want[1], f"gradient, {shape}, {list(options)}")
                same_bits(got[0], want[0], f"{reduction}, {shape}, {list(options)}")


def test_weights_of_16_bits_are_widened(storage):
    x, y, weight = (np.abs(tame((40, 3), storage, i)) for i in (1, 2, 3))
    want = pyopt.losses.squared_error(x, y, "none", sample_weight=weight[:, 0].astype(np.float64))
    for got, w in zip(pyopt.losses.squared_error(x, y, "none", sample_weight=weight[:, 0].copy()), want, strict=True):
        same_bits(got, w)


@pytest.mark.parametrize("name", [*sorted(ELEMENTWISE), "softmax_cross_entropy"])
@given(data=st.data())
def test_any_combination_has_the_bits_of_the_reference(name, data):
    """Reductions, weights, options, sizes, types, threads and instruction sets, all together."""
    draw = data.draw
    kind, reduction = draw(st.sampled_from(STORED)), draw(st.sampled_from(REDUCTIONS))
    shape = draw(st.sampled_from([(1, 1), (3, 1), (40, 3), (5, 1000), (300, 64), (4096, 9)]))
    real = codecs.compute(kind)
    pyopt.set_num_threads(draw(st.sampled_from([1, 2])))
    weight = draw(st.sampled_from([None, np.abs(tame(shape[0], real, 3))]))
    with instruction_sets.use(draw(st.sampled_from(instruction_sets.available()))):
        if name == "softmax_cross_entropy":
            z, target = tame(shape, kind), labels(*shape)
            options = {
                "label_smoothing": draw(st.sampled_from([0.0, 0.3, 1.0])),
                "class_weights": draw(st.sampled_from([None, 1 + np.abs(tame(shape[1], real, 4))])),
                "ignore_index": draw(st.sampled_from([-100, int(target[0])])) if shape[0] > 3 else -100,
                "sample_weight": weight,
            }
            got = pyopt.losses.softmax_cross_entropy(z, target, reduction, **options)
            want = softmax_reference(z, target, reduction, **options)
        else:
            options = draw(st.sampled_from(OPTIONS[name]))
            arrays = [a.reshape(shape) for a in inputs(name, math.prod(shape), kind.type, tame)]
            got = call(name, *arrays, reduction, sample_weight=weight, **options)
            want = expect(name, arrays, options, reduction, weight)
    same_bits(got[0], want[0], f"{options}")
    same_bits(got[1], want[1], f"{options}")


def test_a_special_logit_spoils_its_row_only(isa, dtype):
    z = hard_logits((30, 10), dtype)
    _, gradient = pyopt.losses.softmax_cross_entropy(z, labels(30, 10))
    spoilt = np.isnan(gradient).all(axis=1)
    want = np.isnan(z).any(axis=1) | (z == np.inf).any(axis=1) | (z == -np.inf).all(axis=1)
    assert want.sum() == 4
    assert np.array_equal(spoilt, want)
    assert np.isfinite(gradient[~want]).all()
    assert np.abs(gradient[~want].sum(axis=1)).max() < 1e-6


@pytest.mark.parametrize("classes", [3, 200])
def test_an_ignored_row_is_zero_whatever_it_holds(isa, dtype, classes):
    z = hard_logits((30, classes), dtype)
    target = np.full(30, 7)
    target[5] = 1
    for reduction in REDUCTIONS:
        value, gradient = pyopt.losses.softmax_cross_entropy(z, target, reduction, ignore_index=7, label_smoothing=0.1)
        alone = pyopt.losses.softmax_cross_entropy(z[5:6], target[5:6], "sum", label_smoothing=0.1)
        same_bits(gradient[[5]], alone[1])
        assert not np.delete(gradient, 5, axis=0).any()
        assert np.sum(value, dtype=np.float64) == dtype(alone[0]) if reduction == "none" else value == alone[0]


def test_a_nan_spoils_its_element_only(isa, dtype):
    for name in ELEMENTWISE:
        x, y = inputs(name, 100, dtype, tame)
        whole = call(name, x, y, "none")
        x[17] = np.nan
        value, gradient = call(name, x, y, "none")
        assert np.isnan(value[17])
        same_bits(np.delete(value, 17), np.delete(whole[0], 17))
        same_bits(np.delete(gradient, 17), np.delete(whole[1], 17))
        assert np.isnan(call(name, x, y)[0])


# ---- elementary functions


def ulps(got, want):
    """Return the largest error in units of the last place."""
    return float((np.abs(got.astype(want.dtype) - want) / np.spacing(want.astype(got.dtype)).astype(want.dtype)).max())


def test_elementary_functions_stay_within_two_ulp(dtype):
    wide = np.longdouble if dtype == np.float64 else np.float64
    rng = np.random.default_rng(0)
    low, high = (-87.0, 88.72283) if dtype == np.float32 else (-708.0, 709.782712893384)
    small = np.exp(rng.uniform(-30, np.log(-low), 200_000))
    x = np.concatenate([rng.uniform(low, high, 400_000), small, -small, [low, high, 0.0, -0.0]]).astype(dtype)
    x = x[(x >= dtype(low)) & (x <= dtype(high))]
    assert (x > 0).mean() > 0.3
    want = np.exp(x.astype(wide))
    assert ulps(elementary.exp_any(x), want) <= 1.1
    assert ulps(elementary.exp(x[x <= 0]), want[x <= 0]) <= 1.1
    same_bits(elementary.exp(x[x <= 0]), elementary.exp_any(x[x <= 0]))
    x = np.concatenate([rng.uniform(0, 1, 400_000), np.exp(rng.uniform(-87, 0, 200_000)), [1.0]]).astype(dtype)
    assert ulps(elementary.log1p(x), np.log1p(x.astype(wide))) <= 2
    assert elementary.log1p(np.zeros(1, dtype))[0] == 0
    y = np.concatenate([1 + np.exp(rng.uniform(-36, 0, 200_000)), np.exp(rng.uniform(0, 40, 200_000))])
    want = np.log(y.astype(np.longdouble))
    assert ulps(elementary.log(y)[want > 0], want[want > 0]) <= 2
    assert elementary.log(np.array([1.0]))[0] == 0


def test_the_power_of_focal_is_as_accurate_as_it_says(dtype):
    wide = np.longdouble if dtype == np.float64 else np.float64
    x = np.random.default_rng(0).uniform(-12, 12, 100_000).astype(dtype)
    for gamma in (0.5, 1.0, 2.0, 3.7):
        f = elementary.exp(-(dtype(gamma) * (elementary.relu(x) + elementary.log1p(elementary.exp(-np.abs(x))))))
        a = wide(dtype(gamma)) * np.log1p(np.exp(x.astype(wide)))
        error = np.abs(f.astype(wide) - np.exp(-a)) / np.spacing(np.exp(-a).astype(dtype)).astype(wide)
        assert (error <= 3 + 4 * a).all()


def test_exp_at_its_ends(dtype):
    low, high = (-87.0, 88.72283) if dtype == np.float32 else (-708.0, 709.782712893384)
    x = np.array([0.0, -0.0, -np.inf, low * 1.01, -1e4, np.inf, high * 1.01, 1e4, np.nan], dtype)
    same_bits(elementary.exp_any(x), np.array([1, 1, 0, 0, 0, np.inf, np.inf, np.inf, np.nan], dtype))
    same_bits(elementary.exp(x[:5]), np.array([1, 1, 0, 0, 0], dtype))
    top = elementary.exp_any(np.array([high], dtype))[0]
    assert np.finfo(dtype).max * 0.99 < top < np.inf


def test_the_sum_has_the_bits_of_the_tree(isa):
    """The lanes of a leaf take the terms of tiles that start anywhere."""
    rng = np.random.default_rng(0)
    for n in (1, 31, 33, 1023, 1025, 4095, 4097, 300_001):
        memory = np.empty(n + 16)
        for offset in range(9):
            x = memory[offset : offset + n]
            x[:] = rng.normal(size=n) * 10.0 ** rng.integers(-8, 8, n)
            value, _ = pyopt.losses.squared_error(x, np.zeros(n), "sum", out=np.empty(n + 16)[offset : offset + n])
            same_bits(np.float64(value), np.float64(reductions.tree_sum(x * x)), f"{n} from {offset}")
