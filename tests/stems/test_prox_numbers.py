"""Proximal forms and values as numbers: against exact arithmetic, at the bound of the step, and at all extremes."""

import decimal
import math
from decimal import Decimal

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import engine
from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.penalties import PENALTIES
from support.helpers import on_one, refused, same_bits, tame, wild

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and NaN, on purpose

DIGITS = decimal.Context(prec=60)

# the slope of each penalty at w > 0 and its value at w >= 0, from the papers, apart from all code of pyopt
SLOPES = {
    "l1": lambda w, alpha: alpha,
    "l2": lambda w, alpha: 2 * alpha * w,
    "elastic_net": lambda w, alpha, ratio: alpha * ratio + alpha * (1 - ratio) * w,
    "huber_l1": lambda w, alpha, delta: alpha * min(w / delta, 1),
    "mcp": lambda w, alpha, gamma: max(alpha - w / gamma, 0),
    "scad": lambda w, alpha, gamma: alpha if w <= alpha else max(gamma * alpha - w, 0) / (gamma - 1),
    "log_sum": lambda w, alpha, eps: alpha / (w + eps),
}
VALUES = {
    "l1": lambda w, alpha: alpha * w,
    "l2": lambda w, alpha: alpha * w * w,
    "elastic_net": lambda w, alpha, ratio: alpha * ratio * w + alpha * (1 - ratio) * w * w / 2,
    "huber_l1": lambda w, alpha, delta: alpha * (w * w / (2 * delta) if w <= delta else w - delta / 2),
    "mcp": lambda w, alpha, gamma: alpha * w - w * w / (2 * gamma) if w <= gamma * alpha else gamma * alpha * alpha / 2,
    "scad": lambda w, alpha, gamma: (
        alpha * w
        if w <= alpha
        else (2 * gamma * alpha * w - w * w - alpha * alpha) / (2 * (gamma - 1))
        if w <= gamma * alpha
        else alpha * alpha * (gamma + 1) / 2
    ),
    "log_sum": lambda w, alpha, eps: alpha * (1 + w / eps).ln(),
}
# exact in float32, and so is what scalars() makes of them
COEFFICIENTS = {
    "l1": [(0.5,), (0.0,), (7.25,)],
    "l2": [(0.5,), (0.0,), (7.25,)],
    "elastic_net": [(0.5, 0.25), (3.0, 0.875), (0.5, 1.0), (0.5, 0.0)],
    "huber_l1": [(0.5, 0.25), (3.0, 2.0**-10), (0.0, 1.0)],
    "mcp": [(0.5, 3.25), (2.0, 1.03125), (0.0, 2.0), (0.125, 40.0)],
    "scad": [(0.5, 3.75), (2.0, 2.03125), (0.0, 3.0), (0.125, 40.0)],
    "log_sum": [(0.5, 1.0), (0.5, 0.0625), (0.25, 12.0), (2.0**-60, 2.0**-40), (0.0, 1.0)],
}
CASES = [pytest.param(PENALTIES[stem], row, id=f"{stem}-{row}") for stem, rows in COEFFICIENTS.items() for row in rows]
ROUNDED = {"mcp": [(0.3, 3.3), (0.7, 1.9)], "scad": [(0.3, 4.3), (0.7, 2.3)], "log_sum": [(0.3, 0.7), (0.7, 0.1)]}
ALL = [*CASES, *(pytest.param(PENALTIES[stem], row, id=f"{stem}-{row}") for stem in ROUNDED for row in ROUNDED[stem])]
SPARSE = {"l1", "elastic_net", "mcp", "scad", "log_sum"}


def exact(stem, coefficients, p, step):
    """Return the proximal point of p >= 0 in 60 digits, by halving: the objective's slope rises with w."""
    slope, low, high = SLOPES[stem], Decimal(0), p
    if step == 0 or slope(Decimal("1e-9999"), *coefficients) * step >= p:
        return p if step == 0 else low
    while high - low > high * Decimal("1e-25"):
        middle = (low + high) / 2
        low, high = (low, middle) if (middle - p) + step * slope(middle, *coefficients) > 0 else (middle, high)
    return high


