"""Benchmarks: pyopt against NumPy, PyTorch and the limit of the memory, over the same buffers in the same process.

``pytest bench`` measures once, ``python -m bench.repeat`` in several fresh processes, ``python -m bench.report`` makes
tables and plots of what they wrote.
"""

import os

# Threads of NumPy's BLAS go on spinning for tens of milliseconds, in the turns of others; 2^4 cycles is their least.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
