"""What a step of some rows needs on the GPU besides ``rows_cuda.py``: sums of their gradients, and notes of decay."""

from __future__ import annotations

from typing import Any

import numpy as np

from .columns_cuda import Column, Combination, cast, reader, writer
from .memory_cuda import SIZES, Memory
from .norms_cuda import LANES, LEAF, ROW
from .rows_cuda import TEAMS, THREADS, reduction

u4 = np.uint32
u8 = np.uint64
f8 = np.float64


def narrow(p: Column) -> Combination:
    """Return a combination that reads and writes p alone."""
    return Combination("none", p, Column("g", p.kind), ())


def sums(m: Memory, kind: str, real: str) -> Any:
    """Return the body of the kernel that adds up the gradients of each touched row, in the order of the list.

    ``body(block, thread, threads, order, firsts, values, sums, terms, length, count, result, kept)``: ``order`` has the
    places of the gradients, those of touched row j from ``firsts[j]`` to ``firsts[j + 1]``; ``terms`` gets the sum of
    the squares of each sum.
    """
    given = Combination("none", Column("p", real), Column("g", kind), ())
    read, place, put, term = reader(m, given.g, 0, given, 1), m.load("u64"), m.store(real), m.store("f64")
    size, flag, sync, total_of = u8(SIZES[real]), m.store("u64"), m.sync, row_squares(m, real)

    def added(values, order, first, stop, length, i):  # type: ignore[no-untyped-def]
        (at,) = place(order + first * u8(8))
        total = read((values,), at * length + i)[0]
        k = first + u8(1)
        while k < stop:
            (at,) = place(order + k * u8(8))
            total += read((values,), at * length + i)[0]
            k += u8(1)
        return total

    sum_of = m.jit(added)

    def body(block, thread, threads, order, firsts, values, sums, terms, length, count, result, kept):  # type: ignore[no-untyped-def]
        short = length <= u8(LEAF)
        together = u8(TEAMS) if short else u8(1)
        row = u8(block) * together
        few = together if together < count - row else count - row
        q = u8(thread)
        while q < u8(THREADS):
            team = q // u8(LANES) if short else u8(0)
            if team < few:
                (first,) = place(firsts + (row + team) * u8(8))
                (stop,) = place(firsts + (row + team + u8(1)) * u8(8))
                i = q % u8(LANES) if short else q
                while i < length:
                    x = sum_of(values, order, first, stop, length, i)
                    put(sums + ((row + team) * length + i) * size, (x,))
                    if x - x != x - x:
                        flag(result + u8(16), (u8(1),))
                    i += u8(LANES) if short else u8(THREADS)
            q += u8(threads)
        sync()
        total_of(thread, threads, (sums, row), length, few, kept)
        q = u8(thread)
        while q < few:
            term(terms + (row + q) * u8(8), (kept[q * u8(ROW)],))
            q += u8(threads)

    return m.jit(body)


def row_squares(m: Memory, real: str) -> Any:
    """Return the function that sums the squares of a few rows of an array in the compute type."""
    read, size = m.load(real), u8(SIZES[real])

    def lane(what, kept, row, i, end, length):  # type: ignore[no-untyped-def]
        values, first = what
        total = f8(0)
        while i < end:
            x = f8(read(values + ((first + row) * length + i) * size)[0])
            total += x * x
            i += u8(LANES)
        return total

    return reduction(m, m.jit(lane))


def lag(m: Memory) -> Any:
    """Return the body of the kernel, of one block, that notes what all rows but the touched ones have missed."""
    number, put, pair, four, sync = m.load("f64"), m.store("f64"), m.load("u64", 2), m.load("u32", 4), m.sync

    def body(thread, threads, picks, count, row_decay, last, row, call):  # type: ignore[no-untyped-def]
        done, _, _, _ = four(row)
        (now,) = number(last)
        (factor,) = number(call + u8(40))
        sync()
        if done != u4(0):
            now = now * factor
            if thread == 0:
                put(last, (now,))
            q = u8(thread)
            while q < count:
                touched, _ = pair(picks + q * u8(16))
                put(row_decay + touched * u8(8), (now,))
                q += u8(threads)

    return m.jit(body)


def catch_up(m: Memory, p: Column) -> Any:
    """Return the body of the kernel that decays all rows by what they have missed; row_decay stays as it is."""
    c = narrow(p)
    read, write = reader(m, p, 0, c, 1), writer(m, p, 0, c, 1)
    number, rounded = m.load("f64"), cast(m, {"f32": np.float32, "f64": np.float64}[c.real])

    def body(block, thread, p, remainder, length, rows, row_decay, last):  # type: ignore[no-untyped-def]
        row = u8(block) * u8(TEAMS) + u8(thread) // u8(LANES)
        if row < rows:
            (now,) = number(last)
            (then,) = number(row_decay + row * u8(8))
            if now != then:
                a, noise = (p, p, remainder), (u4(0), u4(0), u4(0), u4(0))
                factor = rounded(now / then)
                i = u8(thread) % u8(LANES)
                while i < length:
                    write(a, row * length + i, (read(a, row * length + i)[0] * factor,), u8(0), noise)
                    i += u8(LANES)

    return m.jit(body)
