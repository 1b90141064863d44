"""The step on the GPU where a stage needs whole rows, or where it takes some rows of a tensor only.

A block takes a few rows of one tensor (``chunks``: the first row, and tensor * 2^32 + number of rows; the first place
in ``picks`` and their number where rows are picked). Short rows go to a team of 32 threads each, long ones to all
threads. The sum of the squares of a row is that of the tree of norms.py: one thread has one lane of a leaf. Where the
new weights are shrunk by their own norm, they are computed twice, once for the sum and once to be stored: so nothing is
kept between, whatever the length of the row.

``table`` has three words more for each tensor: the elements of a row, the addresses of ``row_decay`` and of its last
number. ``picks`` has two words for each touched row: the row, and the place of its gradient.

All work is shared out by loops that any number of threads may run; with one thread the barriers do nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .columns_cuda import Combination, cast, every, reader, zeros
from .memory_cuda import Memory
from .norms_cuda import LANES, LEAF, ROW, fold_lanes
from .step_cuda import Places, addresses_of, loaded, pass_over, penalty, weights

THREADS = 256
TEAMS = THREADS // LANES  # leaves, or short rows, at a time
LEVELS = TEAMS * ROW  # in shared memory: the sums of 2^k blocks of leaves, k < 64
FACTORS = LEVELS + 64  # and the factors of each short row, or of the long one

u4 = np.uint32
u8 = np.uint64
f8 = np.float64


def shared(c: Combination) -> int:
    """Return how many float64 numbers a block keeps in shared memory."""
    return FACTORS + TEAMS * factors(c)


def factors(c: Combination) -> int:
    """Return how many factors a row has: of the slopes, of the shrinking, and what it missed."""
    return len(c.slopes) + 2


def update(m: Memory, c: Combination) -> Any:
    """Return the body of the kernel: ``body(block, thread, threads, table, chunks, given, picks, kept)``.

    ``kept`` is an array of ``shared(c)`` float64 numbers in shared memory.
    """
    pair, four, record = m.load("u64", 2), m.load("u32", 4), m.load("u64", c.record)
    scalars, order = m.load(c.real, Places(c).count), m.pick(addresses_of(c))
    rows, clear = group_of_rows(m, c), zeros(m, c.g, 1)
    words, zero, bytes_g = u8(8 * c.record), c.zero, u8(c.g.size)
    at_length = c.addresses + 1

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
        if noise[0] == u4(0):
            if zero:
                i = start * length + u8(thread)
                while i < (start + count) * length:
                    clear(g + i * bytes_g)
                    i += u8(threads)
            return
        s = scalars(row + u8(16))
        a = order((g, *static))
        together = u8(TEAMS) if length <= u8(LEAF) else u8(1)
        k = u8(0)
        while k < count:
            few = together if together < count - k else count - k
            rows(thread, threads, a, s, tensor, noise, length, lags, picks, start + k, few, kept)
            k += together

    return m.jit(body)


def group_of_rows(m: Memory, c: Combination) -> Any:
    """Return the function of a block that takes a few short rows, or a long one, through all stages."""
    place, passed, sync, places = placed(m, c), pass_over(m, c, 1), m.sync, Places(c)
    lag, old, new = missed(m, c), squares(m, c, False), squares(m, c, True)
    put_slopes, put_shrink, extended = set_slopes(m, c, places), set_shrink(m, c, places), with_factors(m, c)
    lags, slopes, shrinks = c.lagging, bool(c.slopes), c.shrink is not None

    def rows(thread, threads, a, s, tensor, noise, length, row_decay, picks, first, few, kept):  # type: ignore[no-untyped-def]
        short = length <= u8(LEAF)
        if lags:
            lag(thread, threads, *row_decay, picks, first, few, kept)
            sync()
        if slopes:
            old(thread, threads, (a, s, picks, first), length, few, kept)
            put_slopes(thread, threads, s, length, few, kept)
            sync()
        if shrinks:
            new(thread, threads, (a, s, picks, first), length, few, kept)
            put_shrink(thread, threads, s, length, few, kept)
            sync()
        q = u8(thread)
        while q < u8(THREADS):
            team = q // u8(LANES) if short else u8(0)
            if team < few:
                begin, columns = place(a, picks, first + team, length)
                own = extended(s, kept, team)
                i = q % u8(LANES) if short else q
                while i < length:
                    passed(columns, begin + i, own, tensor, noise)
                    i += u8(LANES) if short else u8(THREADS)
            q += u8(threads)
        sync()  # before the next rows overwrite the factors

    return m.jit(rows)


def placed(m: Memory, c: Combination) -> Any:
    """Return the function of (addresses, picks, k, length) that returns where row ``k`` begins, and the addresses.

    That of g is moved, so that a picked row finds its gradient where a dense one would have it.
    """
    pair, size = m.load("u64", 2), u8(c.g.size)
    if not c.picked:
        return m.jit(lambda a, picks, k, length: (k * length, a))

    def picked(a, picks, k, length):  # type: ignore[no-untyped-def]
        row, at = pair(picks + k * u8(16))
        return row * length, (a[0], a[1] + (at - row) * length * size, *a[2:])

    return m.jit(picked)


def missed(m: Memory, c: Combination) -> Any:
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


def with_factors(m: Memory, c: Combination) -> Any:
    """Return the function of (scalars, kept, row) that appends the factors of a row, rounded to the compute type."""
    real = {"f32": np.float32, "f64": np.float64}[c.real]
    chain = m.jit(lambda s, kept, at: s)
    present = [*[True] * len(c.slopes), c.shrink is not None, c.lagging]
    for k, there in enumerate(present):
        chain = m.jit(appended(chain, cast(m, real), k, there))
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


def squares(m: Memory, c: Combination, new: bool) -> Any:
    """Return the function that sums the squares of a few rows of p: their sums begin the lines of ``kept``.

    ``new`` is about the weights after the step and before they are shrunk.
    """
    place, extended, places = placed(m, c), with_factors(m, c), Places(c)
    if new:
        read, stages = loaded(m, c, 1), weights(m, c)
        value = m.jit(lambda a, i, s: f8(stages(read(a, i)[0], s)[0]))
    elif c.lagging:
        read, lag = reader(m, c.p, 0, c, 1), places.lag
        value = m.jit(lambda a, i, s: f8(read(a, i)[0] * s[lag]))
    else:
        read = reader(m, c.p, 0, c, 1)
        value = m.jit(lambda a, i, s: f8(read(a, i)[0]))

    def lane(what, kept, row, i, end, length):  # type: ignore[no-untyped-def]
        a, s, picks, first = what
        begin, columns = place(a, picks, first + row, length)
        own = extended(s, kept, row)
        total = f8(0)
        while i < end:
            x = value(columns, begin + i, own)
            total += x * x
            i += u8(LANES)
        return total

    return reduction(m, m.jit(lane))


def reduction(m: Memory, lane: Any) -> Any:
    """Return the function of (thread, threads, what, length, few, kept) that sums over the tree for a few rows.

    ``lane(what, kept, row, i, end, length)`` returns the sum of the terms i, i + 32, ... below ``end`` of a row.
    """
    sync, fold, block, finish = m.sync, fold_lanes(m), fold_block(m), fold_levels(m)

    def summed(thread, threads, what, length, few, kept):  # type: ignore[no-untyped-def]
        short = length <= u8(LEAF)
        leaves = u8(1) if short else (length + u8(LEAF - 1)) // u8(LEAF)
        base = u8(0)
        while base < leaves:
            q = u8(thread)
            while q < u8(THREADS):
                team = q // u8(LANES)
                row = team if short else u8(0)
                start = u8(0) if short else (base + team) * u8(LEAF)
                end = start + u8(LEAF)
                end = end if end < length else length
                total = f8(0)
                if row < few and start < length:
                    total = lane(what, kept, row, start + q % u8(LANES), end, length)
                kept[team * u8(ROW) + q % u8(LANES)] = total
                q += u8(threads)
            sync()
            q = u8(thread)
            while q < u8(TEAMS):
                fold(kept, q * u8(ROW))
                q += u8(threads)
            sync()
            if not short:
                if thread == 0:
                    block(kept, base // u8(TEAMS), leaves - base)
                sync()
            base += u8(TEAMS)
        if not short:
            if thread == 0:
                finish(kept, (leaves + u8(TEAMS - 1)) // u8(TEAMS))
            sync()

    return m.jit(summed)


def fold_block(m: Memory) -> Any:
    """Return the function that folds up to ``TEAMS`` leaves in pairs and adds them to the sums of the blocks before.

    As in a binary counter, block ``k`` ends as many pairs as it has low bits set.
    """

    def block(kept, k, leaves):  # type: ignore[no-untyped-def]
        count = leaves if leaves < u8(TEAMS) else u8(TEAMS)
        while count > u8(1):
            half = count // u8(2)
            j = u8(0)
            while j < half:
                kept[j * u8(ROW)] = kept[u8(2) * j * u8(ROW)] + kept[(u8(2) * j + u8(1)) * u8(ROW)]
                j += u8(1)
            if count > half + half:
                kept[half * u8(ROW)] = kept[(count - u8(1)) * u8(ROW)]
            count = count - half
        total = kept[0]
        level = u8(LEVELS)
        while k & u8(1) != u8(0):
            total = kept[level] + total
            level += u8(1)
            k = k >> u8(1)
        kept[level] = total

    return m.jit(block)


def fold_levels(m: Memory) -> Any:
    """Return the function that adds up what is left of ``count`` blocks, from the last on, into the first number."""

    def finish(kept, count):  # type: ignore[no-untyped-def]
        level = u8(LEVELS)
        while count & u8(1) == u8(0):
            level += u8(1)
            count = count >> u8(1)
        total = kept[level]
        count = count >> u8(1)
        while count > u8(0):
            level += u8(1)
            if count & u8(1) != u8(0):
                total = kept[level] + total
            count = count >> u8(1)
        kept[0] = total

    return m.jit(finish)


def set_slopes(m: Memory, c: Combination, places: Places) -> Any:
    """Return the function that makes the factors of the gradients of each row, from its sum."""
    chain = m.jit(lambda kept, q, at, size, s: None)
    for k, ((stem, _), coefficients) in enumerate(zip(c.slopes, places.slopes, strict=True)):
        form = doubles(m, m.adopt(penalty(stem, "slope")), m.pick(coefficients), len(coefficients))
        chain = m.jit(assigned(chain, form, k))
    return over_rows(m, chain, factors(c))


def set_shrink(m: Memory, c: Combination, places: Places) -> Any:
    """Return the function that makes what each row is shrunk by, from its sum."""
    chain = m.jit(lambda kept, q, at, size, s: None)
    if c.shrink is not None:
        own = (places.step, *places.shrink)
        form = doubles(m, m.adopt(penalty(c.shrink[0], "shrink")), m.pick(own), len(own))
        chain = m.jit(assigned(chain, form, len(c.slopes)))
    return over_rows(m, chain, factors(c))


def doubles(m: Memory, form: Any, coefficients: Any, count: int) -> Any:
    """Return ``form`` of (squares, size, scalars), computed in float64."""
    wide = every(m, cast(m, f8), count)
    return m.jit(lambda squares, size, s: form(squares, size, *wide(coefficients(s))))


def assigned(before: Any, form: Any, k: int) -> Any:
    """Return ``before`` with factor ``k`` of a row set as well."""
    place = u8(k)

    def stage(kept, q, at, size, s):  # type: ignore[no-untyped-def]
        before(kept, q, at, size, s)
        kept[at + place] = form(kept[q * u8(ROW)], size, s)

    return stage


def over_rows(m: Memory, chain: Any, each: int) -> Any:
    """Return the function that calls ``chain`` for a few rows, shared out to all threads."""
    count = u8(each)

    def put(thread, threads, s, length, few, kept):  # type: ignore[no-untyped-def]
        q = u8(thread)
        while q < few:
            chain(kept, q, u8(FACTORS) + q * count, f8(length), s)
            q += u8(threads)

    return m.jit(put)
