"""Benchmarks: pyopt against NumPy, PyTorch and the limit of the memory, over the same buffers in the same process.

``pytest bench`` measures once, ``python -m bench.repeat`` in several fresh processes, ``python -m bench.report`` makes
tables and plots of what they wrote.
"""
