"""Row-sparse step: sum duplicate gradients, track deferred decay; ``whole_rows.py`` does the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..variant import Operand, Variant
from .grad_norm import LANES, LEAF, ROW, THREADS
from .intrinsics import REALS, SIZES, WIDEST, Target
from .operands import cast, each, head, reader, spread, writer
from .row_sums import reduction

TEAMS = THREADS // LANES  # rows of a block

u4 = np.uint32
u8 = np.uint64
f8 = np.float64


def narrow(p: Operand) -> Variant:
    """Return a variant that reads and writes p alone."""
    return Variant(None, p, Operand("g", p.kind), ())


def sums(m: Target, kind: str, real: str) -> Any:
    """Return the body of the kernel that adds up the gradients of each touched row, in the order of the list.

    ``body(block, thread, threads, order, firsts, values, sums, terms, length, count, result, kept)``: ``order`` has the
    places of the gradients, those of touched row j from ``firsts[j]`` to ``firsts[j + 1]``; ``terms`` gets the sum of
    the squares of each sum. Vectors are moved where each row is a whole number of them: those that are added would else
    be aligned differently.
    """
    given = Variant(None, Operand("p", real), Operand("g", kind), ())
    place, term, sync, total_of = m.load("u64"), m.store("f64"), m.sync, row_squares(m, real)
    wide, bytes_of_vector = u8(given.width), u8(min(WIDEST, given.width * given.g.size))
    along = spread(m, given.width, *(added(m, given, width) for width in (given.width, 1)))

    def body(block, thread, threads, order, firsts, values, sums, terms, length, count, result, kept):  # type: ignore[no-untyped-def]
        short = length <= u8(LEAF)
        together, step = (u8(TEAMS), u8(LANES)) if short else (u8(1), u8(THREADS))
        row = u8(block) * together
        few = together if together < count - row else count - row
        aligned = length % wide == u8(0) and values % bytes_of_vector == u8(0)
        q = u8(thread)
        while q < few * step:
            k, i = (row + q // u8(LANES), q % u8(LANES)) if short else (row, q)
            (first,) = place(firsts + k * u8(8))
            (stop,) = place(firsts + (k + u8(1)) * u8(8))
            what = values, order, first, stop, length, sums, k * length, result
            along(what, i, step, u8(0) if aligned else wide, length)
            q += u8(threads)
        sync()
        total_of(thread, threads, (sums, row), length, few, kept)
        q = u8(thread)
        while q < few:
            term(terms + (row + q) * u8(8), (kept[q * u8(ROW)],))
            q += u8(threads)

    return m.jit(body)


def added(m: Target, given: Variant, width: int) -> Any:
    """Return the function that adds up ``width`` neighbours of all gradients of a row, and flags what is not finite."""
    read, put, flag = reader(m, given.g, 0, given, width), m.store(given.real, width), m.store("u64")
    place, size, doubt, transpose = m.load("u64"), u8(given.p.size), doubts(m, width), m.transpose
    plus = each(m, m.jit(lambda pair: pair[0] + pair[1]), width)

    def of_a_row(what, i):  # type: ignore[no-untyped-def]
        values, order, first, stop, length, sums, begin, result = what
        (at,) = place(order + first * u8(8))
        total = read((values,), at * length + i)
        k = first + u8(1)
        while k < stop:
            (at,) = place(order + k * u8(8))
            total = plus(transpose((total, read((values,), at * length + i))))
            k += u8(1)
        put(sums + (begin + i) * size, total)
        doubtful = doubt(total)
        if doubtful != doubtful:
            flag(result + u8(16), (u8(1),))

    return m.jit(of_a_row)


def doubts(m: Target, count: int) -> Any:
    """Return the function of a tuple of ``count`` numbers that is 0, or NaN where one of them is not finite."""
    last = count - 1
    if count == 1:
        return m.jit(lambda x: x[0] - x[0])
    before = doubts(m, last)
    return m.jit(lambda x: before(x) + (x[last] - x[last]))


def row_squares(m: Target, real: str) -> Any:
    """Return the function that sums the squares of a few rows of an aligned array in the compute type."""
    size, width = u8(SIZES[real]), WIDEST // SIZES[real]
    ahead, read, single = head(m, width), m.load(real, 4), m.load(real)
    square = m.jit(lambda x: f8(x) * f8(x))

    def found(what, kept, k, length):  # type: ignore[no-untyped-def]
        values, first = what
        return values, (first + k) * length, ahead(u8(0), (first + k) * length)

    def four(values, i):  # type: ignore[no-untyped-def]
        x0, x1, x2, x3 = read(values + i * size)
        return square(x0), square(x1), square(x2), square(x3)

    return reduction(m, m.jit(found), m.jit(four), m.jit(lambda values, i: square(single(values + i * size)[0])), width)


def lag(m: Target) -> Any:
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


def catch_up(m: Target, p: Operand) -> Any:
    """Return the body of the kernel that decays all rows by what they have missed; row_decay stays as it is."""
    c = narrow(p)
    ahead, wide, size, low = head(m, c.width), u8(c.width), u8(p.size), p.rounding == "remainder"
    number, rounded = m.load("f64"), cast(m, REALS[c.real])
    along = spread(m, c.width, *(scaled(m, c, width) for width in (c.width, 1)))

    def body(block, thread, p, remainder, length, rows, row_decay, last):  # type: ignore[no-untyped-def]
        row = u8(block) * u8(TEAMS) + u8(thread) // u8(LANES)
        if row < rows:
            (now,) = number(last)
            (then,) = number(row_decay + row * u8(8))
            if now != then:
                first = (u8(0) - p) % u8(WIDEST) // size
                if low and (p - remainder) % u8(WIDEST) != u8(0):
                    first = wide
                what = (p, p, remainder), row * length, rounded(now / then)
                along(what, u8(thread) % u8(LANES), u8(LANES), ahead(first, row * length), length)

    return m.jit(body)


def scaled(m: Target, c: Variant, width: int) -> Any:
    """Return the function of ((addresses, begin of the row, factor), i) that multiplies ``width`` neighbours."""
    read, write = reader(m, c.p, 0, c, width), writer(m, c.p, 0, c, width)
    times = each(m, m.jit(lambda x, factor: x * factor), width)

    def of_a_row(what, i):  # type: ignore[no-untyped-def]
        a, begin, factor = what
        write(a, begin + i, times(read(a, begin + i), factor), u8(0), (u4(0), u4(0), u4(0), u4(0)))

    return m.jit(of_a_row)
