"""Functions on one element in plain Python, one NumPy scalar after another, against the reference, bit by bit."""

import itertools

import numpy as np
import pytest

from pyopt.kernels.cuda.device.intrinsics import Host
from pyopt.kernels.losses import ELEMENTWISE
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.rules import RULES
from support.helpers import GRADIENTS, on_one, same_bits, some_penalty, tame, variants, wild
from support.losses import OPTIONS, inputs

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
@pytest.mark.parametrize("stem", sorted({rule.kernel for rule in RULES.values() if rule.prox_steps}))
def test_steps(stem, dtype):
    rule = RULES[stem]
    form = on_one("rules", stem, f"{stem}_steps")
    for hypers in variants(rule):
        on = {s.name: s.when is None or bool(hypers[s.when]) for s in rule.states}
        named = {name: wild(N, dtype, i) if flag else None for i, (name, flag) in enumerate(on.items())}
        given = [named[name] if name in named else dtype(0.3 + k) for k, name in enumerate(rule.prox_steps_arguments)]
        got = [form(*(a[i] if isinstance(a, np.ndarray) else a for a in given)) for i in range(N)]
        assert {type(x) for x in got} == {dtype}
        same_bits(np.array(got), rule.prox_steps(*given), f"{stem} {hypers}")


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
    form = Host().compile_tree(form) if compiled else form
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
