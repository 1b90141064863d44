"""Fixtures that every file of tests shares: what the registry has, and the settings that a test may change."""

import os
from contextlib import nullcontext

# Processes share the processors: a thread of the engine that waits must sleep, not spin on what another process needs.
# OpenMP reads this once, when the engine is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.numerics import codecs
from pyopt.kernels.rules import RULES
from support.helpers import DEVICES, GRADIENTS

pytest_plugins = ["support.sampling"]

# the same examples in every run: a red test must stay red until its cause is gone
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run in as many processes as there are processors, but for a few tests by name or where -n says how many.

    As addopts this would be for the benches too, which must have the machine for themselves.
    """
    worker = hasattr(config, "workerinput")
    by_name = any("::" in name for name in config.args)
    if config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None and not worker and not by_name:
        config.option.numprocesses = "auto"
        config.option.dist = "worksteal"


def pytest_itemcollected(item):
    """Mark the tests that take ``torch``."""
    if "torch" in item.fixturenames:
        item.add_marker("torch")


@pytest.hookimpl(trylast=True)  # the fastest to change: an outcome of the reference serves all instruction sets
def pytest_generate_tests(metafunc):
    """Parametrise ``isa``: the instruction sets of this machine, and in tests of whole steps the devices."""
    if "isa" in metafunc.fixturenames:
        devices = [pytest.param(x, marks=getattr(pytest.mark, x)) for x in DEVICES]
        marked = metafunc.definition.get_closest_marker("devices")
        metafunc.parametrize(
            "isa",
            [*instruction_sets.available(), *(devices if marked and marked.args != (False,) else [])],
            indirect=True,
        )


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


@pytest.fixture
def isa(request):
    """The name of each instruction set that this machine runs, in use during the test, and of devices."""
    with nullcontext() if request.param in DEVICES else instruction_sets.use(request.param):
        yield request.param


@pytest.fixture(
    params=["plain", pytest.param("compiled", marks=pytest.mark.compiled), pytest.param("gpu", marks=pytest.mark.gpu)]
)
def by(request):
    return {"plain": "emulated"}.get(request.param, request.param)


@pytest.fixture(scope="session")
def torch():
    """PyTorch, an oracle of some tests."""
    return pytest.importorskip("torch", reason="torch is not installed: it is an oracle of these tests only")


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
