"""Random histories of .ci/fuzz.py: a few find nothing, and a defect is found and made short."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pyopt.kernels.reference.plan import Plan


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parents[2] / ".ci/fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.errstate(all="ignore"):
        yield module


def test_nothing_is_found(fuzz):
    histories = [fuzz.Draw(f"0 {i}").history() for i in range(30)]
    assert [fuzz.finding(history)[0] for history in histories] == [""] * 30


def test_a_defect_is_found_and_made_short(fuzz, monkeypatch):
    def store(self, i, array, values, w, number, rows, have=Plan.store):
        have(self, i, array, values, w, number + (number == 1), rows)  # the random bits of another array

    monkeypatch.setattr(Plan, "store", store)
    found = next(x for x in (fuzz.Draw(f"1 {i}").history() for i in range(500)) if fuzz.finding(x)[0])
    short = fuzz.shrunk(found)
    assert fuzz.finding(short)[0]
    assert len(short) < len(found)
    assert not any(fuzz.finding(shorter)[0] for shorter in fuzz.smaller(short))


def test_a_refused_call_that_changes_something_is_found(fuzz, monkeypatch):
    def check(self, grads, zero, have=Plan.check):
        self.t[0] += 1
        have(self, grads, zero)

    monkeypatch.setattr(Plan, "check", check)
    start = ("sgd", "baseline", 1, (((((3,), "float32", "C", "t", 5),), ()),))
    assert "refused" in fuzz.finding([start, ("wrong_step", "integers", 0, 1)])[0]


@pytest.mark.parametrize(
    ("settings", "operation"),
    [
        ((("prox", "MaxNorm(0.5)"),), ("read",)),  # rows of a parameter that has none in a piece
        ((), ("wrong_step", "count", 0, 1)),
        ((), ("wrong_step", "itself", 0, 1)),
    ],
)
def test_the_reference_refuses_what_engines_refuse(fuzz, settings, operation):
    start = ("sgd", "baseline", 1, (((((5, 7), "float32", "F", "t", 5),), settings),))
    assert fuzz.finding([start, operation])[0] == ""