def steps_below(bound, dtype):
    """Return steps of all sizes up to the largest that rounds to no more than the bound."""
    if bound == math.inf:
        return [dtype(x) for x in (0, 1e-6, 0.03, 0.5, 1, 3, 40, 1e6)]
    shares = [dtype(bound * x) for x in (0, 1e-6, 0.03, 0.5, 0.9, 0.999, 1 - 1e-6)]
    return [*shares, np.nextafter(dtype(bound), dtype(0))]


def points(some, step, dtype):
    """Return weights of all sizes, and around every place where the proximal form changes its shape."""
    c = [float(x) for x in vars(some).values()]
    t, scale = float(step) * c[0], max(c)
    around = [t, *(t / x for x in c if x), *c, *(t + x for x in c), c[0] * c[-1], c[0] * c[-1] + t]
    near = [
        dtype(x) * dtype(1 + k * np.finfo(dtype).eps) for x in around if 0 < x < 1e30 for k in (-3, -1, 0, 1, 3, 99)
    ]
    far = [dtype(scale * x) for x in (1e-30, 1e-7, 1e-3, 1e3, 1e9, 1e20)]
    return np.concatenate([np.abs(tame(12, dtype, 5)) * dtype(2 * scale), near, far]).astype(dtype)


@pytest.mark.parametrize(("kind", "coefficients"), CASES)
def test_it_is_exact_but_for_the_last_bits(kind, coefficients, dtype):
    """What is returned is the proximal point of a weight and a step that differ by some units in the last place."""
    some = kind(*coefficients)
    given = [Decimal(x) for x in coefficients]
    scalars = [dtype(x) for x in some.scalars()]
    small = 16 * Decimal(float(np.finfo(dtype).eps))
    least = Decimal(float(np.finfo(dtype).smallest_subnormal)) * 4
    limit = Decimal(some.max_step())
    with decimal.localcontext(DIGITS):
        for step in steps_below(some.max_step(), dtype):
            p = points(some, step, dtype)
            got = kind.proximal(p, np.full_like(p, step), *scalars)
            s = Decimal(float(step))
            for x, w in zip(p, got, strict=True):
                a = Decimal(float(x))
                low = exact(kind.stem, given, a * (1 - small), min(s * (1 + small), limit)) * (1 - small) - least
                high = exact(kind.stem, given, a * (1 + small), s * (1 - small)) * (1 + small) + least
                assert low <= Decimal(float(w)) <= high, f"{some}: prox({x!r}, {step!r}) = {w!r}, not {high:.20g}"


@pytest.mark.parametrize(("kind", "coefficients"), ALL)
def test_it_shrinks(kind, coefficients, dtype):
    """It keeps the sign, never grows, is odd, and rises with the weight, up to the last step below the bound."""
    some = kind(*coefficients)
    scalars = [dtype(x) for x in some.scalars()]
    p = wild(4000, dtype, 3)
    p = np.sort(np.abs(p[np.isfinite(p)]))
    for step in steps_below(some.max_step(), dtype):
        p = np.sort(np.concatenate([p, points(some, step, dtype)]))
        steps = np.full_like(p, step)
        w = kind.proximal(p, steps, *scalars)
        assert ((w >= 0) & (w <= p)).all(), (some, step)
        same_bits(kind.proximal(-p, steps, *scalars)[w > 0], -w[w > 0], f"{some}, {step}")
        slack = 16 * np.finfo(dtype).eps * w[:-1]
        assert (np.diff(w) >= -slack).all(), (some, step)


@pytest.mark.parametrize(("kind", "coefficients"), ALL)
def test_ends(kind, coefficients, dtype):
    some = kind(*coefficients)
    same_bits(some.prox(tame(500, dtype), 0.0), tame(500, dtype), f"{some}, no step")
    p = np.array([np.nan, np.inf, -np.inf, 1.5, -3.25, 0.0, -0.0], dtype)
    for step in steps_below(some.max_step(), dtype):
        w = some.prox(p, step)
        same_bits(w[:3], p[:3], f"{some}, {step}")
        assert (w[5:] == 0).all()
        if step == 0:
            assert (w[3:] == p[3:]).all(), some
        if kind.stem in SPARSE:
            same_bits(w[w == 0], np.zeros((w == 0).sum(), dtype), f"{some}, {step}")


def test_no_step_leaves_a_weight_though_sums_would_round(dtype):
    """alpha + (p - alpha) rounds twice where the last digit of alpha is half of that of p."""
    eps = np.finfo(dtype).eps
    p = dtype(1.625) + np.arange(100, dtype=dtype) * eps
    some = pyopt.SCAD(0.5 + float(eps) / 2, 8.0)
    assert (dtype(some.alpha) + (p - dtype(some.alpha)) != p).any()
    same_bits(some.prox(p, 0.0), p)


