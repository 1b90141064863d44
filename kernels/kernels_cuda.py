"""The kernels of the GPU engine: each says what it is made for, and how it is built over a memory.

``Update`` steps the tensors of one combination, ``Prepare`` computes what they need, ``Leaves`` reads the gradients for
their norm. All arguments are integers of 64 bits. ``resident``
blocks must fit into a multiprocessor together; 0 leaves it to the compiler. ``entry`` returns what a GPU runs. ``emulated`` returns the same body
for this CPU: a function of (blocks, arguments...) that runs one thread after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import norms_cuda, prepare_cuda, step_cuda
from .columns_cuda import Combination
from .memory_cuda import Host, Memory

u8 = np.uint64
Function = Callable[..., Any]


class Update(NamedTuple):
    """Steps all tensors of a combination: (table, chunks, given)."""

    combination: Combination
    threads: int = step_cuda.THREADS
    arguments: int = 3

    def resident(self, cc: tuple[int, int]) -> int:
        """Return how many blocks must fit into a multiprocessor together: 64 registers a thread before sm_80."""
        c = self.combination
        return 4 if cc < (8, 0) and c.real == "f32" and len(c.written) <= 3 and not (c.penalties or c.clip) else 0

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return f"update_{self.combination.name}"

    def entry(self, m: Memory) -> Function:
        """Return the kernel."""
        from numba import cuda

        body, threads = step_cuda.update(m, self.combination), u8(self.threads)

        def kernel(table, chunks, given):  # type: ignore[no-untyped-def]
            body(cuda.blockIdx.x, cuda.threadIdx.x, threads, table, chunks, given)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU."""
        body, threads = step_cuda.update(m, self.combination), self.threads

        def kernel(blocks, table, chunks, given):  # type: ignore[no-untyped-def]
            for block in range(blocks):
                for thread in range(threads):
                    body(block, thread, u8(threads), table, chunks, given)

        return m.jit(kernel)


class Prepare(NamedTuple):
    """Computes norm, factors and scalars: (given, info, call, progress, result, partial, scratch)."""

    rule: str
    real: str
    scalars: int
    limited: bool
    absent: tuple[str, ...] = ()
    arguments: int = 7

    def resident(self, cc: tuple[int, int]) -> int:
        """Return 0: the compiler chooses."""
        return 0

    @property
    def threads(self) -> int:
        """Threads of a block; a limit of a norm takes one block."""
        return prepare_cuda.THREADS if self.limited else 128

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return "_".join(["prepare", self.rule, self.real, *self.absent, *["limited"] * self.limited])

    def body(self, m: Memory) -> Function:
        """Return the work of one thread."""
        from .rules import RULES

        return prepare_cuda.prepare(m, RULES[self.rule], self.real, self.scalars, self.limited, self.absent)  # type: ignore[no-any-return]

    def entry(self, m: Memory) -> Function:
        """Return the kernel."""
        from numba import cuda

        body, threads = self.body(m), u8(self.threads)

        def kernel(given, info, call, progress, result, partial, scratch):  # type: ignore[no-untyped-def]
            thread = u8(cuda.blockIdx.x) * threads + u8(cuda.threadIdx.x)
            body(thread, threads * u8(cuda.gridDim.x), given, info, call, progress, result, partial, scratch)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU, where one thread needs no barrier."""
        body = self.body(m)

        def kernel(blocks, given, info, call, progress, result, partial, scratch):  # type: ignore[no-untyped-def]
            body(u8(0), u8(1), given, info, call, progress, result, partial, scratch)

        return m.jit(kernel)


class Leaves(NamedTuple):
    """Sums the squares of gradients stored as ``kind``: (given, leaves, count, info, partial, result)."""

    kind: str
    threads: int = norms_cuda.THREADS
    arguments: int = 6

    def resident(self, cc: tuple[int, int]) -> int:
        """Return 0: the compiler chooses."""
        return 0

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return f"leaves_{self.kind}"

    def entry(self, m: Memory) -> Function:
        """Return the kernel."""
        from numba import cuda, types

        read, combine = norms_cuda.squares(m, self.kind)
        words, flag, one = norms_cuda.LEAVES * norms_cuda.ROW, m.store("u64"), u8(1)

        def kernel(given, leaves, count, info, partial, result):  # type: ignore[no-untyped-def]
            lanes = cuda.shared.array(words, types.float64)
            if read(cuda.blockIdx.x, cuda.threadIdx.x, given, leaves, count, lanes):
                flag(result + u8(16), (one,))
            cuda.syncthreads()
            combine(cuda.blockIdx.x, cuda.threadIdx.x, leaves, count, lanes, info, partial)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU: all threads of a block up to the barrier, then all from there on."""
        read, combine = norms_cuda.squares(m, self.kind)
        words, flag, one = norms_cuda.LEAVES * norms_cuda.ROW, m.store("u64"), u8(1)
        threads = self.threads

        def kernel(blocks, given, leaves, count, info, partial, result):  # type: ignore[no-untyped-def]
            lanes = np.empty(words)
            for block in range(blocks):
                for thread in range(threads):
                    if read(block, thread, given, leaves, count, lanes):
                        flag(result + u8(16), (one,))
                for thread in range(threads):
                    combine(block, thread, leaves, count, lanes, info, partial)

        return m.jit(kernel)


Kernel = Update | Prepare | Leaves
