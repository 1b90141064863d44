"""Collect bench_*.py, note what was measured on, and say at the end what came out."""

from importlib.metadata import PackageNotFoundError, version

import pytest

from . import limit, optax_steps, torch_steps
from .report import Measured, summary

PACKAGES = ("pyopt-kernels", "numpy", "torch", "optax", "jax")


def pytest_configure(config):
    config.addinivalue_line("python_files", "bench_*.py")
    config.addinivalue_line("python_functions", "bench_*")
    config.option.benchmark_quiet = True  # its table has times only, and those of many calls at once


@pytest.hookimpl
def pytest_benchmark_update_machine_info(machine_info):
    machine_info["node"] = ""
    machine_info["versions"] = {name: _version(name) for name in PACKAGES}


def pytest_terminal_summary(terminalreporter, config):
    measured = [Measured.of([{"extra_info": bench.extra_info}]) for bench in config._benchmarksession.benchmarks]
    if measured:
        terminalreporter.section("pyopt benches")
        terminalreporter.write_line(summary(measured))
    for why in filter(None, (torch_steps.MISSING, optax_steps.MISSING, limit.missing())):
        terminalreporter.write_line(why)


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
