"""Operands: load the arrays of a tensor into the compute type, store them back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...numerics import codecs_cuda
from ...numerics.codecs_cuda import CODECS, Codec
from ..variant import Operand, Variant
from .intrinsics import REALS, Target

u4 = np.uint32
u8 = np.uint64


def columns(m: Target, readers: list[Any]) -> Any:
    """Return the function of (addresses, element) that calls all ``readers`` and returns a tuple of their results."""
    last = readers[-1]
    if len(readers) == 1:
        return m.jit(lambda a, i: (last(a, i),))
    before = columns(m, readers[:-1])
    return m.jit(lambda a, i: (*before(a, i), last(a, i)))


def writers(m: Target, all: list[Any]) -> Any:
    """Return the function that calls all writers with the values of their column."""
    last, k = all[-1], len(all) - 1

    def written_last(a, i, values, tensor, noise):  # type: ignore[no-untyped-def]
        last(a, i, values[k], tensor, noise)

    if len(all) == 1:
        return m.jit(written_last)
    before = writers(m, all[:-1])

    def written(a, i, values, tensor, noise):  # type: ignore[no-untyped-def]
        before(a, i, values, tensor, noise)
        last(a, i, values[k], tensor, noise)

    return m.jit(written)


def each(m: Target, function: Any, width: int) -> Any:
    """Return the function of (a tuple of ``width``, more) that calls ``function`` on each element, and more."""

    def one(x, *more):  # type: ignore[no-untyped-def]
        return (function(x[0], *more),)

    def two(x, *more):  # type: ignore[no-untyped-def]
        return function(x[0], *more), function(x[1], *more)

    def four(x, *more):  # type: ignore[no-untyped-def]
        return function(x[0], *more), function(x[1], *more), function(x[2], *more), function(x[3], *more)

    def eight(x, *more):  # type: ignore[no-untyped-def]
        return (function(x[0], *more), function(x[1], *more), function(x[2], *more), function(x[3], *more),
                function(x[4], *more), function(x[5], *more), function(x[6], *more), function(x[7], *more))  # fmt: skip

    return m.jit({1: one, 2: two, 4: four, 8: eight}[width])


def every(m: Target, function: Any, count: int) -> Any:
    """Return the function of a tuple of ``count`` numbers that calls ``function`` on each."""
    if count == 0:
        return m.jit(lambda x: ())
    before, last = every(m, function, count - 1), count - 1
    return m.jit(lambda x: (*before(x), function(x[last])))


def cast(m: Target, to: Any) -> Any:
    """Return the function that converts a number to a type of NumPy."""

    def converted(x):  # type: ignore[no-untyped-def]
        return to(x)

    return m.jit(converted)


def same(x):  # type: ignore[no-untyped-def]
    return x


def codec(m: Target, kind: str, real: str, width: int) -> Codec:
    """Return the compiled codec of a storage type: it widens to the compute type ``real`` and narrows from there.

    Its first two functions take and return tuples of ``width`` numbers, ``stochastic`` one number and its bits.
    """
    form = CODECS[kind]
    if form.widen is None:
        if kind == real:
            return form._replace(widen=m.compile_tree(same), narrow=m.compile_tree(same))
        return form._replace(widen=each(m, cast(m, REALS[real]), width), narrow=each(m, cast(m, REALS[kind]), width))
    to, widen, narrow = REALS[real], m.compile_tree(form.widen), m.compile_tree(form.narrow)
    stochastic = form.stochastic and m.compile_tree(form.stochastic)
    if real == "f64":
        odd = m.compile_tree(codecs_cuda.round_to_odd)
        narrow, stochastic = after(m, odd, narrow), stochastic and after(m, odd, stochastic)
    return form._replace(
        widen=each(m, after(m, widen, cast(m, to)), width), narrow=each(m, narrow, width), stochastic=stochastic
    )


def after(m: Target, first: Any, then: Any) -> Any:
    """Return the function that calls ``then`` on what ``first`` makes of a number, and more."""
    return m.jit(lambda x, *more: then(first(x), *more))


def reader(m: Target, column: Operand, k: int, c: Variant, width: int) -> Any:
    """Return the function of (addresses, element) that reads ``width`` elements of a column in the compute type."""
    size, form = u8(column.size), codec(m, column.kind, c.real, width)
    read, widen = m.load(form.word, width), form.widen
    if column.rounding == "remainder":
        low, joined, transpose = c.addresses - 1, m.compile_tree(codecs_cuda.joined), m.transpose
        join = each(m, m.jit(lambda pair: joined(pair[0], pair[1])), width)
        return m.jit(lambda a, i: join(transpose((read(a[k] + i * size), read(a[low] + i * size)))))
    return m.jit(lambda a, i: widen(read(a[k] + i * size)))


def writer(m: Target, column: Operand, k: int, c: Variant, width: int) -> Any:
    """Return the function of (addresses, element, values, tensor, noise) that writes ``width`` elements of a column."""
    size, form = u8(column.size), codec(m, column.kind, c.real, width)
    put, narrow = m.store(form.word, width), form.narrow
    if column.rounding == "stochastic":
        return stochastic_writer(m, column, k, form, width)
    if column.rounding == "remainder":
        low = c.addresses - 1
        top, bottom = (each(m, m.compile_tree(f), width) for f in (codecs_cuda.upper, codecs_cuda.lower))

        def split(a, i, values, tensor, noise):  # type: ignore[no-untyped-def]
            put(a[k] + i * size, top(values))
            put(a[low] + i * size, bottom(values))

        return m.jit(split)

    def stored(a, i, values, tensor, noise):  # type: ignore[no-untyped-def]
        put(a[k] + i * size, narrow(values))

    return m.jit(stored)


def stochastic_writer(m: Target, column: Operand, k: int, form: Codec, width: int) -> Any:
    """Return the writer of a column that is rounded by random bits: those of element i are philox.py's."""
    put, words, half = m.store(form.word, width), m.compile_tree(codecs_cuda.words), m.compile_tree(codecs_cuda.half)
    size, number, rounded = u8(column.size), column.number, form.stochastic
    order = m.pick(tuple(i ^ number >> 1 for i in range(4)))
    first, second = (u4(16), u4(0)) if number & 1 else (u4(0), u4(16))  # how far the bits of two neighbours stand

    def one(a, i, values, tensor, noise):  # type: ignore[no-untyped-def]
        given = words(i >> u8(3), noise[1], u4(tensor), noise[2], noise[3])
        put(a[k] + i * size, (rounded(values[0], half(given, u4(u4(i & u8(7)) ^ u4(number)))),))

    def eight(a, i, values, tensor, noise):  # type: ignore[no-untyped-def]
        b, c, d, e = order(words(i >> u8(3), noise[1], u4(tensor), noise[2], noise[3]))
        low = u4(0xFFFF)
        put(a[k] + i * size, (
            rounded(values[0], u4(b >> first & low)), rounded(values[1], u4(b >> second & low)),
            rounded(values[2], u4(c >> first & low)), rounded(values[3], u4(c >> second & low)),
            rounded(values[4], u4(d >> first & low)), rounded(values[5], u4(d >> second & low)),
            rounded(values[6], u4(e >> first & low)), rounded(values[7], u4(e >> second & low)),
        ))  # fmt: skip

    return m.jit({1: one, 8: eight}[width])


