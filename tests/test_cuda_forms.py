"""The GPU forms in plain Python, one NumPy scalar after another, against the reference, bit by bit."""

import importlib

import numpy as np
import pytest

from helpers import same_bits, some_penalty, variants, wild
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.rules import RULES

N = 400
KERNELS = sorted({rule.kernel for rule in RULES.values()})


def device_form(folder, stem, name):
    return getattr(importlib.import_module(f"pyopt.kernels.{folder}.{stem}_cuda"), name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and NaN, on purpose
@pytest.mark.parametrize("stem", KERNELS)
def test_rules(stem, dtype):
    rule = RULES[stem]
    form = device_form("rules", stem, stem)
    for hypers in variants(rule):
        on = [state.when is None or bool(hypers[state.when]) for state in rule.states]
        arrays = [wild(N, dtype, i) if i < 2 or on[i - 2] else None for i in range(2 + len(on))]
        for t, carry in ((1, 0.0), (5, 4.0)):
            scalars = [dtype(x) for x in rule.scalars(rule.Values(**hypers), t, carry)[0]]
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
@pytest.mark.parametrize("stem", sorted(PENALTIES))
def test_penalties(stem, dtype):
    form = device_form("penalties", stem, f"{stem}_gradient")
    p, g = wild(N, dtype, 1), wild(N, dtype, 2)
    for place in range(3):
        penalty = some_penalty(PENALTIES[stem], place)
        scalars = [dtype(x) for x in penalty.scalars()]
        got = [form(p[i], g[i], *scalars) for i in range(N)]
        assert {type(x) for x in got} == {dtype}
        same_bits(np.array(got), penalty.gradient(p, g, *scalars), f"{penalty}")
