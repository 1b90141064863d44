"""Penalties: value and gradient against goldens, each other, and the reference."""

import math

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.numerics import reductions
from pyopt.kernels.penalties import PENALTIES
from support import golden
from support.helpers import refused, same_bits, some_penalty, stepping, tame, wild

ROWS = [
    pytest.param(PENALTIES[stem], *row, id=f"{stem}-{row[0]}")
    for stem in golden.PENALTIES
    for row in golden.PENALTIES[stem]
]


@pytest.mark.parametrize(("kind", "arguments", "value", "gradient", "step", "proximal"), ROWS)
def test_golden(kind, arguments, value, gradient, step, proximal, dtype, isa):
    w = np.array(golden.W, dtype)
    same_bits(kind(*arguments).prox(w, step), np.array(proximal, dtype))
    if value is not None:
        assert math.isclose(kind(*arguments).value(w), value, rel_tol=4e-16)
        same_bits(kind(*arguments).grad(w), np.array(gradient, dtype))


@pytest.mark.parametrize("n", [0, 1, 127, 4096, 4097, 70_001])
def test_value_has_the_bits_of_the_tree(penalty, dtype, n):
    p = tame(n, dtype)
    some = some_penalty(penalty)
    want = reductions.tree_sum(penalty.terms(p, *map(dtype, some.scalars())))
    assert math.isclose(want, math.fsum(penalty.terms(p, *map(dtype, some.scalars()))), rel_tol=1e-13)
    for by in instruction_sets.available():
        for threads in (1, 2, 3):
            with stepping(by, threads):
                assert some.value(p) == want, (by, threads)


def test_value_of_several_arrays_is_their_sum(penalty, dtype):
    arrays = [tame((3, 4), dtype), np.asfortranarray(tame((5, 7), dtype, 1)), tame((), dtype, 2), np.empty(0, dtype)]
    some = some_penalty(penalty)
    assert math.isclose(some.value(arrays), sum(some.value(a) for a in arrays), rel_tol=1e-15)
    assert some.value(arrays) == some.value(tuple(arrays))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_value_shows_what_is_not_finite(penalty, dtype, bad):
    p = tame(1000, dtype)
    p[577] = bad
    value = some_penalty(penalty).value(p)
    if penalty in (pyopt.MCP, pyopt.SCAD) and np.isinf(bad):  # they level off
        assert math.isfinite(value)
    else:
        assert math.isnan(value) if np.isnan(bad) else value == np.inf


def test_gradient_is_the_slope_of_the_value(penalty):
    p, eps = tame(20, np.float64) + 0.0, 1e-6
    some = some_penalty(penalty)
    slope = [(some.value(p + eps * row) - some.value(p - eps * row)) / (2 * eps) for row in np.eye(20)]
    np.testing.assert_allclose(some.grad(p), slope, rtol=1e-7)


def test_gradient_inside_the_step_is_that_of_grad(penalty, dtype, isa):
    """With a gradient of 0 and lr = 1, SGD subtracts the gradient of the penalty."""
    p = wild(2000, dtype)
    some = some_penalty(penalty)
    with np.errstate(all="ignore"):
        want = p - some.grad(p)
    pyopt.SGD([p], lr=1.0, penalty=some).step([np.zeros_like(p)])
    same_bits(p, want)


