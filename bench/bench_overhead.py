"""What a call of step() costs besides arithmetic, and an import."""

import subprocess
import sys

import pytest

from .harness import Contender, race, seconds
from .steps import Case, Memory, run
from .torch_steps import bare

CASES = [
    Case("AdamW, 1 x 16", [(16,)], bar=[seconds(8e-6)]),
    Case("AdamW, 500 x 16", [(16,)] * 500, bar=[seconds(25e-6)]),
]

IMPORT = """
import sys, time, numpy
start = time.perf_counter()
import pyopt
print(time.perf_counter() - start)
print(*{"torch", "numba", "cupy", "sklearn"} & set(sys.modules))
"""


@pytest.mark.parametrize("case", CASES, ids=str)
def bench_small(case, benchmark):
    run(benchmark, Memory(case), bare)


def bench_import(benchmark):
    """Import pyopt in a fresh process that has NumPy already."""

    def call():
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, cwd="/")
        took, loaded = done.stdout.splitlines()
        assert not loaded, f"import pyopt imports {loaded}"
        return float(took)

    race(benchmark, "import pyopt, after NumPy", [Contender("pyopt", call, times_itself=True)], [seconds(0.1)], 7, 1)
