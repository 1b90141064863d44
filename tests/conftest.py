"""Fixtures that every file of tests shares: what the registry has, and the settings that a test may change."""

import sys
from contextlib import nullcontext
from pathlib import Path

import hypothesis
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for helpers.py, golden.py and contract.py
pytest.register_assert_rewrite("cli_runs", "helpers", "contract")

import pyopt  # noqa: E402
from helpers import DEVICES, GRADIENTS  # noqa: E402
from pyopt.kernels.cpu import isa as instruction_sets  # noqa: E402
from pyopt.kernels.numerics import codecs  # noqa: E402
from pyopt.kernels.rules import RULES  # noqa: E402

# the same examples in every run: a red test must stay red until its cause is gone
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("same")


STEPS = {"clipping", "ema", "prox", "rows", "rules", "scheduled_hypers", "step", "storage"}  # files that devices join


def pytest_collection_modifyitems(config, items):
    """Let devices take part in the tests of steps only: tiles, losses and layers run on the CPU."""
    left = [
        item
        for item in items
        if getattr(item, "callspec", None) is not None
        and item.callspec.params.get("isa") in DEVICES
        and (item.path.stem.removeprefix("test_") not in STEPS or item.name.startswith(("test_tile", "test_accumul")))
    ]
    config.hook.pytest_deselected(items=left)
    gone = set(map(id, left))
    items[:] = [item for item in items if id(item) not in gone]


@pytest.fixture(params=sorted(RULES))
def rule(request):
    """Each rule of the registry, by its Rule."""
    return RULES[request.param]


@pytest.fixture(params=sorted(GRADIENTS))
def penalty(request):
    """Each penalty of the registry that has a gradient element by element, by its class."""
    return GRADIENTS[request.param]


@pytest.fixture(params=[np.float32, np.float64], ids=lambda real: real.__name__)
def dtype(request):
    """Each compute type."""
    return request.param


@pytest.fixture(params=["float32", "float64", "bfloat16", "float16"])
def storage(request):
    """Each type that arrays may be stored in."""
    if request.param == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return codecs.dtype(request.param).type


@pytest.fixture(
    params=[*instruction_sets.available(), *(pytest.param(x, marks=getattr(pytest.mark, x)) for x in DEVICES)]
)
def isa(request):
    """The name of each instruction set that this machine runs, in use during the test, and of devices."""
    with nullcontext() if request.param in DEVICES else instruction_sets.use(request.param):
        yield request.param


@pytest.fixture(
    params=["plain", pytest.param("compiled", marks=pytest.mark.compiled), pytest.param("gpu", marks=pytest.mark.gpu)]
)
def by(request):
    return {"plain": "emulated"}.get(request.param, request.param)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs ``pyopt`` in this process, in a folder of its own: exit code, output, errors."""
    from pyopt.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, args)))
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def _threads_as_before():
    """Return to the number of threads at import, whatever the test asked for."""
    yield
    pyopt.set_num_threads(None)
