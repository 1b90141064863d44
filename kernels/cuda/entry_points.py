"""The kernels of the GPU engine: each says what it is made for, and how it is built over a memory.

``Update`` steps the tensors of one variant, ``Rows`` those of one whose rows stay whole, ``Prologue`` computes what
they need, ``Leaves`` reads the gradients for their norm, ``Norms`` p and its update for the norms that a rule needs and
``Scale`` appends what it makes of them. All arguments are integers of 64 bits. ``registers`` is how
many a thread may have at most; 0 leaves it to the compiler. ``entry`` returns what a GPU runs, ``emulated`` the same
body for this CPU: a function of (blocks, arguments...) that runs one thread after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..spec import Rule
from .device import grad_norm, pipeline, prologue, sparse_rows, tensor_norms, whole_rows
from .device.intrinsics import Host, Target
from .variant import Operand, Variant

u4 = np.uint32
u8 = np.uint64
Function = Callable[..., Any]


class Update(NamedTuple):
    """Steps all tensors of a variant: (table, chunks, given)."""

    variant: Variant
    threads: int = pipeline.THREADS
    arguments: int = 3
    registers: int = 0

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return f"update_{self.variant.name}"

    def entry(self, m: Target) -> Function:
        """Return the kernel."""
        from numba import cuda

        body, threads = pipeline.update(m, self.variant), u4(self.threads)

        def kernel(table, chunks, given):  # type: ignore[no-untyped-def]
            body(u4(cuda.blockIdx.x), u4(cuda.threadIdx.x), threads, table, chunks, given)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU."""
        body, threads = pipeline.update(m, self.variant), self.threads

        def kernel(blocks, table, chunks, given):  # type: ignore[no-untyped-def]
            for block in range(blocks):
                for thread in range(threads):
                    body(block, thread, u4(threads), table, chunks, given)

        return m.jit(kernel)


class Rows(NamedTuple):
    """Steps rows of the tensors of a variant: (table, chunks, given, picks)."""

    variant: Variant
    threads: int = grad_norm.THREADS
    arguments: int = 4

    @property
    def registers(self) -> int:
        """Registers of a thread at most: left to itself the compiler takes few, and spills."""
        c = self.variant
        return 80 + 8 * c.by_index if c.real == "f32" else 136 + 16 * c.by_index

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return f"rows_{self.variant.name}"

    def entry(self, m: Target) -> Function:
        """Return the kernel."""
        from numba import cuda, types

        body, threads, size = whole_rows.update(m, self.variant), u8(self.threads), whole_rows.shared(self.variant)

        def kernel(table, chunks, given, picks):  # type: ignore[no-untyped-def]
            kept = cuda.shared.array(size, types.float64)
            body(cuda.blockIdx.x, cuda.threadIdx.x, threads, table, chunks, given, picks, kept)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU, where one thread needs no barrier."""
        body, size = whole_rows.update(m, self.variant), whole_rows.shared(self.variant)

        def kernel(blocks, table, chunks, given, picks):  # type: ignore[no-untyped-def]
            kept = np.empty(size)
            for block in range(blocks):
                body(block, u8(0), u8(1), table, chunks, given, picks, kept)

        return m.jit(kernel)


class Prologue(NamedTuple):
    """Computes norm, factors and scalars: (given, info, call, progress, result, partial, scratch)."""

    rule: Rule
    limited: bool
    absent: tuple[str, ...] = ()
    by_index: bool = False
    arguments: int = 7
    registers: int = 80  # left to itself the compiler spills, to save one

    @property
    def threads(self) -> int:
        """Threads of a block; a limit of a norm takes one block."""
        return prologue.THREADS if self.limited else 128

    @property
    def name(self) -> str:
        """What the kernel is called."""
        flags = ["limited"] * self.limited + ["by_index"] * self.by_index
        return "_".join(["prepare", self.rule.name, *self.absent, *flags])

    def body(self, m: Target) -> Function:
        """Return the work of one thread."""
        return prologue.prepare(m, self.rule, self.limited, self.absent, self.by_index)  # type: ignore[no-any-return]

    def entry(self, m: Target) -> Function:
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
    """Sums the squares of arrays stored as ``kind``, or their elements.

    Arguments: given, leaves, count, info, partial, result.
    """

    kind: str
    squared: bool = True
    threads: int = grad_norm.THREADS
    arguments: int = 6

    @property
    def registers(self) -> int:
        """Registers of a thread at most: as many as let a multiprocessor be full, but where they would not do."""
        return 0 if self.kind == "f64" and self.squared else 32

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return f"leaves_{self.kind}" + "_sums" * (not self.squared)

    def entry(self, m: Target) -> Function:
        """Return the kernel."""
        from numba import cuda, types

        read, combine = grad_norm.leaves(m, self.kind, self.squared)
        words, flag, one = grad_norm.LEAVES * grad_norm.ROW, m.store("u64"), u8(1)

        def kernel(given, leaves, count, info, partial, result):  # type: ignore[no-untyped-def]
            lanes = cuda.shared.array(words, types.float64)
            if read(cuda.blockIdx.x, cuda.threadIdx.x, given, leaves, count, lanes):
                flag(result + u8(16), (one,))
            cuda.syncthreads()
            combine(cuda.blockIdx.x, cuda.threadIdx.x, leaves, count, lanes, info, partial)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU: all threads of a block up to the barrier, then all from there on."""
        read, combine = grad_norm.leaves(m, self.kind, self.squared)
        words, flag, one = grad_norm.LEAVES * grad_norm.ROW, m.store("u64"), u8(1)
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


