"""The reference itself, against goldens from the papers' formulas, and the functions that all forms share."""

import fractions
import math

import numpy as np
import pytest

from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.cuda.device.intrinsics import Host
from pyopt.kernels.numerics import elementary, elementary_element, reductions
from pyopt.kernels.rules import RULES
from support import golden
from support.helpers import make, run, same_bits, stepping, tame, wild

ROWS = [pytest.param(RULES[name], *row, id=f"{name}-{row[0]}") for name in golden.RULES for row in golden.RULES[name]]


@pytest.mark.parametrize(("rule", "hypers", "want"), ROWS)
@pytest.mark.parametrize("by", ["reference", *instruction_sets.available()])
def test_golden(rule, hypers, want, by):
    p = np.array([golden.P, golden.P])
    with stepping(by):
        opt = make(rule, [p], **hypers)
        for g, expected in zip(golden.G, want, strict=True):
            opt.step([np.array([g, g])])
            np.testing.assert_allclose(p, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize(("rule", "hypers", "want"), ROWS)
def test_golden_by_single_precision(rule, hypers, want):
    grads = [[np.array([g], np.float32)] for g in golden.G]
    p = run(rule, [np.array([golden.P], np.float32)], grads, **hypers)["p[0]"]
    np.testing.assert_allclose(p, want[-1], rtol=6e-7, atol=0)


def test_goldens_reach_every_hyper_parameter(rule):
    """A hyper-parameter that no row sets to something else than its default is not checked."""
    for hyper in rule.hypers:
        assert any(row.get(hyper.name, hyper.default) != hyper.default for row, _ in golden.RULES[rule.name]), (
            hyper.name
        )


def test_scalars_round_once(rule):
    """``1 - beta`` is taken in float64: in float32 it would be off by 1e-5 to 2e-4."""
    h = rule.Values(*(hyper.default for hyper in rule.all_hypers))
    scalars, _ = rule.scalars(h, 3, 0.0)
    assert all(type(value) is float for value in scalars)
    for name, value in zip(rule.scalar_names, scalars, strict=True):
        if name.startswith("one_minus_beta"):
            assert value == 1.0 - h.betas[int(name[-1]) - 1]


# ---- numerics


def test_sign_spells_out_nan_and_zero(dtype):
    x = np.array([2, -3, 0.0, -0.0, np.nan, np.inf, -np.inf], dtype)
    same_bits(elementary.sign(x), np.array([1, -1, 0, 0, 0, 1, -1], dtype))


def test_maximum_keeps_the_first_beside_a_nan(dtype):
    a = np.array([1, np.nan, 1, np.nan, 0.0, -0.0, np.inf], dtype)
    b = np.array([2, 1, np.nan, np.nan, -0.0, 0.0, -np.inf], dtype)
    same_bits(elementary.maximum(a, b), np.array([2, np.nan, 1, np.nan, 0.0, -0.0, np.inf], dtype))


def test_flush_replaces_subnormals_only(dtype):
    info = np.finfo(dtype)
    x = np.array([info.tiny, -info.tiny, info.tiny / 2, -info.tiny / 2, info.smallest_subnormal, -0.0, np.nan], dtype)
    same_bits(elementary.flush(x), np.array([info.tiny, -info.tiny, 0, 0, 0, 0, np.nan], dtype))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.compiled)])
def test_numerics_on_one_number(dtype, compiled):
    """In the domain of each function; NaN and infinity are in all of them."""
    names = ["sqrt", "sign", "maximum", "flush", "magnitude", "relu", "gate", "soft", "exp", "exp_any", "log1p", "log",
             "weighted"]  # fmt: skip
    domain = {
        "exp": lambda x: -np.abs(x),
        "log1p": lambda x: np.where(np.abs(x) <= 1, np.abs(x), dtype(np.nan)),
        "log": lambda x: np.where(np.abs(x) < 1, 1 / np.abs(x), np.abs(x)).astype(np.float64),
    }
    for name in names:
        arrays = [wild(3000, dtype, i) for i in range(2 if name in ("maximum", "gate", "soft", "weighted") else 1)]
        arrays += [tame(300, dtype, i) * dtype(200) for i in range(len(arrays))]
        half = len(arrays) // 2
        arrays = [np.concatenate(pair) for pair in zip(arrays[:half], arrays[half:], strict=True)]
        with np.errstate(all="ignore"):
            arrays = [domain.get(name, lambda x: x)(x) for x in arrays]
            function, many = getattr(elementary_element, name), getattr(elementary, name)(*arrays)
            function = Host().compile_tree(function) if compiled else function
            one = [function(*xs) for xs in zip(*arrays, strict=True)]
        types = {function.nopython_signatures[0].return_type.name} if compiled else {type(y).__name__ for y in one}
        assert types == {many.dtype.name}, f"{name} must keep the type of its argument"
        same_bits(np.array(one, many.dtype), many, name)


@pytest.mark.parametrize("x", [0.9, 0.999, 0.5, 1e-3, 0.0])
def test_power(x):
    """Within a rounding for each of the multiplications, some of which double the error that came before."""
    for n in [0, 1, 2, 3, 7, 64, 1000, 12345]:
        exact = fractions.Fraction(x) ** n
        if exact == 0 or exact > fractions.Fraction(2.3e-308):
            assert math.isclose(elementary.power(x, n), float(exact), rel_tol=1.2e-16 * (2 * n + 1))


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 4095, 4096, 4097, 3 * 4096, 5 * 4096 + 17])
def test_tree_sum(n):
    terms = np.random.default_rng(n).normal(size=n)
    assert math.isclose(reductions.tree_sum(terms), math.fsum(terms), rel_tol=0, abs_tol=1e-14 * max(1, n))


def test_tree_sum_has_the_documented_order():
    """A plain sum would lose each 1 beside 1e16; here both stand in lane 1 and meet before."""
    terms = np.zeros(64)
    terms[0], terms[1], terms[33] = 1e16, 1.0, 1.0
    assert reductions.tree_sum(terms) == 1e16 + 2
    leaves = np.zeros(3 * 4096)  # the third leaf is carried up: (1e16 + 1) + 1 and not 1e16 + (1 + 1)
    leaves[0], leaves[4096], leaves[8192] = 1e16, 1.0, 1.0
    assert reductions.tree_sum(leaves) == 1e16
