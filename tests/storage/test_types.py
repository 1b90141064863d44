"""The table of storage types: what it says of each, and that the engines have what a row promises, and nothing else."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.cuda.device import intrinsics
from pyopt.kernels.numerics import codecs, codecs_cuda
from support import ROOT


def test_rows_are_as_numpy_has_them():
    pytest.importorskip("ml_dtypes")
    for row in codecs.TYPES:
        assert (row.dtype.name, row.dtype.itemsize, row.dtype.str) == (row.name, row.size, row.typestr)
        assert codecs.BY_NAME[row.name] is codecs.BY_SHORT[row.short] is row


def test_every_row_has_its_functions():
    """A new type lacks no tile and no function of the GPU; none is left of one that has gone."""
    for isa in instruction_sets.available():
        want = {"codecs.join", "codecs.split"}
        for row in codecs.TYPES:
            forms = {"decode": row.real, "encode": row.real, "add": "grad" in row.holds, "stochastic": row.stochastic}
            want |= {f"codecs.{form}_{row.short}" for form, there in forms.items() if there}
        assert {name for name in instruction_sets.tiles(isa) if name.startswith("codecs.")} == want
    assert set(codecs_cuda.CODECS) == {row.short for row in codecs.TYPES if row.real}
    for kind, form in codecs_cuda.CODECS.items():
        row = codecs.BY_SHORT[kind]
        assert intrinsics.SIZES[form.word] == row.size
        assert (form.widen is None, form.narrow is None) == (row.native, row.native)
        assert (form.stochastic is None) == (row.stochastic is None)


def test_a_compute_type_keeps_what_is_stored():
    """Every number of the types that may stand beside a parameter survives its compute type; others do not."""
    pytest.importorskip("ml_dtypes")
    for row in codecs.TYPES:
        if not row.real:
            continue
        words = np.random.default_rng(0).integers(0, 256, 100_000 * row.size, dtype=np.uint8)
        x = words.view(row.dtype)
        with np.errstate(all="ignore"):
            exact = x.astype(np.float64)
            for name, real in codecs.REALS.items():
                decoded = codecs.decode(x, real).astype(np.float64)
                assert np.array_equal(decoded, exact, equal_nan=True) == codecs.keeps(name, row)
                for role in ("grad", "state"):
                    assert (row in codecs.allowed(role, name)) == (role in row.holds and codecs.keeps(name, row))


def test_a_type_is_a_row_and_its_functions():
    """With two more of them, in a process of its own, all engines step: see made_up.py."""
    pytest.importorskip("ml_dtypes")
    script = ROOT / "tests/support/made_up.py"
    paths = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
