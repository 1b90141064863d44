"""The limit as a contender: limit.c, compiled for this machine when a bench first asks for it."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import pyopt

from .harness import Contender

FLAGS = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]  # no -ffast-math: it flushes subnormals everywhere
SERIAL = 32768  # elements below which a second thread costs more than it brings
AHEAD = (0, 256)  # elements from an access to its prefetch; 0: none


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled loop, or None where there is no compiler; see ``missing``."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "limit.so")
        subprocess.run([compiler, *FLAGS, str(Path(__file__).with_suffix(".c")), "-o", str(made)], check=True)
        return ctypes.CDLL(str(made))


def missing() -> str | None:
    """Say why there is no limit to compare with, or return None."""
    return None if library() else "no C compiler (neither $CC nor cc): no limit to compare with"


def limits(written: Sequence[Sequence[np.ndarray]], read: Sequence[Sequence[np.ndarray]]) -> list[Contender]:
    """Return the contenders that read and write the arrays of each tensor, with and without prefetch."""
    lib = library()
    if lib is None:
        return []
    table = np.array([[a.ctypes.data for a in (*w, *r)] for w, r in zip(written, read, strict=True)], np.uintp)
    sizes = np.array([w[0].size for w in written], np.intp)
    reads, writes = table.shape[1], len(written[0])
    threads = pyopt.get_num_threads() if sizes.sum() >= SERIAL else 1

    def contender(ahead: int) -> Contender:
        arguments = (
            ctypes.c_void_p(table.ctypes.data), ctypes.c_void_p(sizes.ctypes.data), ctypes.c_ssize_t(len(sizes)),
            reads, writes, ctypes.c_ssize_t(ahead), threads, ctypes.c_float(1), ctypes.c_float(0),
        )  # fmt: skip

        def call(arrays: object = (table, sizes)) -> None:  # holds what the addresses point into
            if lib.stream(*arguments):
                raise NotImplementedError(f"limit.c has no loop that reads {reads} arrays and writes {writes}")

        return Contender(f"limit {ahead} ahead", call, 4 * (reads + writes), result="untouched")

    return [contender(ahead) for ahead in AHEAD]


def scans(arrays: Sequence[np.ndarray], before: Sequence[Contender] = ()) -> list[Contender]:
    """Return a plain read of all arrays; or, in front of other limits, both as one trip after the other."""
    lib = library()
    if lib is None:
        return []
    table = np.array([a.ctypes.data for a in arrays], np.uintp)
    sizes = np.array([a.size for a in arrays], np.intp)
    lib.scan.restype = ctypes.c_float
    arguments = (ctypes.c_void_p(table.ctypes.data), ctypes.c_void_p(sizes.ctypes.data), ctypes.c_ssize_t(len(sizes)),
                 pyopt.get_num_threads())  # fmt: skip

    def call(held: object = (table, sizes, arrays)) -> None:
        lib.scan(*arguments)

    def both(then: Contender) -> Contender:
        def calls() -> None:
            call()
            then.call()

        return replace(then, call=calls, bytes=(then.bytes or 0) + 4)

    return [both(c) for c in before] or [Contender("limit read", call, 4, result="untouched")]