class Norms(NamedTuple):
    """Sums the squares of p and of its update for a variant: (table, leaves, given, count, info, sums, total)."""

    variant: Variant
    threads: int = tensor_norms.THREADS
    arguments: int = 7
    registers: int = 0

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return f"norms_{self.variant.name}"

    def entry(self, m: Target) -> Function:
        """Return the kernel."""
        from numba import cuda, types

        read, combine = tensor_norms.leaf_reader(m, self.variant), tensor_norms.leaf_writer(m, self.variant)
        size = tensor_norms.SHARED

        def kernel(table, leaves, given, count, info, sums, total):  # type: ignore[no-untyped-def]
            lanes = cuda.shared.array(size, types.float64)
            read(cuda.blockIdx.x, cuda.threadIdx.x, table, leaves, given, count, lanes)
            cuda.syncthreads()
            combine(cuda.blockIdx.x, cuda.threadIdx.x, table, leaves, count, lanes, info, sums, total)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU: all threads of a block up to the barrier, then all from there on."""
        read, combine = tensor_norms.leaf_reader(m, self.variant), tensor_norms.leaf_writer(m, self.variant)
        size, threads = tensor_norms.SHARED, self.threads

        def kernel(blocks, table, leaves, given, count, info, sums, total):  # type: ignore[no-untyped-def]
            lanes = np.empty(size)
            for block in range(blocks):
                for thread in range(threads):
                    read(block, thread, table, leaves, given, count, lanes)
                for thread in range(threads):
                    combine(block, thread, table, leaves, count, lanes, info, sums, total)

        return m.jit(kernel)


class Scale(NamedTuple):
    """Appends to the scalars of each tensor what a rule makes of its norms: (given, info, sums, total)."""

    rule: Rule
    absent: tuple[str, ...] = ()
    threads: int = 128
    arguments: int = 4
    registers: int = 0

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return "_".join(["scale", self.rule.name, *self.absent])

    def entry(self, m: Target) -> Function:
        """Return the kernel, of a block for each tensor."""
        from numba import cuda

        body, threads = tensor_norms.scale(m, self.rule, self.absent), u8(self.threads)

        def kernel(given, info, sums, total):  # type: ignore[no-untyped-def]
            body(cuda.blockIdx.x, cuda.threadIdx.x, threads, given, info, sums, total)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU, where one thread needs no barrier."""
        body = tensor_norms.scale(m, self.rule, self.absent)

        def kernel(blocks, given, info, sums, total):  # type: ignore[no-untyped-def]
            for block in range(blocks):
                body(block, u8(0), u8(1), given, info, sums, total)

        return m.jit(kernel)


