"""The step on the GPU where a stage needs whole rows, or where it takes some rows of a tensor only.

A block takes a few rows of one tensor (``chunks``: the first row, and tensor * 2^32 + number of rows; the first place
in ``picks`` and their number where rows are by_index). Short rows go to a team of 32 threads each, long ones to all
threads. The sum of the squares of a row is that of the tree of reductions.py: 8 threads have 4 neighbouring lanes each
of a leaf, and so read 4 elements at a time. Where the new weights are shrunk by their own norm, they are computed
twice, once for the sum and once to be stored: so nothing is kept between, whatever the length of the row.

``table`` has three words more for each tensor: the elements of a row, the addresses of ``row_decay`` and of its last
number. ``picks`` has two words for each touched row: the row, and the place of its gradient.

All work is shared out by loops that any number of threads may run; with one thread the barriers do nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...numerics.reductions import LIFT
from ..variant import ScalarLayout, Variant
from .grad_norm import LANES, LEAF, ROW, THREADS
from .intrinsics import REALS, Target
from .operands import cast, every, head, reader, spread, zeros
from .pipeline import addresses_of, loaded, pass_over, weights
from .row_sums import LEVELS, TOGETHER, reduction

FACTORS = LEVELS + 64  # in shared memory: the factors of each short row, or of the long one, behind the sums

u4 = np.uint32
u8 = np.uint64
f8 = np.float64


def shared(c: Variant) -> int:
    """Return how many float64 numbers a block keeps in shared memory."""
    return FACTORS + TOGETHER * factors(c)


def factors(c: Variant) -> int:
    """Return how many factors a row has: the slopes, each with its lift, that of the shrinking, what it missed."""
    return 2 * len(c.slopes) + 2


def update(m: Target, c: Variant) -> Any:
    """Return the body of the kernel: ``body(block, thread, threads, table, chunks, given, picks, kept)``.

    ``kept`` is an array of ``shared(c)`` float64 numbers in shared memory.
    """
    pair, four, record = m.load("u64", 2), m.load("u32", 4), m.load("u64", c.record)
    scalars, order = m.load(c.real, ScalarLayout(c).count), m.pick(addresses_of(c))
    rows, clear, ahead = group_of_rows(m, c), cleared(m, c), head(m, c.width)
    words, zero, at_length = u8(8 * c.record), c.zero, c.addresses + 1

    def body(block, thread, threads, table, chunks, given, picks, kept):  # type: ignore[no-untyped-def]
        start, packed = pair(chunks + u8(block) * u8(16))
        count = u8(packed & u8(0xFFFFFFFF))
        static = record(table + u8(packed >> u8(32)) * words)
        tensor, row, length = static[0], static[1], static[at_length]
        lags = static[at_length + 1], static[at_length + 2]
        g, there = pair(given + tensor * u8(32))
        if there == u8(0):
            return
        noise = four(row)
        aligned, _ = pair(given + tensor * u8(32) + u8(16))
        if noise[0] == u4(0):
            if zero:
                begin = start * length
                clear((g, begin), u8(thread), u8(threads), ahead(aligned, begin), count * length)
            return
        s = scalars(row + u8(16))
        a = order((g, *static))
        together = u8(TOGETHER) if length <= u8(LEAF) else u8(1)
        k = u8(0)
        while k < count:
            few = together if together < count - k else count - k
            rows(thread, threads, (a, aligned, picks, start + k), s, tensor, noise, length, lags, few, kept)
            k += together

    return m.jit(body)


def group_of_rows(m: Target, c: Variant) -> Any:
    """Return the function of a block that takes a few short rows, or a long one, through all stages."""
    place, vector, single, sync = placed(m, c), pass_over(m, c, c.width), pass_over(m, c, 1), m.sync
    lag, old, new, places = missed(m, c), squares(m, c, False), squares(m, c, True), ScalarLayout(c)
    put_slopes, put_shrink, extended = set_slopes(m, c, places), set_shrink(m, c, places), with_factors(m, c)
    lags, slopes, shrinks = c.lagging, bool(c.slopes), c.shrink is not None
    along = spread(
        m,
        c.width,
        m.jit(lambda row, i: vector(row[0], row[1] + i, row[2], row[3], row[4])),
        m.jit(lambda row, i: single(row[0], row[1] + i, row[2], row[3], row[4])),
    )

    def rows(thread, threads, where, s, tensor, noise, length, row_decay, few, kept):  # type: ignore[no-untyped-def]
        short = length <= u8(LEAF)
        if lags:
            lag(thread, threads, *row_decay, where[2], where[3], few, kept)
            sync()
        if slopes:
            old(thread, threads, (where, s), length, few, kept)
            put_slopes(thread, threads, s, length, few, kept)
            sync()
        if shrinks:
            new(thread, threads, (where, s), length, few, kept)
            put_shrink(thread, threads, s, length, few, kept)
            sync()
        q, step = u8(thread), u8(LANES) if short else u8(THREADS)
        while q < few * step:
            k, i = (q // u8(LANES), q % u8(LANES)) if short else (u8(0), q)
            columns, begin, before = place(where, k, length)
            along((columns, begin, extended(s, kept, k), tensor, noise), i, step, before, length)
            q += u8(threads)
        sync()  # before the next rows overwrite the factors

    return m.jit(rows)


def cleared(m: Target, c: Variant) -> Any:
    """Return the function that writes zeros to the gradients of some rows: of what is (address, first element)."""
    all, one, size = zeros(m, c.g, c.width), zeros(m, c.g, 1), u8(c.g.size)
    return spread(
        m,
        c.width,
        m.jit(lambda what, i: all(what[0] + (what[1] + i) * size)),
        m.jit(lambda what, i: one(what[0] + (what[1] + i) * size)),
    )


def placed(m: Target, c: Variant) -> Any:
    """Return the function of (where, k, length) that returns row ``k``: addresses, first element, head.

    ``where`` has addresses, the first aligned element, picks, the first row. The address of g is moved, so that a
    by_index row finds its gradient where a dense one would have it; where it was moved by no whole vectors, none is
    aligned.
    """
    pair, size, ahead, wide = m.load("u64", 2), u8(c.g.size), head(m, c.width), u8(c.width)

    def dense(where, k, length):  # type: ignore[no-untyped-def]
        a, first, _, begin = where
        return a, (begin + k) * length, ahead(first, (begin + k) * length)

    def by_index(where, k, length):  # type: ignore[no-untyped-def]
        a, first, picks, begin = where
        row, at = pair(picks + (begin + k) * u8(16))
        moved = (at - row) * length
        first = first if moved & (wide - u8(1)) == u8(0) else wide
        return (a[0], a[1] + moved * size, *a[2:]), row * length, ahead(first, row * length)

    return m.jit(by_index if c.by_index else dense)


def missed(m: Target, c: Variant) -> Any:
    """Return the function that sets what each row is multiplied by because it has missed decay."""
    pair, number = m.load("u64", 2), m.load("f64")
    count, at = u8(factors(c)), u8(FACTORS + factors(c) - 1)

    def lag(thread, threads, decayed, last, picks, first, few, kept):  # type: ignore[no-untyped-def]
        (now,) = number(last)
        q = u8(thread)
        while q < few:
            row, _ = pair(picks + (first + q) * u8(16))
            (then,) = number(decayed + row * u8(8))
            kept[at + q * count] = now / then
            q += u8(threads)

    return m.jit(lag)


def with_factors(m: Target, c: Variant) -> Any:
    """Return the function of (scalars, kept, row) that appends the factors of a row, rounded to the compute type."""
    chain, rounded = m.jit(lambda s, kept, at: s), cast(m, REALS[c.real])
    present = [*[True] * (2 * len(c.slopes)), c.shrink is not None, c.lagging]
    for k, there in enumerate(present):
        chain = m.jit(appended(chain, rounded, k, there))
    count, first = u8(factors(c)), u8(FACTORS)
    return m.jit(lambda s, kept, row: chain(s, kept, first + row * count))


def appended(before: Any, rounded: Any, k: int, there: bool) -> Any:
    """Return ``before`` with factor ``k`` behind it, 1 where there is none."""
    place = u8(k)

    def with_it(s, kept, at):  # type: ignore[no-untyped-def]
        return (*before(s, kept, at), rounded(kept[at + place]))

    def with_one(s, kept, at):  # type: ignore[no-untyped-def]
        return (*before(s, kept, at), rounded(f8(1)))

    return with_it if there else with_one


def squares(m: Target, c: Variant, new: bool) -> Any:
    """Return the function that sums the squares of a few rows of p: their sums begin the lines of ``kept``.

    ``new`` is about the weights after the step and before they are shrunk.
    """
    place, extended = placed(m, c), with_factors(m, c)

    def found(what, kept, k, length):  # type: ignore[no-untyped-def]
        where, s = what
        columns, begin, before = place(where, k, length)
        return (columns, extended(s, kept, k)), begin, before

    return reduction(m, m.jit(found), terms(m, c, new, 4), terms(m, c, new, 1), c.width)


def terms(m: Target, c: Variant, new: bool, count: int) -> Any:
    """Return the function of ((addresses, scalars), element) that returns what ``count`` neighbours add to a sum."""
    width = min(count, c.width)
    read = loaded(m, c, width) if new else reader(m, c.p, 0, c, width)
    lags, lag = c.lagging, ScalarLayout(c).lag
    if new:
        stages = weights(m, c)
        value = m.jit(lambda x, s: stages(x, s)[0])
    else:
        value = m.jit(lambda x, s: x * s[lag] if lags else x)

    def square(x, s):  # type: ignore[no-untyped-def]
        x = f8(value(x, s))
        return x * x

    one = m.jit(square)

    def single(at, i):  # type: ignore[no-untyped-def]
        return one(read(at[0], i)[0], at[1])

    def pair(at, i):  # type: ignore[no-untyped-def]
        x = read(at[0], i)
        return one(x[0], at[1]), one(x[1], at[1])

    def four(at, i):  # type: ignore[no-untyped-def]
        x = read(at[0], i)
        return one(x[0], at[1]), one(x[1], at[1]), one(x[2], at[1]), one(x[3], at[1])

    some = m.jit({1: single, 2: pair, 4: four}[width])
    return some if width == count else m.jit(lambda at, i: (*some(at, i), *some(at, i + u8(2))))


def set_slopes(m: Target, c: Variant, places: ScalarLayout) -> Any:
    """Return the function that makes the factors of the gradients of each row, from its sum."""
    chain, rounded = m.jit(lambda kept, q, at, size, s: None), cast(m, REALS[c.real])
    for k, (penalty, coefficients) in enumerate(zip(c.slopes, places.slopes, strict=True)):
        form = doubles(m, m.compile_tree(penalty.element("slope")), m.pick(coefficients), len(coefficients))
        chain = m.jit(sloped(chain, form, rounded, 2 * k))
    return over_rows(m, chain, factors(c))


def set_shrink(m: Target, c: Variant, places: ScalarLayout) -> Any:
    """Return the function that makes what each row is shrunk by, from its sum."""
    chain = m.jit(lambda kept, q, at, size, s: None)
    if c.shrink is not None:
        own = (places.step, *places.shrink)
        form = doubles(m, m.compile_tree(c.shrink.element("shrink")), m.pick(own), len(own))
        chain = m.jit(assigned(chain, form, 2 * len(c.slopes)))
    return over_rows(m, chain, factors(c))


def doubles(m: Target, form: Any, coefficients: Any, count: int) -> Any:
    """Return ``form`` of (squares, size, scalars), computed in float64."""
    wide = every(m, cast(m, f8), count)
    return m.jit(lambda squares, size, s: form(squares, size, *wide(coefficients(s))))


def sloped(before: Any, form: Any, rounded: Any, k: int) -> Any:
    """Return ``before`` with a slope and its lift set as well, as ``row_gradient`` of reductions.py has them."""
    place = u8(k)

    def stage(kept, q, at, size, s):  # type: ignore[no-untyped-def]
        before(kept, q, at, size, s)
        squares, lift = kept[q * u8(ROW)], f8(1)
        slope = form(squares, size, s)
        if rounded(slope) == np.inf:
            lift = f8(LIFT)
            slope = form(squares * lift * lift, size, s)
        kept[at + place] = slope
        kept[at + place + u8(1)] = lift

    return stage


def assigned(before: Any, form: Any, k: int) -> Any:
    """Return ``before`` with factor ``k`` of a row set as well."""
    place = u8(k)

    def stage(kept, q, at, size, s):  # type: ignore[no-untyped-def]
        before(kept, q, at, size, s)
        kept[at + place] = form(kept[q * u8(ROW)], size, s)

    return stage


def over_rows(m: Target, chain: Any, each: int) -> Any:
    """Return the function that calls ``chain`` for a few rows, shared out to all threads."""
    count = u8(each)

    def put(thread, threads, s, length, few, kept):  # type: ignore[no-untyped-def]
        q = u8(thread)
        while q < few:
            chain(kept, q, u8(FACTORS) + q * count, f8(length), s)
            q += u8(threads)

    return m.jit(put)