def test_a_step_just_below_the_bound_may_round_to_it():
    """gamma = 3.3 and the next smaller float64 are one number in float32."""
    for kind, gamma in ((pyopt.MCP, 3.3), (pyopt.SCAD, 4.3)):
        some = kind(0.5, gamma)
        step = np.nextafter(some.max_step(), 0)
        assert np.float32(step) == np.float32(some.max_step())
        p = np.array([0.1, 0.5, -1.5, 1.6, -2.1, 3.0], np.float32)
        w = some.prox(p, step)
        assert ((w * np.sign(p) >= 0) & (np.abs(w) <= np.abs(p))).all(), w
        with refused(ValueError, repr(some), "< "):
            some.prox(p, some.max_step())


@pytest.mark.parametrize(("kind", "coefficients"), CASES)
def test_the_bound_is_where_convexity_ends(kind, coefficients):
    """Up to the bound the objective is convex, so that it has one minimum; beyond, it is not."""
    some = kind(*coefficients)
    grid = np.linspace(0, 4 * (max(coefficients) or 1.0) * max(1.0, coefficients[0]), 2001)
    h = grid[1]
    values = kind.terms(grid, *some.scalars())
    bends = np.diff(values, 2) / (h * h)
    bound = some.max_step()
    if bound == math.inf or coefficients[0] == 0:
        assert bends.min() >= -1e-9
    else:
        assert 1 / (0.9 * bound) + bends.min() > 0
        assert 1 / (1.1 * bound) + bends.min() < 0


@pytest.mark.parametrize(("kind", "coefficients"), CASES)
def test_value_by_its_formula(kind, coefficients, dtype):
    """Each term is right in all its digits, also of weights far below the coefficients."""
    some = kind(*coefficients)
    p = np.concatenate([tame(40, dtype, 2) * dtype(2 * max(coefficients)), points(some, dtype(0.5), dtype)])
    terms = kind.terms(p, *map(dtype, some.scalars()))
    with decimal.localcontext(DIGITS):
        given = [Decimal(x) for x in coefficients]
        want = [VALUES[kind.stem](abs(Decimal(float(x))), *given) for x in p]
        np.testing.assert_allclose(terms, [float(x) for x in want], rtol=2e-15, atol=1e-300)
        assert math.isclose(some.value(p), float(sum(want)), rel_tol=1e-14)


@pytest.mark.parametrize(("kind", "coefficients"), CASES)
def test_gradient_by_its_formula(kind, coefficients, dtype):
    some = kind(*coefficients)
    p = np.concatenate([tame(40, dtype, 2) * dtype(2 * max(coefficients)), [0.0, -0.0]]).astype(dtype)
    given = [Decimal(x) for x in coefficients]
    with decimal.localcontext(DIGITS):
        want = [float(SLOPES[kind.stem](abs(Decimal(float(x))), *given)) * np.sign(x) for x in p]
    # where the slope runs out, what is left of it is as exact as alpha
    np.testing.assert_allclose(
        some.grad(p), want, rtol=8 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps * coefficients[0]
    )


# ---- bits

WILD = {
    **COEFFICIENTS,
    "l1": [(0.3,), (0.0,), (1e-42,), (1e39,)],
    "l2": [(0.3,), (1e-42,), (1e39,)],
    "elastic_net": [(0.3, 0.7), (0.0, 0.5), (1e39, 0.5), (1e-42, 0.1)],
    "huber_l1": [(0.3, 0.7), (1e20, 1.2e-38), (0.3, 1e38)],
    "mcp": [(0.3, 1.7), (0.3, 3.3), (1e-3, 1.0 + 1e-9), (1e30, 1e30)],
    "scad": [(0.3, 2.7), (0.3, 4.3), (0.5 + 2.0**-24, 8.0), (1e-3, 2.0 + 1e-9), (1e30, 1e30)],
    "log_sum": [(0.3, 0.7), (1e-30, 1.2e-38), (1e30, 1e30)],
    "box": [(-0.3, 0.7), (-np.inf, np.inf), (0.0, 0.0), (-0.0, np.inf), (-np.inf, -0.0), (-1e-42, 1e39), (0.1, 0.1)],
    "non_negative": [()],
}
ROWS = [pytest.param(PENALTIES[stem], row, id=f"{stem}-{row}") for stem, rows in WILD.items() for row in rows]


