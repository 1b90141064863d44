"""The way to the driver, with a stand-in for it: launches, uploads, the cache of kernels, the cost for the host."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import ROOT

pytestmark = pytest.mark.compiled

STUB = ROOT / "tests" / "support" / "stub"


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """A folder with the stub as libcuda.so.1."""
    folder = tmp_path_factory.mktemp("stub")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so.1",
                    "-x", "c", STUB / "libcuda.inc", "-ldl"], check=True)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def session(what, stub, cache):
    """Run a part of stub/session.py; return what it printed."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(stub),
        "PYOPT_CACHE_DIR": str(cache),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, STUB / "session.py", what], env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("done")
    return done.stdout


def test_bits_through_cuda_core(stub, cache):
    session("bits", stub, cache)


def test_uploads(stub, cache):
    session("uploads", stub, cache)


def test_what_a_step_costs_the_host(stub, cache):
    """The bars are 15 us and 0.05 us; a shared machine is not asked for them."""
    text = session("speed", stub, cache)
    fixed, each = map(float, re.search(r"host: ([\d.]+) us, and ([\d.]+) us", text).groups())
    assert fixed < 150
    assert each < 0.5


def test_a_warm_start_imports_no_numba(stub, tmp_path):
    cold = session("first", stub, tmp_path)
    assert "numba True" in cold
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    assert all(path.suffix == ".cubin" for path in files)
    warm = session("first", stub, tmp_path)
    assert "numba False" in warm
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_a_damaged_file_is_compiled_anew(stub, tmp_path):
    session("first", stub, tmp_path)
    for k, path in enumerate(sorted(tmp_path.iterdir())):
        path.write_bytes(path.read_bytes()[:-1] if k else b"null\nnothing")
    assert "numba True" in session("first", stub, tmp_path)
    assert "numba False" in session("first", stub, tmp_path)


def test_a_folder_that_cannot_be_written_costs_a_compilation_only(stub, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert "numba True" in session("first", stub, tmp_path / "file" / "cache")


def test_several_processes_at_once(stub, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: session("first", stub, tmp_path), range(3)))
    assert len(list(tmp_path.iterdir())) == 2
    assert "numba False" in session("first", stub, tmp_path)


def test_a_changed_source_is_compiled_anew(stub, tmp_path):
    """The hash covers every source: a copy of the package with one comment more has files of its own."""
    import pyopt

    copy = tmp_path / "copy"
    shutil.copytree(Path(pyopt.__file__).parent, copy / "pyopt", ignore=shutil.ignore_patterns("kernels"))
    shutil.copytree(Path(pyopt.kernels.__file__).parent, copy / "pyopt" / "kernels")
    code = "from pyopt.kernels.cuda import compiler; print(compiler.sources())"

    def made():
        return subprocess.run([sys.executable, "-c", code], cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)},
                              capture_output=True, text=True, check=True).stdout  # fmt: skip

    before = made()
    assert made() == before
    with (copy / "pyopt" / "kernels" / "cuda/device/intrinsics.py").open("a") as file:
        file.write("# changed\n")
    assert made() != before