class Sums(NamedTuple):
    """Adds up the gradients of each row, stored as ``kind``, and their squares.

    Arguments: order, firsts, values, sums, terms, length, count, result.
    """

    kind: str
    real: str
    threads: int = grad_norm.THREADS
    arguments: int = 8
    registers: int = 80  # left to itself the compiler spills, to save one

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return f"sums_{self.kind}_{self.real}"

    def entry(self, m: Target) -> Function:
        """Return the kernel."""
        from numba import cuda, types

        body, threads, size = sparse_rows.sums(m, self.kind, self.real), u8(self.threads), whole_rows.FACTORS

        def kernel(order, firsts, values, sums, terms, length, count, result):  # type: ignore[no-untyped-def]
            kept = cuda.shared.array(size, types.float64)
            body(cuda.blockIdx.x, cuda.threadIdx.x, threads, order, firsts, values, sums, terms, length, count, result,
                 kept)  # fmt: skip

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU, where one thread needs no barrier."""
        body, size = sparse_rows.sums(m, self.kind, self.real), whole_rows.FACTORS

        def kernel(blocks, order, firsts, values, sums, terms, length, count, result):  # type: ignore[no-untyped-def]
            kept = np.empty(size)
            for block in range(blocks):
                body(block, u8(0), u8(1), order, firsts, values, sums, terms, length, count, result, kept)

        return m.jit(kernel)


class Lag(NamedTuple):
    """Notes the decay that all rows but some have missed: (picks, count, row_decay, last, row, call)."""

    threads: int = 512
    arguments: int = 6
    registers: int = 0

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return "lag"

    def entry(self, m: Target) -> Function:
        """Return the kernel, of one block."""
        from numba import cuda

        body, threads = sparse_rows.lag(m), u8(self.threads)

        def kernel(picks, count, row_decay, last, row, call):  # type: ignore[no-untyped-def]
            body(cuda.threadIdx.x, threads, picks, count, row_decay, last, row, call)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU, where one thread needs no barrier."""
        body = sparse_rows.lag(m)

        def kernel(blocks, picks, count, row_decay, last, row, call):  # type: ignore[no-untyped-def]
            body(u8(0), u8(1), picks, count, row_decay, last, row, call)

        return m.jit(kernel)


class CatchUp(NamedTuple):
    """Decays all rows by what they have missed: (p, remainder, length, rows, row_decay, last)."""

    p: Operand
    threads: int = grad_norm.THREADS
    arguments: int = 6
    registers: int = 0

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return f"catch_up_{self.p.kind}_{self.p.rounding}"

    def entry(self, m: Target) -> Function:
        """Return the kernel."""
        from numba import cuda

        body = sparse_rows.catch_up(m, self.p)

        def kernel(p, remainder, length, rows, row_decay, last):  # type: ignore[no-untyped-def]
            body(cuda.blockIdx.x, cuda.threadIdx.x, p, remainder, length, rows, row_decay, last)

        return kernel

    def emulated(self, m: Host) -> Function:
        """Return the kernel for this CPU."""
        body, threads = sparse_rows.catch_up(m, self.p), self.threads

        def kernel(blocks, p, remainder, length, rows, row_decay, last):  # type: ignore[no-untyped-def]
            for block in range(blocks):
                for thread in range(threads):
                    body(block, thread, p, remainder, length, rows, row_decay, last)

        return m.jit(kernel)


Kernel = Update | Rows | Prologue | Leaves | Norms | Scale | Sums | Lag | CatchUp
