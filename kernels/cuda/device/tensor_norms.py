"""The norms that a rule needs on the GPU, of each tensor and of its update, and the scalars that it makes of them.

The tree is that of grad_norm.py: a leaf is read by 8 threads of 4 neighbouring elements, and the barrier stands between
``read`` and ``combine``. Each element goes through the stages of its gradient as in the update, and nothing of a tensor
is written. Then a block for each tensor folds its leaves, and appends to the row of its scalars.

``sums`` has the squares of each leaf of p, then those of each leaf of the update.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...numerics.elementary_element import sqrt
from ...spec import NORMS, Rule
from ..variant import FIRST, ScalarLayout, Variant
from . import grad_norm
from .grad_norm import LANES, LEAF, LEAVES, READERS, ROW
from .intrinsics import REALS, SIZES, Target
from .operands import cast
from .pipeline import addresses_of, gradient_stages, loaded, places_of
from .prologue import BLOCK, hypers

THREADS = grad_norm.THREADS
SHARED = len(NORMS) * LEAVES * ROW  # float64 numbers in shared memory: the lanes of each leaf of p, then of the update
LEVELS = 64  # more numbers than a fold of leaves has levels

u4 = np.uint32
u8 = np.uint64
f8 = np.float64


def leaf_reader(m: Target, c: Variant) -> Any:
    """Return the first phase: ``read(block, thread, table, leaves, given, count, lanes)`` fills a block's lanes."""
    pair, four, record = m.load("u64", 2), m.load("u32", 4), m.load("u64", c.record)
    scalars, order = m.load(c.real, ScalarLayout(c).count), m.pick(addresses_of(c))
    vectors, rest = quadruples(m, c), lane(m, c)
    words, other = u8(8 * c.record), u8(LEAVES * ROW)

    def read(block, thread, table, leaves, given, count, lanes):  # type: ignore[no-untyped-def]
        leaf = u8(block) * u8(LEAVES) + u8(thread) // u8(READERS)
        reader = u8(thread) % u8(READERS) * u8(4)
        w = x = y = z = a = b = c = d = f8(0)
        if leaf < count:
            start, packed = pair(leaves + leaf * u8(16))
            static = record(table + u8(packed >> u8(32)) * words)
            g, there = pair(given + static[0] * u8(32))
            if there != u8(0):
                first, _ = pair(given + static[0] * u8(32) + u8(16))
                if four(static[1])[0] != u4(0):
                    s, columns = scalars(static[1] + u8(16)), order((g, *static))
                    at, end = start + reader, start + u8(packed & u8(0xFFFFFFFF))
                    at, w, x, y, z, a, b, c, d = vectors(columns, s, first, at, end)
                    w, a = rest(columns, s, at, end, w, a)
                    x, b = rest(columns, s, at + u8(1), end, x, b)
                    y, c = rest(columns, s, at + u8(2), end, y, c)
                    z, d = rest(columns, s, at + u8(3), end, z, d)
        k = u8(thread) // u8(READERS) * u8(ROW) + reader
        lanes[k], lanes[k + u8(1)], lanes[k + u8(2)], lanes[k + u8(3)] = w, x, y, z
        k = k + other
        lanes[k], lanes[k + u8(1)], lanes[k + u8(2)], lanes[k + u8(3)] = a, b, c, d

    return m.jit(read)


def quadruples(m: Target, c: Variant) -> Any:
    """Return the function that adds the squares of four neighbours at a time to as many lanes, where they are aligned.

    ``first`` is the first element of the tensor from which all arrays are.
    """
    width = min(4, c.width)
    terms, mask = squares(m, c, width), u8(width - 1)

    def vectors(columns, s, first, at, end):  # type: ignore[no-untyped-def]
        w = x = y = z = a = b = c = d = f8(0)
        if at >= first and (at - first) & mask == u8(0):
            while at + u8(4) <= end:
                p, u = terms(columns, s, at)
                w, x, y, z = w + p[0], x + p[1], y + p[2], z + p[3]
                a, b, c, d = a + u[0], b + u[1], c + u[2], d + u[3]
                at += u8(LANES)
        return at, w, x, y, z, a, b, c, d

    return m.jit(vectors)


def squares(m: Target, c: Variant, width: int) -> Any:
    """Return the function of (addresses, scalars, element) that returns what four neighbours add to both sums."""
    read, term = loaded(m, c, width), element(m, c)

    def four(columns, s, i):  # type: ignore[no-untyped-def]
        x = read(columns, i)
        (p, a), (q, b), (r, c), (o, d) = term(x[0], s), term(x[1], s), term(x[2], s), term(x[3], s)
        return (p, q, r, o), (a, b, c, d)

    def two(columns, s, i):  # type: ignore[no-untyped-def]
        x, y = read(columns, i), read(columns, i + u8(2))
        (p, a), (q, b), (r, c), (o, d) = term(x[0], s), term(x[1], s), term(y[0], s), term(y[1], s)
        return (p, q, r, o), (a, b, c, d)

    return m.jit({2: two, 4: four}[width])