def wild_pairs(some, n, dtype):
    """Return weights and steps of all kinds: steps of nothing, tiny, infinite and NaN ones, and those at the bound."""
    info, bound = np.finfo(dtype), dtype(min(some.max_step(), 1e30))
    below = np.nextafter(bound, dtype(0))
    kinds = [0, -0.0, info.smallest_subnormal, info.tiny, np.inf, np.nan, info.max, bound, below]
    rng, kinds = np.random.default_rng(9), np.array(kinds, dtype)
    steps = np.where(rng.random(n) < 0.5, rng.choice(kinds, n), np.abs(wild(n, dtype, 8)))
    near = points(some, min(below, dtype(1e3)), dtype) if some.scalars() else wild(9, dtype, 7)
    every = np.tile(np.concatenate([near, -near]), len(kinds))
    return np.concatenate([wild(n, dtype, 1), every]), np.concatenate([steps, np.repeat(kinds, 2 * len(near))])


@pytest.mark.parametrize(("kind", "coefficients"), ROWS)
def test_all_forms_have_the_same_bits(kind, coefficients, dtype):
    some = kind(*coefficients)
    scalars = [dtype(x) for x in some.scalars()]
    p, steps = wild_pairs(some, 2001, dtype)
    want = kind.proximal(p, steps, *scalars)
    assert want.dtype == dtype
    form = on_one("penalties", kind.stem, f"{kind.stem}_prox")
    one_by_one = [form(x, s, *scalars) for x, s in zip(p, steps, strict=True)]
    assert {type(w) for w in one_by_one} == {dtype}
    same_bits(np.array(one_by_one), want, f"{some} on one number")
    for isa in instruction_sets.available():
        got, size = p.copy(), p.itemsize
        name = f"penalties.{kind.stem}_prox"
        engine.sweep(instruction_sets.tiles(isa), name, (got, steps), (size, size), (p.size,), some.scalars())
        same_bits(got, want, f"{some} on {isa}")


@pytest.mark.parametrize(("kind", "coefficients"), [row for row in ROWS if row.values[0].stem in SLOPES])
def test_gradients_and_terms_have_the_same_bits(kind, coefficients, dtype):
    some, n = kind(*coefficients), 3001
    with np.errstate(all="ignore"):
        scalars = [dtype(x) for x in some.scalars()]
    extremes = points(some, dtype(0.5), dtype)
    p, g = np.concatenate([wild(n - len(extremes), dtype, 1), extremes]), wild(n, dtype, 2)
    want, terms = kind.gradient(p, g, *scalars), kind.terms(p, *scalars)
    form = on_one("penalties", kind.stem, f"{kind.stem}_gradient")
    same_bits(np.array([form(x, y, *scalars) for x, y in zip(p, g, strict=True)]), want, f"{some} on one number")
    for isa in instruction_sets.available():
        table, got, size, out = instruction_sets.tiles(isa), g.copy(), p.itemsize, np.empty(n)
        engine.sweep(table, f"penalties.{kind.stem}_gradient", (p, got), (size, size), (n,), some.scalars())
        same_bits(got, want, f"{some} on {isa}")
        engine.sweep(table, f"penalties.{kind.stem}_value", (p, out), (size, 8), (n,), some.scalars())
        same_bits(out, terms, f"terms of {some} on {isa}")


# ---- projections, errors


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 2.0), (0.0, np.inf), (-0.0, np.inf), (-np.inf, -0.0), (-np.inf, -0.5), (0.25, 0.25)]
)
def test_box_is_the_nearest_point(low, high, dtype):
    p = wild(2000, dtype)
    for step in (0.0, 0.5, 1e6):
        w = pyopt.Box(low, high).prox(p, step)
        nan = np.isnan(p)
        assert np.isnan(w[nan]).all()
        assert ((w >= low) & (w <= high))[~nan].all()
        inside = (p > low) & (p < high)
        same_bits(w[inside], p[inside])
        assert (w[~inside & ~nan & (p <= low)] == low).all()
        assert (w[~inside & ~nan & (p >= high)] == high).all()
        assert not np.signbit(w[w == 0]).any() or low < 0 < high


