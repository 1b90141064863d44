"""The step on the GPU: the stages of step.py as device functions, put together for one variant of them.

A ``Variant`` says what a kernel is made for: rule, storage types, stages. Its kernel steps all
tensors of an optimizer that share it. What differs from tensor to tensor and from step to step lies in device memory:

``given``   4 words a tensor: the address of its gradient, 1 where it has one, the first element from which all its
            arrays are aligned (its size where there is none), the address of its group's block of float64 numbers
``table``   the static words of a tensor of this kernel: its number, the address of its row, those of its columns but g
``row``     4 words of 32 bits (1 for a step or 0 for none, t, the two halves of the seed), then the scalars that the
            kernel takes, in its compute type, as ``ScalarLayout`` has them
``chunks``  two words for each block of threads: its first element, and tensor * 2^32 + number of elements

``prepare`` writes the rows, and computes the scalars, the step count and the carry of each tensor with the functions
that the CPU engine calls; see ``prologue.py``. Stages that need whole rows are in ``whole_rows.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...numerics.elementary_element import flush
from ...spec import Rule
from ..variant import CLIP, DECAY, EMA, SCALE, ScalarLayout, Variant
from .intrinsics import Target
from .operands import columns, each, reader, writer, writers, zeros

THREADS = 256  # of a block

u4 = np.uint32
u8 = np.uint64


def update(m: Target, c: Variant) -> Any:
    """Return the body of the kernel: ``body(block, thread, threads, table, chunks, given)``, addresses last."""
    width, real = c.width, c.real
    pair, four = m.load("u64", 2), m.load("u32", 4)
    record, scalars = m.load("u64", c.record), m.load(real, ScalarLayout(c).count)
    order = m.pick(addresses_of(c))
    vector, single = pass_over(m, c, width), pass_over(m, c, 1)
    clear, clear_one = zeros(m, c.g, width), zeros(m, c.g, 1)
    step, mask, words = u4(width), ~u4(width - 1), u8(8 * c.record)
    zero, bytes_g = c.zero, u8(c.g.size)

    def body(block, thread, threads, table, chunks, given):  # type: ignore[no-untyped-def]
        start, packed = pair(chunks + u8(block) * u8(16))
        static = record(table + u8(packed >> u8(32)) * words)
        tensor, row = static[0], static[1]
        g, there = pair(given + tensor * u8(32))
        if there == u8(0):
            return
        first, _ = pair(given + tensor * u8(32) + u8(16))
        count = u4(packed & u8(0xFFFFFFFF))  # what follows counts from ``start`` on, in 32 bits: fewer registers
        before = (u4(first - start) if first < start + u8(count) else count) if first > start else u4(0)
        whole = u4(u4(count - before) & mask)
        rest = u4(count - whole)
        k, i = u4(thread), u4(before + u4(thread) * step)
        noise = four(row)
        if noise[0] == u4(0):
            if zero:
                while k < rest:
                    clear_one(g + (start + u8(k if k < before else k + whole)) * bytes_g)
                    k = u4(k + threads)
                while i < before + whole:
                    clear(g + (start + u8(i)) * bytes_g)
                    i = u4(i + threads * step)
            return
        s = scalars(row + u8(16))
        a = order((g, *static))
        while k < rest:  # what is before the first aligned element, and after the last whole vector
            single(a, start + u8(k if k < before else k + whole), s, tensor, noise)
            k = u4(k + threads)
        last = u4(before + whole)
        while i < last:  # at the end, so that what the loop above needs takes no registers here
            vector(a, start + u8(i), s, tensor, noise)
            i = u4(i + threads * step)

    return m.jit(body)


def addresses_of(c: Variant) -> tuple[int, ...]:
    """Return where (g, number, row, addresses...) has that of each column: p, g, the rest, p's remainder."""
    others = list(range(3, c.addresses + 2))
    return (others[0], 0, *others[1:])


def loaded(m: Target, c: Variant, width: int) -> Any:
    """Return the function of (addresses, element) that reads ``width`` neighbours: a tuple of the columns of each."""
    read = columns(m, [reader(m, column, k, c, width) for k, column in enumerate(c.read)])
    transpose = m.transpose
    return m.jit(lambda a, i: transpose(read(a, i)))


def pass_over(m: Target, c: Variant, width: int) -> Any:
    """Return the function that takes ``width`` neighbours from memory through all stages and back."""
    read = loaded(m, c, width)
    places = [0, *range(2, len(c.read) + (c.shadow is not None))]
    write = writers(m, [writer(m, column, k, c, width) for k, column in zip(places, c.written, strict=True)])
    lanes, transpose, clear = each(m, element(m, c), width), m.transpose, zeros(m, c.g, width)
    zero, bytes_g = c.zero, u8(c.g.size)

    def passed(a, i, s, tensor, noise):  # type: ignore[no-untyped-def]
        write(a, i, transpose(lanes(read(a, i), s)), tensor, noise)
        if zero:
            clear(a[1] + i * bytes_g)

    return m.jit(passed)


def element(m: Target, c: Variant) -> Any:
    """Return the stages on one element: from its columns and the scalars to the new ones."""
    chain = weights(m, c)
    if c.shrink is not None:
        chain = m.jit(shrunk(chain, ScalarLayout(c).shrink_factor))
    if c.ema is not None:
        chain = m.jit(averaged(chain, m.compile_tree(flush), len(c.read) - 1))
    return m.jit(doubled(chain)) if c.shadow is not None else chain


