"""The tree of reductions.py over rows on the GPU: a block sums a few short rows at a time, or the leaves of a long one.

8 threads have 4 neighbouring lanes each of a leaf, and so read 4 elements at a time. All work is shared out by loops
that any number of threads may run; with one thread the barriers do nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .grad_norm import LANES, LEAF, LEAVES, READERS, ROW, THREADS, fold_lanes
from .intrinsics import Target

TOGETHER = LEAVES  # leaves, or short rows, at a time
LEVELS = TOGETHER * ROW  # in shared memory: the sums of 2^k blocks of leaves, k < 64

u4 = np.uint32
u8 = np.uint64
f8 = np.float64


def reduction(m: Target, found: Any, four: Any, one: Any, width: int) -> Any:
    """Return the function of (thread, threads, what, length, few, kept) that sums over the tree for a few rows.

    ``found(what, kept, k, length)`` returns where row ``k`` is, its first element, and its head for ``width``;
    ``one(where, i)`` and ``four(where, i)`` return what elements of it add.
    """
    sync, fold, block, finish = m.sync, fold_lanes(m), fold_block(m), fold_levels(m)
    fill = filled(m, found, four, one, width)

    def summed(thread, threads, what, length, few, kept):  # type: ignore[no-untyped-def]
        short = length <= u8(LEAF)
        leaves = u8(1) if short else (length + u8(LEAF - 1)) // u8(LEAF)
        base = u8(0)
        while base < leaves:
            q = u8(thread)
            while q < u8(THREADS):
                leaf = q // u8(READERS)
                row, start = (leaf, u8(0)) if short else (u8(0), (base + leaf) * u8(LEAF))
                fill(what, kept, leaf, q % u8(READERS), row, few, start, length)
                q += u8(threads)
            sync()
            q = u8(thread)
            while q < u8(TOGETHER):
                fold(kept, q * u8(ROW))
                q += u8(threads)
            sync()
            if not short:
                if thread == 0:
                    block(kept, base // u8(TOGETHER), leaves - base)
                sync()
            base += u8(TOGETHER)
        if not short:
            if thread == 0:
                finish(kept, (leaves + u8(TOGETHER - 1)) // u8(TOGETHER))
            sync()

    return m.jit(summed)


def filled(m: Target, found: Any, four: Any, one: Any, width: int) -> Any:
    """Return the function of one thread of a leaf, which sets 4 of its lanes: to 0 where there is no such row."""
    lanes, wide = quarter(m, four, one), u8(width)

    def fill(what, kept, leaf, reader, row, few, start, length):  # type: ignore[no-untyped-def]
        k, a, b, c, d = u4(u8(4) * (reader + u8(1))), f8(0), f8(0), f8(0), f8(0)
        if row < few and start < length:
            where, begin, before = found(what, kept, row, length)
            if before < wide and before & u8(3) != u8(0):  # the first four ends where the first vector begins
                k = u4(k - u4(4) + u4(before & u8(3)))
            count = length - start if length - start < u8(LEAF) else u8(LEAF)
            a, b, c, d = lanes(where, begin + start - u8(4), k, u4(count + u8(4)), before < wide)
        at, k = leaf * u8(ROW), u4(k + u4(LANES - 4))
        kept[at + k % u4(LANES)] = a
        kept[at + (k + u4(1)) % u4(LANES)] = b
        kept[at + (k + u4(2)) % u4(LANES)] = c
        kept[at + (k + u4(3)) % u4(LANES)] = d

    return m.jit(fill)


def quarter(m: Target, four: Any, one: Any) -> Any:
    """Return the function of (where, origin, k, end, aligned) that sums 4 neighbouring lanes.

    They are those of the elements k, k + 1, k + 2 and k + 3 behind ``origin``, of each 32 the same, and only from 4 on
    and before ``end``. A four of which all are there is a vector, where one is ``aligned``. 32 bits: fewer registers.
    """

    def turned(a, b, c, d, times):  # type: ignore[no-untyped-def]
        if times & u4(1) != u4(0):
            a, b, c, d = b, c, d, a
        return (c, d, a, b) if times & u4(2) != u4(0) else (a, b, c, d)

    turn = m.jit(turned)

    def lanes(where, origin, k, end, aligned):  # type: ignore[no-untyped-def]
        a = b = c = d = f8(0)
        while k < end:
            while aligned and k >= u4(4) and u4(k + u4(4)) <= end:
                x0, x1, x2, x3 = four(where, origin + u8(k))
                a, b, c, d = a + x0, b + x1, c + x2, d + x3
                k = u4(k + u4(LANES))
            # one by one to the end of this four, or to the end: LLVM would write out a loop of 4
            i, stop = k if k > u4(4) else u4(4), u4(k + u4(4))  # all sums are 0 where i is not k
            stop = stop if aligned and stop < end else end
            while i < stop:
                a, b, c, d = b, c, d, a + one(where, origin + u8(i))
                i = u4(i + u4(1))
                if u4(i - k) & u4(3) == u4(0):
                    i = u4(i + u4(LANES - 4))
            a, b, c, d = turn(a, b, c, d, u4(k - i))
            k = u4(k + u4(LANES)) if aligned else i
        return a, b, c, d

    return m.jit(lanes)


def fold_block(m: Target) -> Any:
    """Return the function that folds up to ``TOGETHER`` leaves in pairs and adds them to the sums of the blocks before.

    As in a binary counter, block ``k`` ends as many pairs as it has low bits set.
    """

    def block(kept, k, leaves):  # type: ignore[no-untyped-def]
        count = leaves if leaves < u8(TOGETHER) else u8(TOGETHER)
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


def fold_levels(m: Target) -> Any:
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