def test_coefficients_out_of_range(penalty):
    good = some_penalty(penalty)
    for bad, error in [
        (-0.1, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        ("x", TypeError),
        (None, TypeError),
    ]:
        with refused(error, f"={bad!r}", "must be"):
            penalty(bad, *list(vars(good).values())[1:])


def test_l1_ratio_is_a_share():
    for ends in (0.0, 1.0):
        assert pyopt.ElasticNet(1.0, l1_ratio=ends).l1_ratio == ends
    with refused(ValueError, "l1_ratio=1.5", "[0, 1]"):
        pyopt.ElasticNet(1.0, l1_ratio=1.5)


def test_elastic_net_of_only_one_part_is_that_part(dtype):
    w = tame(200, dtype)
    assert pyopt.ElasticNet(0.5, l1_ratio=1.0).value(w) == pyopt.L1(0.5).value(w)
    assert pyopt.ElasticNet(0.5, l1_ratio=0.0).value(w) == pyopt.L2(0.25).value(w)


def test_weight_decay_is_l2_of_half(dtype):
    """torch's weight_decay is the gradient wd * p; the textbooks' L2(a) is a * sum p^2."""
    runs = []
    for options in ({"weight_decay": 0.5}, {"penalty": pyopt.L2(0.25)}):
        p = wild(500, dtype)
        pyopt.SGD([p], lr=0.1, **options).step([wild(500, dtype, 1)])
        runs.append(p)
    same_bits(*runs)


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.arange(3), TypeError, ["params[0]", "int64", "float32 or float64"]),
        (np.zeros(8)[::2], ValueError, ["params[0]", "strides (16,)", "without gaps"]),
        (np.ma.masked_array([1.0], [True]), TypeError, ["params[0]", "masked", "filled"]),
        (np.zeros(3, ">f8"), TypeError, ["params[0]", ">f8", "native"]),
        ("weights", TypeError, ["params[0]", "str", "NumPy array"]),
    ],
)
def test_value_refuses(array, error, words):
    with refused(error, *words):
        pyopt.L1(1.0).value([array])


def test_penalties_are_frozen_and_compare_by_value():
    assert pyopt.L1(0.5) == pyopt.L1(0.5) != pyopt.L1(0.25)
    with pytest.raises(AttributeError):
        pyopt.L1(0.5).alpha = 1.0


def test_coefficients_that_must_be_larger_than_an_end():
    for kind, name, low in ((pyopt.MCP, "gamma", 1.0), (pyopt.SCAD, "gamma", 2.0)):
        with refused(ValueError, f"{name}={low!r}", f"finite and > {low:g}"):
            kind(0.5, low)
        assert getattr(kind(0.5, low + 1e-3), name) == low + 1e-3


def test_box_has_two_ends_in_order():
    assert pyopt.Box(-np.inf, np.inf).prox(np.array([np.inf, -1.0]), 1.0).tolist() == [np.inf, -1.0]
    with refused(ValueError, "low=1.0", "high=0.5", "<="):
        pyopt.Box(1.0, 0.5)
    with refused(ValueError, "low=nan", "[-inf, inf)"):
        pyopt.Box(np.nan, 0.5)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1,), (5,), (7, 3), (2, 3, 700), (3, 9001), ()])
def test_group_lasso_by_its_definition(shape, dtype, isa):
    p = tame(shape, dtype)
    rows = p.astype(np.float64).reshape(len(p) if p.ndim else 1, -1) if p.size else np.zeros((1, 1))
    norms_of_rows = np.sqrt((rows * rows).sum(axis=1))
    want = np.float64(dtype(0.3)) * math.sqrt(rows.shape[1]) * norms_of_rows.sum()
    assert math.isclose(pyopt.GroupLasso(0.3).value(p), want, rel_tol=1e-12)
    if p.size:
        want = 0.3 * math.sqrt(rows.shape[1]) * rows / norms_of_rows[:, None]
        np.testing.assert_allclose(pyopt.GroupLasso(0.3).grad(p), want.reshape(shape), rtol=4 * np.finfo(dtype).eps)


def test_group_lasso_has_no_slope_at_a_row_of_zeros(dtype):
    p = np.zeros((2, 3), dtype)
    p[1] = 1
    grad = pyopt.GroupLasso(1.0).grad(p)
    same_bits(grad[0], np.zeros(3, dtype))
    np.testing.assert_allclose(grad[1], 1.0, rtol=1e-6)


def test_a_projection_is_no_gradient():
    for some in (pyopt.Box(0.0, 1.0), pyopt.NonNegative(), pyopt.MaxNorm(1.0)):
        with refused(TypeError, type(some).__name__, "no gradient"):
            some.grad(np.ones(3))
        with refused(TypeError, type(some).__name__, "no gradient", "prox="):
            pyopt.SGD([np.ones(3)], penalty=some)


def test_value_of_a_projection_says_inside_or_outside():
    w = np.array([[3.0, 4.0], [0.5, 0.5]])
    assert (pyopt.MaxNorm(5.0).value(w), pyopt.MaxNorm(4.9).value([w, w])) == (0.0, np.inf)
    assert (pyopt.Box(0.0, 4.0).value(w), pyopt.Box(0.0, 3.9).value(w)) == (0.0, np.inf)