def lane(m: Target, c: Variant) -> Any:
    """Return the function that adds the elements of one lane from ``at`` on."""
    read, term = loaded(m, c, 1), element(m, c)

    def added(columns, s, at, end, p, u):  # type: ignore[no-untyped-def]
        while at < end:
            x, y = term(read(columns, at)[0], s)
            p, u = p + x, u + y
            at += u8(LANES)
        return p, u

    return m.jit(added)


def element(m: Target, c: Variant) -> Any:
    """Return the function of the columns of an element and the scalars that returns the squares of p and its update."""
    assert c.rule is not None
    direction, gradient = m.compile_tree(c.rule.element("direction")), gradient_stages(m, c)
    states = m.pick(tuple(places_of(c)))
    scalars = m.pick(ScalarLayout(c).rule[: len(c.rule.scalar_names)])

    def measured(x, s):  # type: ignore[no-untyped-def]
        u = f8(direction(x[0], gradient(x[0], x[1], s), *states(x), *scalars(s)))
        p = f8(x[0])
        return p * p, u * u

    return m.jit(measured)


def leaf_writer(m: Target, c: Variant) -> Any:
    """Return the second phase: ``combine(block, thread, table, leaves, count, lanes, info, sums, total)``.

    ``total`` is the number of leaves of all tensors.
    """
    pair, word, put, fold = m.load("u64", 2), m.load("u64"), m.store("f64"), grad_norm.fold_lanes(m)
    words, other = u8(8 * c.record), u8(LEAVES * ROW)

    def combine(block, thread, table, leaves, count, lanes, info, sums, total):  # type: ignore[no-untyped-def]
        leaf = u8(block) * u8(LEAVES) + u8(thread)
        if u8(thread) < u8(LEAVES) and leaf < count:
            k = u8(thread) * u8(ROW)
            fold(lanes, k)
            fold(lanes, k + other)
            start, packed = pair(leaves + leaf * u8(16))
            (tensor,) = word(table + u8(packed >> u8(32)) * words)
            (at,) = word(info + tensor * u8(32) + u8(8))
            at = at + start // u8(LEAF)
            put(sums + at * u8(8), (lanes[k],))
            put(sums + (total + at) * u8(8), (lanes[k + other],))

    return m.jit(combine)


def room(tensors: int, leaves: int) -> int:
    """Return the bytes of ``sums`` with what the folds need behind it."""
    return 8 * len(NORMS) * (2 * leaves + LEVELS * tensors)


def scale(m: Target, rule: Rule, absent: tuple[str, ...]) -> Any:
    """Return the body of the kernel of a block a tensor: ``body(block, thread, threads, given, info, sums, total)``."""
    fold, root, compute = grad_norm.fold(m), m.compile_tree(sqrt), m.compile_tree(rule.norm_scalars)
    read, _ = hypers(m, rule, absent)
    pair, four, head = m.load("u64", 2), m.load("u64", 4), m.load("u32")
    wanted, at_hypers = m.pick(tuple(NORMS.index(x) for x in rule.norms)), u8(8 * BLOCK)
    narrow, wide = scalar_writer(m, rule, "f32"), scalar_writer(m, rule, "f64")

    def body(block, thread, threads, given, info, sums, total):  # type: ignore[no-untyped-def]
        i = u8(block)
        row, leaf, leaves, packed = four(info + i * u8(32))
        _, there = pair(given + i * u8(32))
        if there == u8(0):
            return
        (steps,) = head(row)
        if steps == u4(0):
            return
        scratch = sums + (total + total + u8(2) * leaf + u8(2 * LEVELS) * i) * u8(8)
        half = (leaves + u8(LEVELS)) * u8(8)
        p = fold(thread, threads, sums + leaf * u8(8), leaves, scratch)
        u = fold(thread, threads, sums + (total + leaf) * u8(8), leaves, scratch + half)
        if thread == 0:
            _, block_of = pair(given + i * u8(32) + u8(16))
            values = compute(read(block_of + at_hypers), *wanted((root(p), root(u))))
            if packed >> u8(32) == u8(0):
                narrow(row, values)
            else:
                wide(row, values)

    return m.jit(body)


def scalar_writer(m: Target, rule: Rule, real: str) -> Any:
    """Return the function that rounds what a rule makes of norms, and writes it behind its other scalars."""
    put, rounded, chain = m.store(real), cast(m, REALS[real]), m.jit(lambda row, values: None)
    for k in range(len(rule.norm_scalar_names)):
        place = u8(16 + SIZES[real] * (FIRST + len(rule.scalar_names) + k))
        chain = m.jit(followed(chain, put, rounded, place, k))
    return chain


def followed(before: Any, put: Any, rounded: Any, place: Any, k: int) -> Any:
    """Return ``before`` with scalar ``k`` written as well: one by one, as they need not be aligned for more."""

    def written(row, values):  # type: ignore[no-untyped-def]
        before(row, values)
        put(row + place, (rounded(values[k]),))

    return written
