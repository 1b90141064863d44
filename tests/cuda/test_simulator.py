"""The kernels with barriers in the simulator of Numba, which has to be chosen before Numba is imported."""

import os
import subprocess
import sys

import pytest

from support import ROOT

pytestmark = pytest.mark.compiled


def test_norm_and_factors():
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    script = ROOT / "tests" / "support" / "simulated.py"
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "done"
