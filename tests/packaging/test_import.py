"""What importing pyopt does, and what it leaves alone."""

import ast
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyopt
from pyopt import kernels
from support import typed_use

FOREIGN = [
    "torch",
    "numba",
    "cupy",
    "sklearn",
    "scipy",
    "skops",
    "typer",
    "rich",
    "matplotlib",
    "pytest",
    "Cython",
    "setuptools",
]


def python(text, **options):
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, **options)


def test_imports_nothing_foreign():
    done = python("import sys, pyopt; print([name.partition('.')[0] for name in sys.modules])")
    assert done.returncode == 0, done.stderr
    loaded = set(ast.literal_eval(done.stdout))
    assert "numpy" in loaded
    assert not loaded & set(FOREIGN)


def test_imports_quickly():
    """Under 0.1 s after NumPy by design; the bound here, of processor time, is wide: the machine may be busy."""
    text = "import numpy, time; t = time.process_time(); import pyopt; print(time.process_time() - t)"
    assert min(float(python(text).stdout) for _ in range(3)) < 0.5


def test_import_prints_and_warns_nothing():
    done = python("import pyopt", env=os.environ | {"PYTHONWARNINGS": "error"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_all_names_exist_and_are_sorted_in_kind():
    assert len(set(pyopt.__all__)) == len(pyopt.__all__)
    for name in pyopt.__all__:
        assert getattr(pyopt, name) is not None


def test_public_names_are_documented():
    for name in pyopt.__all__:
        assert (getattr(pyopt, name).__doc__ or "").strip(), name


def test_kernels_are_not_a_package_of_their_own():
    """Hugging Face owns the name ``kernels``."""
    root = Path(kernels.__file__).resolve().parents[1]
    done = python("import kernels", cwd=root)
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "pip install -e ." in done.stderr


def test_version():
    assert pyopt.__version__ == importlib.metadata.version("pyopt-kernels")
    assert pyopt.show_config()["pyopt"] == pyopt.__version__
    with pytest.raises(AttributeError, match="'__versions__'"):
        _ = pyopt.__versions__


def test_show_config(capsys):
    config = pyopt.show_config()
    printed = capsys.readouterr().out
    for key, value in config.items():
        assert key in printed
        assert str(value) in printed
    assert config["threads"] == pyopt.get_num_threads()
    assert kernels.cpu.isa.active() in config["instruction set"]


@pytest.mark.parametrize("name", [name for name in kernels.cpu.isa.NAMES if name not in kernels.cpu.isa.available()])
def test_show_config_says_why_something_is_missing(name):
    assert pyopt.show_config()[f"not available: {name}"]


def test_a_typed_program_runs():
    """What mypy accepts works, and what it objects to is refused."""
    typed_use.accepted()
    for call in typed_use.refused():
        with pytest.raises((TypeError, ValueError)):
            call()


@pytest.mark.parametrize("module", [pyopt, pyopt.functional, pyopt.layers, pyopt.losses], ids=lambda m: m.__name__)
def test_completion_shows_what_users_call(module):
    assert set(module.__all__) <= set(dir(module))
    assert not {"np", "kernels", "checks", "validate", "Any", "annotations"} & set(dir(module))
    made_here = {name for name, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__}
    assert {name for name in made_here if not name.startswith("_")} <= set(module.__all__)
