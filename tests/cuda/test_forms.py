"""Functions on one element in plain Python, one NumPy scalar after another, against the reference, bit by bit."""

import itertools

import numpy as np
import pytest

from pyopt.kernels.cuda.device.intrinsics import Host
from pyopt.kernels.losses import ELEMENTWISE
from pyopt.kernels.losses import softmax_cross_entropy as softmax
from pyopt.kernels.losses import softmax_cross_entropy_cuda as pieces
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.rules import RULES
from support.helpers import GRADIENTS, on_one, same_bits, some_penalty, tame, variants, wild
from support.losses import OPTIONS, hard_logits, inputs, labels

N = 400
KERNELS = sorted({rule.kernel for rule in RULES.values()})


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and NaN, on purpose
@pytest.mark.parametrize("stem", KERNELS)
def test_rules(stem, dtype):
    rule = RULES[stem]
    form = on_one("rules", stem, stem)
    for hypers in variants(rule):
        on = [state.when is None or bool(hypers[state.when]) for state in rule.states]
        arrays = [wild(N, dtype, i) if i < 2 or on[i - 2] else None for i in range(2 + len(on))]
        for t, carry in ((1, 0.0), (5, 4.0)):
            scalars = [dtype(x) for x in rule.scalars(rule.Values(**hypers), t, carry)[0]]
            scalars += [dtype(0.875)] * (len(rule.norm_scalar_names) + rule.decays)
            want = rule.reference(*arrays, *scalars)
            rows = [form(*(None if a is None else a[i] for a in arrays), *scalars) for i in range(N)]
            for j, column in enumerate(zip(*rows, strict=True)):
                label = f"{stem}, result {j}, step {t}, {hypers}"
                if want[j] is None:
                    assert set(column) == {None}, label
                else:
                    assert {type(x) for x in column} == {dtype}, f"{label}: a result in another type"
                    same_bits(np.array(column), want[j], label)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("stem", sorted(GRADIENTS))
def test_gradients_and_values(stem, dtype):
    form, value = on_one("penalties", stem, f"{stem}_gradient"), on_one("penalties", stem, f"{stem}_value")
    p, g = wild(N, dtype, 1), wild(N, dtype, 2)
    for place in range(3):
        penalty = some_penalty(PENALTIES[stem], place)
        scalars = [dtype(x) for x in penalty.scalars()]
        terms = [value(x, *scalars) for x in p]
        assert {type(x) for x in terms} == {np.float64}
        same_bits(np.array(terms), penalty.terms(p, *scalars), f"terms of {penalty}")
        got = [form(p[i], g[i], *scalars) for i in range(N)]
        assert {type(x) for x in got} == {dtype}
        same_bits(np.array(got), penalty.gradient(p, g, *scalars), f"{penalty}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("stem", sorted(stem for stem, kind in PENALTIES.items() if not kind.by_row))
def test_proximal_forms(stem, dtype):
    form = on_one("penalties", stem, f"{stem}_prox")
    p, step = wild(N, dtype, 1), np.abs(wild(N, dtype, 2))
    for place in range(3):
        penalty = some_penalty(PENALTIES[stem], place)
        scalars = [dtype(x) for x in penalty.scalars()]
        got = [form(p[i], step[i], *scalars) for i in range(N)]
        assert {type(x) for x in got} == {dtype}
        same_bits(np.array(got), penalty.proximal(p, step, *scalars), f"{penalty}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("stem", sorted({rule.kernel for rule in RULES.values() if rule.steps}))
def test_steps(stem, dtype):
    rule = RULES[stem]
    form = on_one("rules", stem, f"{stem}_steps")
    for hypers in variants(rule):
        on = {s.name: s.when is None or bool(hypers[s.when]) for s in rule.states}
        named = {name: wild(N, dtype, i) if flag else None for i, (name, flag) in enumerate(on.items())}
        given = [named[name] if name in named else dtype(0.3 + k) for k, name in enumerate(rule.steps_arguments)]
        got = [form(*(a[i] if isinstance(a, np.ndarray) else a for a in given)) for i in range(N)]
        assert {type(x) for x in got} == {dtype}
        same_bits(np.array(got), rule.steps(*given), f"{stem} {hypers}")


@pytest.mark.parametrize("stem", sorted(stem for stem, kind in PENALTIES.items() if kind.by_row))
def test_factors_of_rows(stem):
    kind = PENALTIES[stem]
    for name in ("slope", "shrink"):
        if not hasattr(kind, name):
            continue
        form = on_one("penalties", stem, f"{stem}_{name}", "cuda")
        scalars = [np.float64(0.3), *map(np.float64, some_penalty(kind).scalars())][name == "slope" :]
        for squares in (0.0, 1e-300, 0.01, 1.0, 7.0, 1e300):
            want = getattr(kind, name)(squares, 7, *scalars)
            assert form(np.float64(squares), np.float64(7), *scalars) == want, (name, squares)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.compiled)])