def zeros(m: Target, column: Operand, width: int) -> Any:
    """Return the function of an address that writes ``width`` zeros."""
    word = CODECS[column.kind].word
    put, number = m.store(word, width), REALS.get(word, np.uint32)
    nothing = m.jit(lambda: number(0))

    def one(address):  # type: ignore[no-untyped-def]
        put(address, (nothing(),))

    def two(address):  # type: ignore[no-untyped-def]
        put(address, (nothing(), nothing()))

    def four(address):  # type: ignore[no-untyped-def]
        z = nothing()
        put(address, (z, z, z, z))

    def eight(address):  # type: ignore[no-untyped-def]
        z = nothing()
        put(address, (z, z, z, z, z, z, z, z))

    return m.jit({1: one, 2: two, 4: four, 8: eight}[width])


def spread(m: Target, width: int, vector: Any, single: Any) -> Any:
    """Return the function of (what, thread, threads, head, length) that takes the elements of a row.

    ``vector(what, i)`` takes ``width`` of them from ``i`` on, ``single(what, i)`` one. ``head`` elements stand before
    the first vector; ``width`` says that no vector is aligned.
    """
    wide = u8(width)

    def along(what, thread, threads, head, length):  # type: ignore[no-untyped-def]
        before = head if head < wide and head < length else length
        whole = (length - before) & ~(wide - u8(1))
        k, i = thread, before + thread * wide
        while k < length - whole:
            single(what, k if k < before else k + whole)
            k += threads
        while i < before + whole:
            vector(what, i)
            i += threads * wide

    return m.jit(along)


def head(m: Target, width: int) -> Any:
    """Return the function of (first, begin): how many elements from ``begin`` on stand before an aligned vector.

    ``first`` is the first aligned element of the tensor; ``width`` or more, and the result ``width``, where none is.
    """
    wide = u8(width)
    return m.jit(lambda first, begin: (first - begin) & (wide - u8(1)) if first < wide else wide)
