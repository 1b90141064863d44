"""Which tile functions run: the best that the CPU has, or what is asked for; and what they must not contain."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyopt
from pyopt import kernels
from pyopt.kernels.cpu import engine, isa
from pyopt.kernels.rules import RULES


def start(wanted):
    """Import pyopt in a new process under PYOPT_ISA and step; return the exit status and what was printed."""
    text = (
        "import numpy as np, pyopt; from pyopt.kernels.cpu import isa; w = np.ones(1000);"
        "pyopt.Adam([w], lr=0.1).step([w * 2]); print(isa.active(), w.sum().hex())"
    )
    environment = os.environ | {"PYOPT_ISA": wanted}
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("name", isa.NAMES)
def test_environment(name):
    done = start(name)
    if name in isa.available():
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0] == name
        assert done.stdout.split()[1] == start("baseline").stdout.split()[1]
    else:
        assert done.returncode == 1
        assert f"ImportError: PYOPT_ISA={name!r}" in done.stderr
        assert ", ".join(isa.available()) in done.stderr


@pytest.mark.parametrize("name", ["", "sse9", "AVX2", "baseline "])
def test_unknown_name(name):
    done = start(name)
    assert done.returncode == 1
    assert f"ImportError: PYOPT_ISA={name!r}: must be one of {', '.join(isa.NAMES)}" in done.stderr


def test_the_best_one_is_chosen():
    if "PYOPT_ISA" not in os.environ:
        assert isa.active() == isa.available()[0]
    assert isa.available()[-1] == "baseline"
    assert set(isa.available()) <= set(isa.NAMES)


def test_use_returns_to_what_was():
    before = isa.active()
    for name in isa.available():
        with isa.use(name):
            assert isa.active() == name
    with pytest.raises(RuntimeError), isa.use("baseline"):
        raise RuntimeError
    assert isa.active() == before
    with pytest.raises(ImportError, match="'mmx'"), isa.use("mmx"):
        pass
    assert isa.active() == before


def test_an_optimizer_keeps_its_tiles():
    with isa.use("baseline"):
        opt = pyopt.SGD([np.ones(3)], lr=0.5)
    opt.step([np.ones(3)])
    assert opt.state[0]["step"] == 1


def test_all_tables_have_the_same_functions():
    tables = [isa.tiles(name) for name in isa.available()]
    narrow = [{key for key in table if "_bf16_" in key} for table in tables]
    updates = len({rule.kernel for rule in RULES.values()})
    assert [len(keys) for keys in narrow] == [(8 if name == "avx512" else 2) * updates for name in isa.available()]
    tables = [{key: table[key] for key in table.keys() - keys} for table, keys in zip(tables, narrow, strict=True)]
    for table in tables[1:]:
        assert {key: row[2:] for key, row in table.items()} == {key: row[2:] for key, row in tables[0].items()}
    addresses = [address for table in tables for row in table.values() for address in row[:2]]
    assert (
        len(set(addresses)) > len(addresses) / 2
    )  # one per dtype and instruction set, but for those that have no dtype


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux tells the features of a CPU in a file")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="about x86-64")
def test_features_are_those_of_the_cpu():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert ("avx2" in engine.features()) == ({"avx2", "fma", "bmi2", "f16c"} <= flags)
    assert ("avx512" in engine.features()) == ({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags)


def disassembly(name):
    """Return the machine code of one table of tile functions, by function."""
    path = next(Path(kernels.__file__).parent.glob(f"cpu/_tiles_{name}.*.so"))
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True
    ).stdout
    blocks = [block.split("\n", 1) for block in text.split("\n\n") if ">:\n" in block]
    return {head.split("<")[1].rstrip(">:"): body for head, body in blocks}


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="about the instructions of x86-64")
@pytest.mark.parametrize("name", isa.available())
def test_no_fused_multiply_add(name):
    """It rounds once where two operations round twice: no bit would agree with baseline."""
    for function, body in disassembly(name).items():
        assert "vfmadd" not in body, function
        assert "vfmsub" not in body, function
        assert "vfnmadd" not in body, function