def test_non_negative_is_the_box_from_zero_on(dtype):
    p = wild(2000, dtype)
    w = pyopt.NonNegative().prox(p, 0.5)
    same_bits(w, pyopt.Box(0.0, np.inf).prox(p, 0.5))
    assert not np.signbit(w[~np.isnan(w)]).any()


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (np.inf, np.inf, ["low=inf", "[-inf, inf)"]),
        (-np.inf, -np.inf, ["high=-inf", "(-inf, inf]"]),
        (np.nan, 1.0, ["low=nan", "[-inf, inf)"]),
        (0.0, np.nan, ["high=nan", "(-inf, inf]"]),
        (1.0, 0.5, ["low=1.0", "high=0.5", "<="]),
    ],
)
def test_boxes_that_are_none(low, high, words):
    with refused(ValueError, *words):
        pyopt.Box(low, high)


@pytest.mark.parametrize("kind", [pyopt.HuberL1, pyopt.LogSum])
@pytest.mark.parametrize("width", [0.0, 1e-60, -1.0])
def test_widths_are_normal_numbers_in_float32(kind, width):
    """A smaller one would be 0 there, and 0 / 0 no slope."""
    name = "delta" if kind is pyopt.HuberL1 else "eps"
    with refused(ValueError, f"{name}={width!r}", "finite and >= 1.17549e-38"):
        kind(0.5, width)
    assert np.isfinite(kind(0.5, float(np.finfo(np.float32).tiny)).grad(np.zeros(3, np.float32))).all()


@pytest.mark.parametrize(
    ("p", "error", "words"),
    [
        ([1.0, 2.0], TypeError, ["p is list", "NumPy array"]),
        (np.arange(3), TypeError, ["p has dtype", "int64", "float32 or float64"]),
        (np.ones(3, np.float16), TypeError, ["p has dtype", "float16", "float32 or float64"]),
        (np.ma.masked_array([1.0], [True]), TypeError, ["p is a masked array"]),
    ],
)
def test_weights_that_are_none(p, error, words):
    for some in (pyopt.L1(0.5), pyopt.MCP(0.5, 2.0), pyopt.GroupLasso(0.5)):
        with refused(error, *words):
            some.prox(p, 0.5)
        with refused(error, *words):
            some.grad(p)
    with refused(error, *words):
        pyopt.Box(0.0, 1.0).prox(p, 0.5)


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ("fast", TypeError, ["step='fast'", ">= 0"]),
        (None, TypeError, ["step=None", ">= 0"]),
        (True, TypeError, ["step=True", ">= 0"]),
        (1j, TypeError, ["step=1j", ">= 0"]),
        (-0.5, ValueError, ["step=-0.5", ">= 0"]),
        (math.nan, ValueError, ["step=nan", ">= 0"]),
        (math.inf, ValueError, ["a proximal step of inf", "must be < "]),
        (np.array([0.1, math.nan, 0.1]), ValueError, ["nan", ">= 0"]),
        (np.ones(4), ValueError, ["(4,)", "(3,)"]),
        (np.ones((3, 3)), ValueError, ["(3, 3)", "(3,)"]),
    ],
)
def test_steps_that_are_none(step, error, words):
    for some in (pyopt.L1(0.5), pyopt.MCP(0.5, 2.0), pyopt.NonNegative()):
        with refused(error, *words):
            some.prox(np.ones(3), step)


def test_prox_leaves_its_arguments_alone(dtype):
    p = tame((4, 6), dtype)[:, ::2]
    steps = np.abs(tame((4, 3), np.float64, 1)) * 0.1
    before = p.copy(), steps.copy()
    for kind, coefficients in (case.values for case in CASES):
        some = kind(*coefficients)
        if some.max_step() > 0.5:
            w = some.prox(p, steps)
            assert (w.shape, w.dtype) == (p.shape, p.dtype)
            assert not np.shares_memory(w, p)
            for at in np.ndindex(p.shape):
                assert w[at] == some.prox(p[at].reshape(1), steps[at])[0], (some, at)
    same_bits(p, before[0])
    same_bits(steps, before[1])


def test_every_penalty_by_element_is_compared():
    elements = {stem for stem, kind in PENALTIES.items() if not kind.by_row}
    assert set(WILD) == elements
    assert set(SLOPES) == set(VALUES) == set(COEFFICIENTS) == elements - {"box", "non_negative"}