@pytest.mark.parametrize("stem", sorted(ELEMENTWISE))
def test_losses(stem, dtype, compiled):
    form = on_one("losses", stem, stem)
    form = Host().adopt(form) if compiled else form
    more = [np.abs(tame(N, dtype, 4))] if stem == "binary_cross_entropy" else []
    for make, options in itertools.product((tame, wild), OPTIONS[stem]):
        arrays = [*inputs(stem, N, dtype, make), *more]
        scalars = [dtype(x) for x in ELEMENTWISE[stem].scalars(0.7, **options)]
        terms, gradients = zip(*(form(*(a[i] for a in arrays), *scalars) for i in range(N)), strict=True)
        if compiled:
            assert [x.name for x in form.nopython_signatures[0].return_type] == ["float64", dtype.__name__]
        else:
            assert {type(x) for x in terms} == {np.float64}
            assert {type(x) for x in gradients} == {dtype}
        want = ELEMENTWISE[stem].reference(*arrays, *scalars)
        same_bits(np.array(terms), want[0], f"terms of {stem}, {options}")
        same_bits(np.array(gradients, dtype), want[1], f"gradient of {stem}, {options}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("smooth", [False, True])
def test_softmax_in_pieces(dtype, smooth):
    rows, classes = 30, 40
    z, target = hard_logits((rows, classes), dtype), labels(rows, classes)
    share, weight = np.abs(tame(classes, dtype, 3)), np.abs(tame(rows, dtype, 4))
    hot, factor, mass_of_share = np.abs(tame(rows, dtype, 5)), dtype(0.3), dtype(3.5)
    terms, want = softmax.reference(z, target, hot, weight, share, factor, mass_of_share, smooth)
    got, values = np.empty_like(z), np.empty(rows)
    for i in range(rows):
        top, k = z[i].max(), target[i]
        d = np.array([pieces.exponential(x, top) for x in z[i]])
        dot = np.array([pieces.smoothed(share[j], z[i, j], top) for j in range(classes)])
        total, dot = softmax.lane_sum(d[None])[0], softmax.lane_sum(dot[None])[0] if smooth else dtype(0)
        mass = pieces.mass(hot[i], weight[i], mass_of_share) if smooth else hot[i]
        scale = pieces.scale(factor, mass, total)
        none = dtype(0)
        for j in range(classes):
            got[i, j] = pieces.slope(d[j], scale, factor, weight[i], share[j] if smooth else none)
        got[i, k] = pieces.label_slope(got[i, k], factor, hot[i])
        values[i] = pieces.term(mass, total, pieces.gap(hot[i], z[i, k], top), weight[i], dot)
    same_bits(got, want)
    same_bits(values, terms)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_soft_softmax_in_pieces(dtype):
    rows, classes = 30, 40
    z, target = hard_logits((rows, classes), dtype), np.abs(tame((rows, classes), dtype, 2))
    share, keep, weight = (np.abs(tame(n, dtype, n)) for n in (classes, classes, rows))
    factor = dtype(0.3)
    terms, want = softmax.reference_soft(z, target, weight, keep, share, factor)
    for i in range(rows):
        top = z[i].max()
        d = np.array([pieces.exponential(x, top) for x in z[i]])
        q = np.array([pieces.soft_target(target[i, j], keep[j], share[j]) for j in range(classes)])
        dot = np.array([pieces.smoothed(q[j], z[i, j], top) for j in range(classes)])
        mass, total, dot = (softmax.lane_sum(x[None])[0] for x in (q, d, dot))
        scale = pieces.scale(factor * weight[i], mass, total)
        got = [pieces.slope(d[j], scale, factor, weight[i], q[j]) for j in range(classes)]
        same_bits(np.array(got), want[i], f"row {i}")
        same_bits(pieces.soft_term(mass, total, weight[i], dot), terms[i], f"row {i}")
