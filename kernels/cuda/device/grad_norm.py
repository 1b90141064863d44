"""The tree of reductions.py on the GPU: the sum of squares of each leaf, and the fold of leaves by one block.

A leaf is read by 8 threads of 4 neighbouring elements, so that each has 4 of the 32 lanes. The barriers stand between
the functions below: with one thread they do the same work in the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..variant import Operand
from .intrinsics import Target
from .operands import codec

LEAF = 4096
LANES = 32
READERS = 8  # threads of a leaf
THREADS = 256
LEAVES = THREADS // READERS  # leaves of a block
ROW = LANES + 1  # lanes of a leaf in shared memory; the odd one keeps leaves in different banks

u8 = np.uint64
f8 = np.float64


def leaves(m: Target, kind: str, squared: bool = True) -> tuple[Any, Any]:
    """Return the two phases of the kernel that sums the squares of arrays stored as ``kind``, or their elements.

    ``read(block, thread, given, leaves, count, lanes)`` fills the lanes of a block in shared memory and returns whether
    an element was not finite, which is not asked where they are not squared; ``combine(block, thread, leaves, count,
    lanes, info, partial)`` writes the leaves. ``leaves`` has two words for each leaf: its first element, and tensor *
    2^32 + number of elements; pipeline.py and prologue.py describe ``given`` and ``info``. A tensor without a
    gradient has leaves of 0.
    """
    return leaf_reader(m, kind, squared), leaf_writer(m)


def leaf_reader(m: Target, kind: str, squared: bool) -> Any:
    """Return the first phase."""
    pair, word = m.load("u64", 2), m.load("u64")
    size = u8(Operand("g", kind).size)
    vectors, rest = quadruples(m, kind, squared), lane(m, kind, squared)
    told = squared and kind != "f64"  # squares of the others do not overflow: the sums tell what was not finite

    def read(block, thread, given, leaves, count, lanes):  # type: ignore[no-untyped-def]
        leaf = u8(block) * u8(LEAVES) + u8(thread) // u8(READERS)
        reader = u8(thread) % u8(READERS)
        a = b = c = d = f8(0)
        bad = f8(0)
        if leaf < count:
            start, packed = pair(leaves + leaf * u8(16))
            (g,) = word(given + u8(packed >> u8(32)) * u8(32))
            if g != u8(0):
                g = g + start * size
                end = g + u8(packed & u8(0xFFFFFFFF)) * size
                at, a, b, c, d, bad = vectors(g, g + reader * (u8(4) * size), end)
                a, p = rest(at, end, a)  # one lane after another: few registers
                b, q = rest(at + size, end, b)
                c, r = rest(at + u8(2) * size, end, c)
                d, s = rest(at + u8(3) * size, end, d)
                bad += (p + q) + (r + s)
        if told:
            bad = (a - a) + (b - b) + (c - c) + (d - d)
        k = u8(thread) // u8(READERS) * u8(ROW) + reader * u8(4)
        lanes[k], lanes[k + u8(1)], lanes[k + u8(2)], lanes[k + u8(3)] = a, b, c, d
        return bad != f8(0)

    return m.jit(read)


def quadruples(m: Target, kind: str, squared: bool) -> Any:
    """Return the function that adds whole vectors of four to as many lanes, where they are aligned."""
    four, term, doubt = fetch(m, kind, 4), term_of(m, squared), doubt_of(m, kind, squared)
    size = u8(Operand("g", kind).size)
    mask = u8(min(16, 4 * int(size)) - 1)

    def vectors(first, at, end):  # type: ignore[no-untyped-def]
        a = b = c = d = bad = f8(0)
        if first & mask == u8(0):
            while at + u8(4) * size <= end:
                x0, x1, x2, x3 = four(at)
                bad += (doubt(x0) + doubt(x1)) + (doubt(x2) + doubt(x3))
                a, b, c, d = a + term(x0), b + term(x1), c + term(x2), d + term(x3)
                at += size * u8(LANES)
        return at, a, b, c, d, bad

    return m.jit(vectors)


def lane(m: Target, kind: str, squared: bool) -> Any:
    """Return the function that adds the elements of one lane from ``at`` on."""
    one, term, doubt = fetch(m, kind, 1), term_of(m, squared), doubt_of(m, kind, squared)
    step = u8(Operand("g", kind).size * LANES)

    def added(at, end, sum):  # type: ignore[no-untyped-def]
        bad = f8(0)
        while at < end:
            (x,) = one(at)
            sum += term(x)
            bad += doubt(x)
            at += step
        return sum, bad

    return m.jit(added)


def term_of(m: Target, squared: bool) -> Any:
    """Return the function of what an element adds."""
    return m.jit((lambda x: x * x) if squared else (lambda x: x))


def doubt_of(m: Target, kind: str, squared: bool) -> Any:
    """Return the function that is NaN for what is not finite, or 0 for all where the sums tell or nobody asks."""
    return m.jit((lambda x: x - x) if squared and kind == "f64" else (lambda x: f8(0)))


def fold_lanes(m: Target) -> Any:
    """Return the function that folds the 32 lanes from ``at`` on by halves into the first."""

    def fold(kept, at):  # type: ignore[no-untyped-def]
        width = u8(LANES // 2)
        while width > u8(0):
            j = u8(0)
            while j < width:
                kept[at + j] += kept[at + j + width]
                j += u8(1)
            width = width // u8(2)

    return m.jit(fold)


def leaf_writer(m: Target) -> Any:
    """Return the second phase."""
    pair, word, put, fold = m.load("u64", 2), m.load("u64"), m.store("f64"), fold_lanes(m)

    def combine(block, thread, leaves, count, lanes, info, partial):  # type: ignore[no-untyped-def]
        leaf = u8(block) * u8(LEAVES) + u8(thread)
        if u8(thread) < u8(LEAVES) and leaf < count:
            k = u8(thread) * u8(ROW)
            fold(lanes, k)
            start, packed = pair(leaves + leaf * u8(16))
            (at,) = word(info + u8(packed >> u8(32)) * u8(32) + u8(8))
            put(partial + (at + start // u8(LEAF)) * u8(8), (lanes[k],))

    return m.jit(combine)


def fetch(m: Target, kind: str, n: int) -> Any:
    """Return the function that reads n neighbours of a storage type as float64."""
    form = codec(m, kind, "f64", n)
    read, widen = m.load(form.word, n), form.widen
    return m.jit(lambda address: widen(read(address)))


def fold(m: Any) -> Any:
    """Return the function that adds ``count`` leaves in pairs, by all threads of a block; it returns their sum.

    The leaves stay as they are; ``scratch`` has room for as many, and one more for each level.
    """
    number, put, sync = m.load("f64"), m.store("f64"), m.sync

    def folded(thread, threads, leaves, count, scratch):  # type: ignore[no-untyped-def]
        while count > u8(1):
            half = count // u8(2)
            j = u8(thread)
            while j < half:
                (x,) = number(leaves + j * u8(16))
                (y,) = number(leaves + j * u8(16) + u8(8))
                put(scratch + j * u8(8), (x + y,))
                j += u8(threads)
            if j == half and count > half + half:
                (x,) = number(leaves + half * u8(16))
                put(scratch + half * u8(8), (x,))
            sync()
            count = count - half
            leaves = scratch
            scratch = scratch + count * u8(8)
        if count == u8(0):
            return f8(0)
        (x,) = number(leaves)
        return x

    return m.jit(folded)
