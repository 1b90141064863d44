"""The step on the GPU: the stages of step.py as device functions, put together for one combination of them.

A combination (``Combination``) says what a kernel is made for: rule, storage types, stages. Its kernel steps all tensors
of an optimizer that share it. What differs from tensor to tensor and from step to step lies in device memory:

``given``   4 words a tensor: the address of its gradient, 1 where it has one, the first element from which all its
            arrays are aligned (its size where there is none), the address of its group's block of float64 numbers
``table``   the static words of a tensor of this kernel: its number, the address of its row, those of its columns but g
``row``     4 words of 32 bits (1 for a step or 0 for none, t, the two halves of the seed), then the scalars that the
            kernel takes, in its compute type: scale, decay, EMA share, clip bound, those of the rule and the penalties
``chunks``  two words for each block of threads: its first element, and tensor * 2^32 + number of elements

``prepare`` writes the rows, and computes the scalars, the step count and the carry of each tensor with the functions
that the CPU engine calls; see ``prepare_cuda.py``.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .columns_cuda import Combination, columns, reader, writer, writers, zeros
from .memory_cuda import SIZES, Memory
from .numerics_cuda import flush

THREADS = 256  # of a block
FIRST = 4  # scalars of a row before those of the rule: scale, decay, EMA share, clip bound

u4 = np.uint32
u8 = np.uint64


def update(m: Memory, c: Combination) -> Any:
    """Return the body of the kernel: ``body(block, thread, threads, table, chunks, given)``, addresses last."""
    width, real, size = c.width, c.real, u8(SIZES[c.real])
    pair, four = m.load("u64", 2), m.load("u32", 4)
    record, scalars = m.load("u64", c.record), m.load(real, scalars_of(c))
    order = m.pick(addresses_of(c))
    vector, single = pass_over(m, c, width), pass_over(m, c, 1)
    clear, clear_one = zeros(m, c.g, width), zeros(m, c.g, 1)
    step, mask, words = u8(width), ~u8(width - 1), u8(8 * c.record)
    zero, bytes_g = c.zero, u8(c.g.size)

    def body(block, thread, threads, table, chunks, given):  # type: ignore[no-untyped-def]
        start, packed = pair(chunks + u8(block) * u8(16))
        static = record(table + u8(packed >> u8(32)) * words)
        tensor, row = static[0], static[1]
        g, there = pair(given + tensor * u8(32))
        if there == u8(0):
            return
        first, _ = pair(given + tensor * u8(32) + u8(16))
        stop = start + u8(packed & u8(0xFFFFFFFF))
        first = start if first < start else (stop if first > stop else first)
        last = first + ((stop - first) & mask)
        before = first - start
        rest = before + (stop - last)
        i = first + u8(thread) * step
        k = u8(thread)
        noise = four(row)
        if noise[0] == u4(0):
            if zero:
                while i < last:
                    clear(g + i * bytes_g)
                    i += u8(threads) * step
                while k < rest:
                    clear_one(g + (start + k if k < before else last + (k - before)) * bytes_g)
                    k += u8(threads)
            return
        s = scalars(row + u8(16))
        a = order((g, *static))
        while i < last:
            vector(a, i, s, tensor, noise)
            i += u8(threads) * step
        while k < rest:  # what is before the first aligned element, and after the last whole vector
            single(a, start + k if k < before else last + (k - before), s, tensor, noise)
            k += u8(threads)

    return m.jit(body)


def scalars_of(c: Combination) -> int:
    """Return how many scalars a row of ``c`` holds."""
    return FIRST + c.scalars + sum(count for _, count in c.penalties)


def addresses_of(c: Combination) -> tuple[int, ...]:
    """Return where (g, number, row, other addresses...) has the address of each column: p, g, the rest, p's remainder."""
    others = list(range(3, c.addresses + 2))
    return (others[0], 0, *others[1:])


