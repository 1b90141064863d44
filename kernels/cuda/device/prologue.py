"""Step prologue on the device: gradient norm, clip factors, step counts, carries, and the scalars of each tensor.

Float64 throughout, by the functions that the CPU engine calls, so that no number depends on the device. One thread
serves one tensor. Where a norm is needed, all run in one block, which folds the leaves first.

``info``    4 words a tensor: the address of its row, the number of its first leaf, the number of its leaves, and how
            many coefficients its penalties have, plus 2^32 where it is computed in float64
``call``    float64: the bound of the norm of all gradients, 1 where a gradient that is not finite makes the step none,
            the scale of the gradients, the number of tensors, the number of leaves, what a step of rows multiplies
            the other rows by
``progress``  step count and carry of each tensor, both float64
``result``  float64: the norm, 1 where the step was none; then a word that is 1 where a gradient was not finite

A block of a group (``BLOCK``): scale, bound of a tensor's norm, clip bound, decay, EMA's share of p (its decay where
the next is 1), 1 where it is corrected for its start at 0, the seed (its bits), 0; then the hyper-parameters of the
rule, the step of the proximal forms where there are any, and the coefficients of the penalties.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from ...hyper import Hyper
from ...numerics import reductions
from ...numerics.elementary_element import power, sqrt
from ...spec import Rule
from . import grad_norm
from .intrinsics import REALS, SIZES, Target
from .operands import cast, every

THREADS = 512  # of the one block that folds leaves
BLOCK = 8  # numbers of a group's block before the hyper-parameters
SMALL = 32  # leaves up to which one thread folds those of a tensor

u4 = np.uint32
u8 = np.uint64
f8 = np.float64


def fields(rule: Rule) -> tuple[tuple[Hyper, int], ...]:
    """Return the hyper-parameters of a rule, each with how many numbers it takes."""
    return tuple((h, len(h.default) if isinstance(h.default, tuple) else 1) for h in rule.hypers)


def numbers(rule: Rule, h: Any) -> list[float]:
    """Return the hyper-parameters ``h`` of a rule as ``prepare`` takes them; NaN stands for None."""
    found: list[float] = []
    for hyper, count in fields(rule):
        value = getattr(h, hyper.name)
        found += map(float, value) if count > 1 else [np.nan if value is None else float(value)]
    return found


def hypers(m: Target, rule: Rule, absent: tuple[str, ...]) -> tuple[Any, int]:
    """Return the function of an address that reads the hyper-parameters, and how many numbers they take.

    ``absent`` names those that are None.
    """
    values = namedtuple("Values", [h.name for h in rule.hypers])  # type: ignore[misc]  # noqa: PYI024
    chain, at = m.jit(lambda x: ()), 0
    for hyper, count in fields(rule):
        chain = m.jit(field(chain, hyper, at, count, hyper.name in absent))
        at += count
    read = m.load("f64", at)
    return m.jit(lambda address: values(*chain(read(address)))), at


def field(before: Any, hyper: Hyper, first: int, count: int, absent: bool) -> Any:
    """Return the function of all numbers that returns those before ``hyper``, and its value."""
    second, zero = first + 1, f8(0)
    if absent:
        return lambda x: (*before(x), None)
    if isinstance(hyper.default, bool):
        return lambda x: (*before(x), x[first] != zero)
    if count == 2:
        return lambda x: (*before(x), (x[first], x[second]))
    return lambda x: (*before(x), x[first])


def prepare(m: Target, rule: Rule, limited: bool, absent: tuple[str, ...] = (), by_index: bool = False) -> Any:
    """Return the body of the kernel: ``body(thread, threads, given, info, call, progress, result, partial, scratch)``.

    ``thread`` counts through the grid; with ``limited`` there is one block of ``threads``. ``by_index`` is a step of
    some rows of one tensor, whose norm is that of the sums of all leaves.
    """
    advance, norm, large = counter(m, rule, absent, by_index), measure(m), large_tensors(m)
    clip = m.compile_tree(reductions.clip_factor)
    number, word, pair, put = m.load("f64"), m.load("u64"), m.load("u64", 2), m.store("f64")
    put_word, one_u4, sync = m.store("u64"), m.store("u32"), m.sync

    def body(thread, threads, given, info, call, progress, result, partial, scratch):  # type: ignore[no-untyped-def]
        (count,) = number(call + u8(24))
        factor, whole, skipped = f8(1), f8(0), False
        if limited:
            (largest,) = number(call)
            whole, skipped = norm(thread, threads, call, result, partial, scratch)
            factor = clip(whole, largest)
            if not by_index:
                large(thread, threads, u8(count), given, info, partial, scratch)
        i = u8(thread)
        while i < u8(count):
            _, there = pair(given + i * u8(32))
            if there != u8(0):
                (row,) = word(info + i * u8(32))
                if skipped:
                    one_u4(row, (u4(0),))
                else:
                    advance(i, u8(count), given, info, progress, factor, whole, limited, partial, scratch)
            i += u8(threads)
        if limited:
            sync()
        if thread == 0:
            put_word(result + u8(16), (u8(0),))  # also where nobody asked: sums of rows set it all the same
            if limited:
                put(result + u8(8), (f8(1) if skipped else f8(0),))

    return m.jit(body)


def measure(m: Target) -> Any:
    """Return the function that folds all leaves and returns the norm, and whether to skip."""
    fold, number, word, put = grad_norm.fold(m), m.load("f64"), m.load("u64"), m.store("f64")
    root = m.compile_tree(sqrt)

    def measured(thread, threads, call, result, partial, scratch):  # type: ignore[no-untyped-def]
        (leaves,) = number(call + u8(32))
        (skip,) = number(call + u8(8))
        (scale,) = number(call + u8(16))
        (bad,) = word(result + u8(16))
        total = fold(thread, threads, partial, u8(leaves), scratch)  # the words before are read by none yet
        norm = root(total) * (scale if scale > f8(0) else -scale)
        if thread == 0:
            put(result, (norm,))
        return norm, skip != f8(0) and bad != u8(0)

    return m.jit(measured)


def large_tensors(m: Target) -> Any:
    """Return the function that folds the leaves of each large tensor whose norm has a bound, by all threads.

    Their sums go to the first words of ``scratch``, one for each tensor.
    """
    fold, sync = grad_norm.fold(m), m.sync
    number, pair, put = m.load("f64"), m.load("u64", 2), m.store("f64")

    def folded(thread, threads, count, given, info, partial, scratch):  # type: ignore[no-untyped-def]
        i = u8(0)
        while i < count:
            _, leaf = pair(info + i * u8(32))
            leaves, _ = pair(info + i * u8(32) + u8(16))
            if leaves > u8(SMALL):
                _, at = pair(given + i * u8(32) + u8(16))
                (largest,) = number(at + u8(8))
                if largest != f8(np.inf):
                    sync()
                    total = fold(thread, threads, partial + leaf * u8(8), leaves, scratch + count * u8(8))
                    if thread == 0:
                        put(scratch + i * u8(8), (total,))
            i += u8(1)
        sync()

    return m.jit(folded)


def tensor_norm(m: Target) -> Any:
    """Return the function of a thread that returns the norm of tensor ``i``, from the sum above or from its leaves."""
    fold = grad_norm.fold(Unsynchronised(m))
    root, number = m.compile_tree(sqrt), m.load("f64")

    def norm(i, count, leaf, leaves, partial, scratch):  # type: ignore[no-untyped-def]
        if leaves > u8(SMALL):
            (total,) = number(scratch + i * u8(8))
        else:
            room = scratch + (count + i * u8(2 * SMALL)) * u8(8)
            total = fold(u8(0), u8(1), partial + leaf * u8(8), leaves, room)
        return root(total)

    return m.jit(norm)


def room(tensors: int, leaves: int) -> int:
    """Return the bytes that ``scratch`` needs."""
    return 8 * (tensors + max(leaves + 64, 2 * SMALL * tensors))


class Unsynchronised:
    """A memory whose barrier is none: for what one thread does alone."""

    def __init__(self, m: Target) -> None:
        self.load, self.store, self.jit = m.load, m.store, m.jit
        self.sync = m.jit(lambda: None)


def counter(m: Target, rule: Rule, absent: tuple[str, ...], by_index: bool) -> Any:
    """Return the function that counts a step of tensor ``i`` and writes its row."""
    read, size = hypers(m, rule, absent)
    compute, powered, clip = m.compile_tree(rule.scalars), m.compile_tree(power), m.compile_tree(reductions.clip_factor)
    own_norm = tensor_norm(m)
    both, four, pair = m.load("f64", 2), m.load("u64", 4), m.load("u64", 2)
    seed_of, put, put_words = m.load("u64"), m.store("f64", 2), m.store("u32", 4)
    scalars = len(rule.scalar_names)
    narrow, wide = (row_writer(m, real, scalars, len(rule.norm_scalar_names)) for real in ("f32", "f64"))
    hypers_at, coefficients_at = u8(8 * BLOCK), u8(8 * (BLOCK + size))

    def advance(i, tensors, given, info, progress, factor, whole, limited, partial, scratch):  # type: ignore[no-untyped-def]
        row, leaf, leaves, count = four(info + i * u8(32))
        _, at = pair(given + i * u8(32) + u8(16))
        t, carry = both(progress + i * u8(16))
        t += f8(1)
        total, largest = both(at)
        if limited:
            scale = total
            total = scale * (factor * clip(whole * factor, largest)) if by_index else scale * factor
            if not by_index and largest != f8(np.inf):
                norm = own_norm(i, tensors, leaf, leaves, partial, scratch)
                total = total * clip(norm * (scale if scale > f8(0) else -scale) * factor, largest)
        bound, decay = both(at + u8(16))
        share, corrected = both(at + u8(32))
        if corrected != f8(0):
            share = (f8(1) - share) / (f8(1) - powered(share, np.int64(t)))
        (seed,) = seed_of(at + u8(48))
        put_words(row, (u4(1), u4(u8(t)), u4(seed & u8(0xFFFFFFFF)), u4(seed >> u8(32))))
        values, carry = compute(read(at + hypers_at), np.int64(t), carry)
        put(progress + i * u8(16), (t, f8(carry)))
        if count >> u8(32) == u8(0):
            narrow(row, (total, decay, share, bound), values, count, at + coefficients_at)
        else:
            wide(row, (total, decay, share, bound), values, count & u8(0xFFFFFFFF), at + coefficients_at)

    return m.jit(advance)


def row_writer(m: Target, real: str, scalars: int, later: int) -> Any:
    """Return the function that rounds the scalars of a tensor to its compute type and writes them to its row.

    There is room for some that come ``later``: see tensor_norms.py.
    """
    first, one, own = m.store(real, 4), m.store(real), m.store(real, scalars)
    step, number, rounded = u8(SIZES[real]), m.load("f64"), cast(m, REALS[real])
    four, all = every(m, rounded, 4), every(m, rounded, scalars)
    behind, width = u8(16 + 4 * SIZES[real]), u8(SIZES[real] * (scalars + later))

    def written(row, stages, values, count, coefficients):  # type: ignore[no-untyped-def]
        first(row + u8(16), four(stages))
        own(row + behind, all(values))
        k = u8(0)
        while k < count:
            (x,) = number(coefficients + k * u8(8))
            one(row + behind + width + k * step, (rounded(x),))
            k += u8(1)

    return m.jit(written)
