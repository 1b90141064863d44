"""Proximal forms: against their definition, inside the step, and against scikit-learn on real data."""

import math
from dataclasses import fields

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import engine
from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.penalty import Projection
from pyopt.kernels.rules import RULES
from pyopt.kernels.spec import Rule
from pyopt.optim import OPTIMIZERS
from support.helpers import (
    GRADIENTS,
    LARGE,
    gradients,
    refused,
    run,
    same,
    same_bits,
    some_penalty,
    stepping,
    tame,
    wild,
)

pytestmark = pytest.mark.devices

ELEMENTS = {stem: kind for stem, kind in PENALTIES.items() if not kind.by_row}
SPARSE = [kind for kind in GRADIENTS.values() if some_penalty(kind).grad(np.full(1, 1e-300))[0] > 1e-3]  # a kink at 0


def steps_for(some):
    """Return steps up to just below the bound, or up to 3."""
    return [0.0, 1e-3, 0.3 * min(some.max_step(), 4.0), 0.999 * min(some.max_step(), 3.0)]


@pytest.mark.parametrize("kind", [kind for kind in PENALTIES.values() if hasattr(kind, "shrink")])
def test_rows_at_the_norm_where_the_factor_changes(kind, dtype, isa):
    """A norm that float32 would round to the bound is compared in float64: a row is scaled, or is not, everywhere."""
    p = tame((2000, 4), np.float64)
    p = (p / np.sqrt((p * p).sum(axis=1, keepdims=True))).astype(dtype)
    outside = np.sqrt((p.astype(np.float64) ** 2).sum(axis=1)) > 1
    assert 0 < outside.sum() < len(p)
    some = kind(1.0 if kind is pyopt.MaxNorm else 0.5)  # either changes at a norm of 1, with a step of 1
    options = {"lr": 1.0, "prox": some}
    got, want = (run(RULES["sgd"], [p], [[np.zeros_like(p)]], by=by, **options) for by in (isa, "reference"))
    same(got, want)