def weights(m: Target, c: Variant) -> Any:
    """Return the stages up to the proximal forms by element: from columns and scalars to the new p and states."""
    assert c.rule is not None
    rule, gradient, places = m.compile_tree(c.rule.element()), gradient_stages(m, c), ScalarLayout(c)
    states, rule_scalars = m.pick(tuple(places_of(c))), m.pick((*places.rule, *[DECAY] * c.rule.decays))
    kept = m.pick((0, *(1 + k for k, state in enumerate(c.states) if state is not None)))
    lags, lag = c.lagging, places.lag
    prox = proximal(m, c, c.rule) if c.proxes else None

    def updated(x, s):  # type: ignore[no-untyped-def]
        p = x[0]
        if lags:
            p = p * s[lag]
        return rule(p, gradient(p, x[1], s), *states(x), *rule_scalars(s))

    stepped = m.jit(updated)
    if prox is None:
        return m.jit(lambda x, s: kept(stepped(x, s)))
    rest = m.pick(tuple(1 + k for k, state in enumerate(c.states) if state is not None))

    def near(x, s):  # type: ignore[no-untyped-def]
        new = stepped(x, s)
        return (prox(new, s), *rest(new))

    return m.jit(near)


def proximal(m: Target, c: Variant, rule: Rule) -> Any:
    """Return the function of what the rule returns and the scalars that returns p after the proximal forms."""
    places = ScalarLayout(c)
    if c.scalar_prox_step:
        at = places.step
        step = m.jit(lambda new, s: s[at])
    else:
        names = [state.name for state in rule.states]
        given = rule.prox_steps_arguments
        count = sum(name in names for name in given)
        scalars = dict(zip(rule.scalar_names, places.rule, strict=True), step=places.step)
        form = m.compile_tree(rule.element("steps"))
        of_states = m.pick(
            tuple(None if c.states[names.index(x)] is None else 1 + names.index(x) for x in given[:count])
        )
        of_scalars = m.pick(tuple(scalars[name] for name in given[count:]))  # which come after the states
        step = m.jit(lambda new, s: form(*of_states(new), *of_scalars(s)))
    chain = m.jit(lambda p, step, s: p)
    for penalty, coefficients in zip(c.proxes, places.proxes, strict=True):
        chain = m.jit(nearest(chain, m.compile_tree(penalty.element("prox")), m.pick(coefficients)))
    return m.jit(lambda new, s: chain(new[0], step(new, s), s))


def nearest(before: Any, form: Any, coefficients: Any) -> Any:
    """Return ``before`` with a proximal form after it."""

    def stage(p, step, s):  # type: ignore[no-untyped-def]
        return form(before(p, step, s), step, *coefficients(s))

    return stage


def shrunk(before: Any, factor: int) -> Any:
    """Return ``before`` with p multiplied by the factor of its row."""

    def stage(x, s):  # type: ignore[no-untyped-def]
        new = before(x, s)
        return (new[0] * s[factor], *new[1:])

    return stage


def averaged(before: Any, clean: Any, last: int) -> Any:
    """Return ``before`` with the moving average of p, which is the column ``last``."""

    def stage(x, s):  # type: ignore[no-untyped-def]
        new, e = before(x, s), x[last]
        return (*new, clean(e + s[EMA] * (new[0] - e)))

    return stage


def doubled(before: Any) -> Any:
    """Return ``before`` with p once more at the end, for the shadow."""

    def stage(x, s):  # type: ignore[no-untyped-def]
        new = before(x, s)
        return (*new, new[0])

    return stage


def places_of(c: Variant) -> list[int | None]:
    """Return where each state of the rule stands among the columns that are read."""
    places: list[int | None] = []
    at = 2
    for state in c.states:
        places.append(None if state is None else at)
        at += state is not None
    return places


def gradient_stages(m: Target, c: Variant) -> Any:
    """Return the function of (p, g, scalars) that scales and clips a gradient and adds those of the penalties."""
    places = ScalarLayout(c)
    chain = m.jit(lambda p, g, s: g * s[SCALE])
    if c.clip:
        chain = m.jit(clipped(chain))
    for penalty, coefficients in zip(c.penalties, places.penalties, strict=True):
        chain = m.jit(penalised(chain, m.compile_tree(penalty.element("gradient")), m.pick(coefficients)))
    for factor in places.slope_factors:
        chain = m.jit(sloped(chain, factor))
    return chain


def clipped(before: Any) -> Any:
    """Return ``before`` with each element kept within the bound."""

    def stage(p, g, s):  # type: ignore[no-untyped-def]
        x, bound = before(p, g, s), s[CLIP]
        x = bound if x > bound else x
        return -bound if x < -bound else x

    return stage


def penalised(before: Any, form: Any, coefficients: Any) -> Any:
    """Return ``before`` with the gradient of a penalty added."""

    def stage(p, g, s):  # type: ignore[no-untyped-def]
        return form(p, before(p, g, s), *coefficients(s))

    return stage


def sloped(before: Any, factor: int) -> Any:
    """Return ``before`` with the gradient of a penalty by row added; ``factor`` is the place of slope and lift."""

    def stage(p, g, s):  # type: ignore[no-untyped-def]
        return before(p, g, s) + s[factor] * (p * s[factor + 1])

    return stage