def pass_over(m: Memory, c: Combination, width: int) -> Any:
    """Return the function that takes ``width`` neighbours from memory through all stages and back."""
    read = columns(m, [reader(m, column, k, c, width) for k, column in enumerate(c.read)])
    places = [0, *range(2, len(c.read) + (c.shadow is not None))]
    write = writers(m, [writer(m, column, k, c, width) for k, column in zip(places, c.written, strict=True)])
    one, transpose, clear = element(m, c), m.transpose, zeros(m, c.g, width)
    zero, bytes_g = c.zero, u8(c.g.size)

    def one_lane(x, s):  # type: ignore[no-untyped-def]
        return (one(x[0], s),)

    def two_lanes(x, s):  # type: ignore[no-untyped-def]
        return one(x[0], s), one(x[1], s)

    def four_lanes(x, s):  # type: ignore[no-untyped-def]
        return one(x[0], s), one(x[1], s), one(x[2], s), one(x[3], s)

    def eight_lanes(x, s):  # type: ignore[no-untyped-def]
        return (one(x[0], s), one(x[1], s), one(x[2], s), one(x[3], s),
                one(x[4], s), one(x[5], s), one(x[6], s), one(x[7], s))  # fmt: skip

    lanes = m.jit({1: one_lane, 2: two_lanes, 4: four_lanes, 8: eight_lanes}[width])

    def passed(a, i, s, tensor, noise):  # type: ignore[no-untyped-def]
        write(a, i, transpose(lanes(transpose(read(a, i)), s)), tensor, noise)
        if zero:
            clear(a[1] + i * bytes_g)

    return m.jit(passed)


def element(m: Memory, c: Combination) -> Any:
    """Return the stages on one element: from its columns and the scalars to the new ones."""
    module = importlib.import_module(f"{__package__}.rules.{c.rule}_cuda")
    rule = m.adopt(getattr(module, c.rule))
    gradient = gradient_stages(m, c)
    states = m.pick(tuple(places_of(c)))
    rule_scalars = m.pick(tuple(range(FIRST, FIRST + c.scalars)))
    kept = m.pick((0, *(1 + k for k, state in enumerate(c.states) if state is not None)))
    decays, averaged, copied, last = c.decay, c.ema is not None, c.shadow is not None, len(c.read) - 1
    clean = m.adopt(flush)

    def updated(x, s):  # type: ignore[no-untyped-def]
        p = x[0]
        g = gradient(p, x[1], s)
        if decays:
            p = p * s[1]
        return kept(rule(p, g, *states(x), *rule_scalars(s)))

    stepped = m.jit(updated)
    if not averaged and not copied:
        return stepped

    def with_average(x, s):  # type: ignore[no-untyped-def]
        new = stepped(x, s)
        e = x[last]
        return (*new, clean(e + s[2] * (new[0] - e)))

    both = m.jit(with_average) if averaged else stepped
    if not copied:
        return both

    def with_copy(x, s):  # type: ignore[no-untyped-def]
        new = both(x, s)
        return (*new, new[0])

    return m.jit(with_copy)


def places_of(c: Combination) -> list[int | None]:
    """Return where each state of the rule stands among the columns that are read."""
    places: list[int | None] = []
    at = 2
    for state in c.states:
        places.append(None if state is None else at)
        at += state is not None
    return places


def gradient_stages(m: Memory, c: Combination) -> Any:
    """Return the function of (p, g, scalars) that scales and clips a gradient and adds those of the penalties."""

    def scaled(p, g, s):  # type: ignore[no-untyped-def]
        return g * s[0]

    chain = m.jit(scaled)
    if c.clip:
        chain = m.jit(clipped(chain))
    at = FIRST + c.scalars
    for stem, count in c.penalties:
        form = getattr(importlib.import_module(f"{__package__}.penalties.{stem}_cuda"), f"{stem}_gradient")
        chain = m.jit(penalised(chain, m.adopt(form), m.pick(tuple(range(at, at + count)))))
        at += count
    return chain


def clipped(before: Any) -> Any:
    """Return ``before`` with each element kept within the bound."""

    def stage(p, g, s):  # type: ignore[no-untyped-def]
        x, bound = before(p, g, s), s[3]
        x = bound if x > bound else x
        return -bound if x < -bound else x

    return stage


def penalised(before: Any, form: Any, coefficients: Any) -> Any:
    """Return ``before`` with the gradient of a penalty added."""

    def stage(p, g, s):  # type: ignore[no-untyped-def]
        return form(p, before(p, g, s), *coefficients(s))

    return stage