@pytest.mark.parametrize(
    ("real", "alpha", "scale"), [(np.float32, 2.0, 1e-45), (np.float32, 2.0, 1e-40), (np.float64, 2e160, 1e-150)]
)
def test_gradients_of_rows_whose_slope_overflows(isa, real, alpha, scale):
    """The gradient of a row depends on its direction alone, however short the row."""
    p = np.array([[1, 0, 0, 0], [3, 0, -4, 0], [0, 0, 0, 0], [0, 5e37, 0, 0]], real)
    p[:2] *= real(scale)
    options = {"lr": 1e-3, "penalty": pyopt.GroupLasso(alpha)}
    got, want = (run(RULES["sgd"], [p], [[np.zeros_like(p)]], by=by, **options) for by in (isa, "reference"))
    same(got, want)
    gradient = 2 * alpha * np.array([[1, 0, 0, 0], [0.6, 0, -0.8, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_allclose(options["penalty"].grad(p), gradient, rtol=1e-6)
    np.testing.assert_allclose(got["p[0]"][:3], -1e-3 * gradient[:3], rtol=1e-6)


# ---- the definition


@pytest.mark.parametrize("kind", GRADIENTS.values())
@pytest.mark.parametrize("place", [0, 3, 9])
def test_it_minimises_its_objective(kind, place):
    """No w of a fine grid is better than the proximal point."""
    some, scalars = some_penalty(kind, place), some_penalty(kind, place).scalars()
    p = np.concatenate([tame(60, np.float64, place) * 2, [0.0, 1e-9, -3.0]])
    grid = np.linspace(-8, 8, 160_001)
    values = kind.terms(grid, *scalars)
    for step in steps_for(some)[1:]:
        w = some.prox(p, step)
        mine = (w - p) ** 2 / (2 * step) + kind.terms(w, *scalars)
        best = [((grid - x) ** 2 / (2 * step) + values).min() for x in p]
        assert (mine <= np.array(best) + 1e-12).all(), (some, step)


@pytest.mark.parametrize("kind", GRADIENTS.values())
def test_the_subdifferential_contains_zero(kind):
    """Away from 0, (w - p) / step plus the slope at w is 0; at 0, p / step lies within the slopes at both sides."""
    some = some_penalty(kind, 4)
    p = np.concatenate([tame(500, np.float64, 1) * 2, [1e-6, -1e-6]])
    for step in steps_for(some)[1:]:
        w = some.prox(p, step)
        moved, zero = w != 0, w == 0
        residual = (w - p) / step + some.grad(w)
        np.testing.assert_allclose(residual[moved], 0, atol=1e-10)
        if kind in SPARSE:
            slope = some.grad(np.full(1, 1e-300))[0]
            assert zero.any()
            assert (np.abs(p[zero]) / step <= slope * (1 + 1e-12)).all()
        else:
            assert not zero.any()


def test_a_step_of_zero_changes_nothing(dtype):
    p = tame(300, dtype)
    for kind in GRADIENTS.values():
        same_bits(some_penalty(kind).prox(p, 0.0), p, kind.__name__)
    same_bits(pyopt.GroupLasso(0.5).prox(p.reshape(30, 10), 0.0), p.reshape(30, 10))


def test_zeros_are_positive(dtype):
    """Sparse formats and prints show what is left of -0.0."""
    for kind in SPARSE:
        w = some_penalty(kind).prox(np.array([-1e-3, 1e-3, -0.0], dtype), 0.3 * min(some_penalty(kind).max_step(), 1.0))
        same_bits(w, np.zeros(3, dtype), kind.__name__)


@pytest.mark.parametrize("shape", [(40, 7), (6, 5000), (3, 4, 5), (9,)])
def test_group_lasso_is_optimal(shape):
    """A row is zero where ||p|| <= step * alpha * sqrt(n), else (w - p) / step plus the slope at w is 0."""
    some, p, step = pyopt.GroupLasso(0.4), tame(shape, np.float64), 1.5
    p[::2] *= 0.4
    w = some.prox(p, step)
    rows, out = p.reshape(shape[0], -1), w.reshape(shape[0], -1)
    small = np.linalg.norm(rows, axis=1) <= step * 0.4 * math.sqrt(rows.shape[1])
    assert small.any()
    assert not small.all()
    assert not out[small].any()
    np.testing.assert_allclose(((w - p) / step + some.grad(w)).reshape(rows.shape)[~small], 0, atol=1e-12)


def test_max_norm_is_the_nearest_point(dtype):
    p = tame((50, 20), dtype)
    norms = np.linalg.norm(p.astype(np.float64), axis=1)
    w = pyopt.MaxNorm(4.0).prox(p, 1.0)
    same_bits(w[norms <= 4], p[norms <= 4])
    np.testing.assert_allclose(np.linalg.norm(w[norms > 4].astype(np.float64), axis=1), 4.0, rtol=1e-6)
    shrunk = np.broadcast_to((4 / norms)[norms > 4, None], w[norms > 4].shape)
    np.testing.assert_allclose(w[norms > 4] / p[norms > 4], shrunk, rtol=1e-6)


# ---- bits


@pytest.mark.parametrize("kind", ELEMENTS.values())
@pytest.mark.parametrize("n", [0, 1, 17, 1009])
@pytest.mark.devices(False)
def test_tile_has_the_bits_of_the_reference(kind, dtype, isa, n):
    p, step = wild(n, dtype, 1), np.abs(wild(n, dtype, 2))
    for place in range(3):
        some, got = some_penalty(kind, place), p.copy()
        name, size = f"penalties.{kind.stem}_prox", p.itemsize
        engine.sweep(instruction_sets.tiles(isa), name, (got, step), (size, size), (n,), some.scalars())
        with np.errstate(all="ignore"):
            want = kind.proximal(p, step, *map(dtype, some.scalars()))
        same_bits(got, want, f"{some}")


@pytest.mark.parametrize("metric", [None, "lr"])
def test_in_the_step(rule, dtype, isa, metric):
    params = [wild(n, dtype, n) for n in (40_009, 129, 0, 1)]
    grads = gradients(params, 2)
    for kind in ELEMENTS.values():
        some = some_penalty(kind)
        projects = isinstance(some, Projection)
        if metric is None and ((rule.prox_steps is not None and not some.separable) or (rule.norms and not projects)):
            continue
        options = {"prox": some, "metric": metric, "lr": 0.01, "penalty": pyopt.L2(0.1), "ema_decay": 0.9}
        want = run(rule, params, grads, **options)
        for threads in (1, 2):
            same(run(rule, params, grads, by=isa, threads=threads, **options), want, f"{some}, {threads} threads")


@pytest.mark.parametrize("some", [pyopt.GroupLasso(0.01), pyopt.MaxNorm(2.0)])
def test_by_row_in_the_step(rule, dtype, isa, some):
    shapes = [(300, 77), (3, 5001), (129,), (0, 4), (4, 0), (2, 3, 4), ()]
    params = [wild(math.prod(shape), dtype, i).reshape(shape) for i, shape in enumerate(shapes)]
    grads = gradients(params, 2)
    penalty = [pyopt.L1(0.1)] if rule.norms else [pyopt.GroupLasso(0.1), pyopt.L1(0.1)]
    options = {"prox": some, "metric": "lr", "penalty": penalty, "lr": 0.01, "ema_decay": 0.9,
               "shadow_dtype": "float16"}  # fmt: skip
    want = run(rule, params, grads, **options)
    for threads in (1, 2):
        same(run(rule, params, grads, by=isa, threads=threads, **options), want, f"{threads} threads")


def test_plain_descent_is_the_proximal_gradient_method(dtype, isa):
    for kind in ELEMENTS.values():
        some = some_penalty(kind)
        p, g = tame(LARGE, dtype), tame(LARGE, dtype, 1)
        want = some.prox(p - dtype(0.125) * g, 0.125)
        with stepping(isa, 2):
            pyopt.SGD([p], lr=0.125, prox=some).step([g])
        same_bits(p, want, kind.__name__)


# ---- joint forms


def test_l1_then_non_negative():
    p = tame(500, np.float64)
    q = p.copy()
    pyopt.SGD([p], lr=0.5, prox=[pyopt.L1(0.4), pyopt.NonNegative()]).step([np.zeros(500)])
    np.testing.assert_array_equal(p, np.maximum(q - 0.2, 0.0))


def test_a_convex_penalty_by_element_then_an_interval():
    """No w of a fine grid on the interval is better than what the step leaves."""
    convex = [kind for kind in GRADIENTS.values() if some_penalty(kind).separable]
    assert pyopt.HuberL1 in convex
    grid = np.linspace(-0.25, 0.75, 100_001)
    for kind in convex:
        some, p, step = some_penalty(kind, 5), tame(40, np.float64) * 2, 0.5
        q = p.copy()
        pyopt.SGD([p], lr=step, prox=[some, pyopt.Box(-0.25, 0.75)]).step([np.zeros(40)])
        for w, x in zip(p, q, strict=True):
            values = (grid - x) ** 2 / (2 * step) + kind.terms(grid, *some.scalars())
            mine = (w - x) ** 2 / (2 * step) + kind.terms(np.full(1, w), *some.scalars())[0]
            assert mine <= values.min() + 1e-12, some


def test_sparse_group_lasso():
    p = tame((30, 8), np.float64)
    want = pyopt.GroupLasso(1.4).prox(pyopt.L1(0.4).prox(p, 0.5), 0.5)
    pyopt.SGD([p], lr=0.5, prox=(pyopt.L1(0.4), pyopt.GroupLasso(1.4))).step([np.zeros_like(p)])
    same_bits(p, want)
    assert 0 < (~p.any(axis=1)).sum() < 30


@pytest.mark.parametrize(
    "proxes",
    [
        [pyopt.L1(0.1), pyopt.L1(0.1)],
        [pyopt.NonNegative(), pyopt.L1(0.1)],
        [pyopt.MCP(0.1), pyopt.NonNegative()],
        [pyopt.GroupLasso(0.1), pyopt.L1(0.1)],
        [pyopt.L2(0.1), pyopt.GroupLasso(0.1)],
        [pyopt.L1(0.1), pyopt.MaxNorm(0.1)],
        [pyopt.L1(0.1), pyopt.Box(0, 1), pyopt.NonNegative()],
    ],
)
def test_sums_without_a_known_form_are_refused(proxes):
    with refused(ValueError, "prox=", type(proxes[0]).__name__, "known for"):
        pyopt.SGD([np.ones(3)], prox=proxes)


# ---- what is refused


def test_a_step_beyond_the_bound():
    for some in (pyopt.MCP(0.5, 2.0), pyopt.SCAD(0.5, 3.0), pyopt.LogSum(0.5, 1.0)):
        p = np.ones(3)
        for step in (2.0, 100.0):
            with refused(ValueError, repr(some), f"{some.max_step():g}", "<"):
                some.prox(p, step)
        opt = pyopt.SGD([p], lr=0.1, prox=some)
        opt.step([p.copy()])
        opt.param_groups[0]["lr"] = 2.0
        with refused(ValueError, repr(some), opt=opt, arrays=[p]):
            opt.step([np.ones(3)])


def test_a_prox_that_needs_one_step_for_all(rule):
    for some in (pyopt.MCP(0.1), pyopt.SCAD(0.1), pyopt.LogSum(0.01), pyopt.GroupLasso(0.1)):
        if rule.prox_steps is None:
            pyopt.SGD([np.ones(3)], prox=some)
        else:
            cls = OPTIMIZERS[rule.name]
            with refused(ValueError, repr(some), rule.name, "metric='lr'"):
                cls([np.ones(3)], prox=some)
            cls([np.ones(3)], prox=some, metric="lr").step([np.ones(3)])


@pytest.mark.parametrize("wrong", ["rule", True, 1.0, "LR"])
def test_metric(wrong):
    with refused(ValueError, f"metric={wrong!r}", "lr"):
        pyopt.SGD([np.ones(3)], prox=pyopt.L1(0.1), metric=wrong)


@pytest.mark.parametrize("momentum", [1.0, 1.5])
@pytest.mark.parametrize("cls", [pyopt.SGD, pyopt.Momentum, pyopt.RMSprop])
def test_momentum_without_a_long_run(cls, momentum):
    p = np.ones(3)
    opt = cls([p], momentum=momentum, prox=pyopt.L1(0.1))
    with refused(ValueError, "momentum", "< 1", opt=opt, arrays=[p]):
        opt.step([np.ones(3)])
    opt.param_groups[0]["metric"] = "lr"
    opt.step([np.ones(3)])


def test_rows_need_their_order():
    with refused(ValueError, "params[0]", "ascontiguousarray"):
        pyopt.SGD([np.ones((3, 4), order="F")], prox=pyopt.MaxNorm(1.0))
    with refused(TypeError, "prox='l1'", "Penalty"):
        pyopt.SGD([np.ones(3)], prox="l1")


def test_prox_wants_steps_that_are_none_below_zero():
    for step in (-1.0, np.nan, [0.1, -0.1, 0.1]):
        with refused(ValueError, "step=", ">= 0"):
            pyopt.L1(0.1).prox(np.ones(3), step)
    with refused(ValueError, "step=", "a number"):
        pyopt.GroupLasso(0.1).prox(np.ones((3, 2)), np.ones((3, 2)))


# ---- real data: the sparse fits of scikit-learn, from full batches at a constant rate

FITS = {
    "sgd": (pyopt.SGD, {"lr": 0.2}, 4000),
    "sgd with momentum": (pyopt.SGD, {"lr": 0.05, "momentum": 0.8}, 4000),
    "sgd with nesterov": (pyopt.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True}, 4000),
    "sgd with dampening": (pyopt.SGD, {"lr": 0.2, "momentum": 0.6, "dampening": 0.5}, 4000),
    "momentum": (pyopt.Momentum, {"lr": 0.05, "momentum": 0.8}, 4000),
    "adagrad": (pyopt.Adagrad, {"lr": 5.0}, 20000),
    "rmsprop": (pyopt.RMSprop, {"lr": 0.2}, 8000),
    "adam": (pyopt.Adam, {"lr": 0.2}, 8000),
    "amsgrad": (pyopt.Adam, {"lr": 2.0, "amsgrad": True}, 20000),
}


@pytest.mark.parametrize("kind", ["lasso", "elastic net"])
@pytest.mark.parametrize("fit", FITS)
def test_scikit_learn_on_diabetes(fit, kind):
    linear_model = pytest.importorskip("sklearn.linear_model")
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_diabetes(return_X_y=True)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), y - y.mean()
    alpha = 2.0
    if kind == "lasso":
        model, prox = linear_model.Lasso(alpha, tol=1e-12, max_iter=10**6, fit_intercept=False), pyopt.L1(alpha)
    else:
        model = linear_model.ElasticNet(alpha, l1_ratio=0.7, tol=1e-12, max_iter=10**6, fit_intercept=False)
        prox = pyopt.ElasticNet(alpha, 0.7)
    want = model.fit(x, y).coef_
    cls, hypers, steps = FITS[fit]
    w = np.zeros(10)
    opt = cls([w], prox=prox, **hypers)
    for _ in range(steps):
        opt.step([x.T @ (x @ w - y) / len(y)])
    assert ((w != 0) == (want != 0)).all(), (w, want)
    assert (want == 0).sum() >= 2 or kind != "lasso"
    np.testing.assert_allclose(w, want, atol=1e-6)


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if not rule.norms], ids=lambda rule: rule.name)
def test_every_rule_says_how_far_it_goes(rule):
    """The step of the proximal form is how far a constant gradient of 1 moves p, in the long run."""
    p = np.zeros(1)
    cls = OPTIMIZERS[rule.name]
    hypers = {"momentum": 0.75} if any(h.name == "momentum" for h in rule.hypers) else {}
    opt = cls([p], lr=0.125, weight_decay=0.0, **hypers)
    for _ in range(3000):
        opt.step([np.ones(1)])
    before = p.copy()
    opt.step([np.ones(1)])
    h = opt.rule.Values(**{name: opt.param_groups[0][name] for name in opt.rule.Values._fields})
    step = rule.prox_step(h)
    if rule.prox_steps is not None:
        scalars = dict(zip(rule.scalar_names, rule.scalars(h, 3001, 0.0)[0], strict=True))
        named = scalars | {"step": step} | {s.name: opt.state[0].get(s.name) for s in rule.states}
        step = rule.prox_steps(*(named[name] for name in rule.prox_steps_arguments))[0]
    assert math.isclose(before[0] - p[0], step, rel_tol=1e-6)


def test_every_rule_with_a_step_of_its_own_is_fitted():
    """Where the step is lr, as for Lion, the fit would say nothing."""
    plain = next(field.default for field in fields(Rule) if field.name == "prox_step")
    fitted = {cls.rule.kernel for cls, _, _ in FITS.values()}
    for rule in RULES.values():
        own = rule.prox_steps is not None or rule.prox_step is not plain
        assert not own or rule.kernel in fitted, f"{rule.name}: no row in FITS of tests/test_prox.py"
