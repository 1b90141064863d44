"""Raw memory, bits and tuples for the GPU forms: the only place that knows Numba's intrinsics.

Kernels take addresses, unsigned integers of 64 bits; nothing here allocates or checks bounds. Each of the three
memories has the same face, so that one body runs in three ways:

``Device``  compiled for a GPU
``Host``    compiled for this CPU by ``numba.njit``, over NumPy's memory; it refuses addresses that are not aligned
``Plain``   not compiled: for CUDA's simulator, which knows no intrinsics

``load(kind, n)`` reads n neighbours and returns a tuple of them; ``store(kind, n)`` writes a tuple. Both move 16 bytes
at a time where that many are asked for, and what is left one by one: the address must be a multiple of that. Kinds:
f32, f64, u64, u32, and u16, whose values are uint32 elsewhere. ``pick(places)`` returns those elements of a tuple, and
None for a place of None; ``transpose`` turns n tuples of k into k tuples of n. ``bits`` and ``real`` look at the bits
of a float32, ``widen_f16`` and ``narrow_f16`` convert between it and the 16 bits of a half, to nearest, ties to even.
``adopt(function)`` compiles plain Python together with all that it calls.
"""

from __future__ import annotations

import ctypes
import math
import types as python_types
from collections.abc import Callable
from typing import Any

import numpy as np

from ...numerics import codecs, codecs_cuda, elementary, elementary_element

SIZES = {kind: int(kind[1:]) // 8 for kind in ("f32", "f64", "u64", "u32", "u16")}
REALS = codecs.REALS
WIDEST = 16  # bytes that one instruction moves

Function = Callable[..., Any]


def root(x):  # type: ignore[no-untyped-def]
    return math.sqrt(x)


class Target:
    """What the compiled memories share: functions are made once for each kind and width."""

    def __init__(self) -> None:
        self.made: dict[Any, Any] = {}
        self.replaced: dict[Function, Function] = {
            **{
                getattr(elementary, x): getattr(elementary_element, x)
                for x in elementary.__all__
                if hasattr(elementary_element, x)
            },
            elementary_element.sqrt: root,
            codecs_cuda.bits: self.bits,
            codecs_cuda.real: self.real,
            codecs_cuda.widen_f16: self.widen_f16,
            codecs_cuda.narrow_f16: self.narrow_f16,
        }

    sync: Function  # the barrier of a block
    transpose: Function
    bits: Function
    real: Function
    widen_f16: Function
    narrow_f16: Function

    def jit(self, function: Function) -> Function:
        """Return the compiled form of a function whose globals are compiled already."""
        raise NotImplementedError

    def compile_tree(self, function: Function) -> Function:
        """Return the compiled form of ``function``, with the plain functions that it names compiled as well."""
        if function not in self.made:
            plain = function
            while plain in self.replaced:
                plain = self.replaced[plain]
            if isinstance(plain, python_types.FunctionType):
                names = {
                    name: self.compile_tree(value) if self.ours(value) else value
                    for name, value in plain.__globals__.items()
                    if name in plain.__code__.co_names
                }
                copy = python_types.FunctionType(plain.__code__, {**plain.__globals__, **names}, plain.__name__)
                copy.__module__ = plain.__module__
                plain = self.jit(copy)
            self.made[function] = plain
        return self.made[function]  # type: ignore[no-any-return]

    def ours(self, value: Any) -> bool:
        """Whether a global is a function to compile too: one of this package, or one that stands for another."""
        if isinstance(value, python_types.FunctionType):
            return (value.__module__ or "").startswith("pyopt.kernels.")
        return callable(value) and value in self.replaced

    def load(self, kind: str, n: int = 1) -> Function:
        """Return the function of an address that reads ``n`` numbers, as a tuple."""
        return self.once("load", kind, n)

    def store(self, kind: str, n: int = 1) -> Function:
        """Return the function of an address and a tuple that writes ``n`` numbers."""
        return self.once("store", kind, n)

    def pick(self, places: tuple[int | None, ...]) -> Function:
        """Return the function that takes these elements out of a tuple."""
        return self.once("pick", places)

    def once(self, what: str, *args: Any) -> Function:
        """Return the function made by ``_what(*args)``, made once."""
        key = (what, *args)
        if key not in self.made:
            self.made[key] = getattr(self, f"_{what}")(*args)
        return self.made[key]  # type: ignore[no-any-return]


class Compiled(Target):
    """The intrinsics, as LLVM code; ``space`` is the address space that the pointers are of."""

    space = 0

    def __init__(self, intrinsic: Any, compiler: Function) -> None:
        from llvmlite import ir
        from numba import types

        self.ir, self.types, self.intrinsic, self.compiler = ir, types, intrinsic, compiler
        self.elements = {
            "f32": (ir.FloatType(), types.float32),
            "f64": (ir.DoubleType(), types.float64),
            "u64": (ir.IntType(64), types.uint64),
            "u32": (ir.IntType(32), types.uint32),
            "u16": (ir.IntType(16), types.uint32),
        }
        f, i, h = ir.FloatType(), ir.IntType(32), ir.HalfType()
        self.bits = self.cast(types.uint32, types.float32, lambda b, x: b.bitcast(x, i))
        self.real = self.cast(types.float32, types.uint32, lambda b, x: b.bitcast(x, f))
        self.widen_f16 = self.cast(
            types.float32, types.uint32, lambda b, x: b.fpext(b.bitcast(b.trunc(x, ir.IntType(16)), h), f)
        )
        self.narrow_f16 = self.cast(
            types.uint32, types.float32, lambda b, x: b.zext(b.bitcast(b.fptrunc(x, h), ir.IntType(16)), i)
        )
        self.transpose = self._transpose()
        super().__init__()

    def jit(self, function: Function) -> Function:
        return self.compiler(function)  # type: ignore[no-any-return]

    def cast(self, to: Any, source: Any, convert: Any) -> Function:
        """Return the intrinsic of one number that ``convert`` writes."""

        def function(typingctx, x):  # type: ignore[no-untyped-def]
            return to(source), lambda context, builder, sig, args: convert(builder, args[0])

        return self.intrinsic(function)  # type: ignore[no-any-return]

    def vectors(self, kind: str, n: int) -> tuple[int, Any, int]:
        """Return how many numbers one instruction moves, the type that it moves and the alignment in bytes.

        LLVM splits vectors of 16-bit numbers, so they move as words of 32.
        """
        element, size = self.elements[kind][0], SIZES[kind]
        each = min(1 << (n.bit_length() - 1), WIDEST // size)
        if each == 1:
            return 1, element, size
        if kind == "u16":
            return each, self.ir.VectorType(self.ir.IntType(32), each // 2), each * size
        return each, self.ir.VectorType(element, each), each * size

    def pointer(self, builder: Any, address: Any, offset: int, to: Any) -> Any:
        """Return ``address + offset`` as a pointer."""
        moved = builder.add(address, self.ir.Constant(self.ir.IntType(64), offset)) if offset else address
        return builder.inttoptr(moved, self.ir.PointerType(to, addrspace=self.space))

    def _load(self, kind: str, n: int) -> Function:
        ir, (element, number) = self.ir, self.elements[kind]
        each, moved, alignment = self.vectors(kind, n)
        result = self.types.UniTuple(number, n)

        def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
            found = []
            for first in range(0, n - n % each, each):
                value = builder.load(self.pointer(builder, args[0], first * SIZES[kind], moved), typ=moved)
                value.align = alignment
                found += self.unpack(builder, kind, value) if each > 1 else [value]
            for k in range(n - n % each, n):
                value = builder.load(self.pointer(builder, args[0], k * SIZES[kind], element), typ=element)
                value.align = SIZES[kind]
                found.append(value)
            if kind == "u16" and each == 1:
                found = [builder.zext(x, ir.IntType(32)) for x in found]
            return context.make_tuple(builder, result, found)

        def function(typingctx, address):  # type: ignore[no-untyped-def]
            return result(self.types.uint64), code

        return self.guarded(self.intrinsic(function), alignment)

    def unpack(self, builder: Any, kind: str, vector: Any) -> list[Any]:
        """Return the numbers of a vector."""
        i32 = self.ir.IntType(32)
        found = [builder.extract_element(vector, self.ir.Constant(i32, k)) for k in range(vector.type.count)]
        if kind != "u16":
            return found
        low, half = self.ir.Constant(i32, 0xFFFF), self.ir.Constant(i32, 16)
        return [x for word in found for x in (builder.and_(word, low), builder.lshr(word, half))]

    def pack(self, builder: Any, kind: str, to: Any, values: list[Any]) -> Any:
        """Return the vector of some numbers."""
        i32 = self.ir.IntType(32)
        if kind == "u16":
            half = self.ir.Constant(i32, 16)
            values = [builder.or_(x, builder.shl(y, half)) for x, y in zip(values[::2], values[1::2], strict=True)]
        vector = self.ir.Constant(to, self.ir.Undefined)
        for k, x in enumerate(values):
            vector = builder.insert_element(vector, x, self.ir.Constant(i32, k))
        return vector

    def _store(self, kind: str, n: int) -> Function:
        ir, (element, number) = self.ir, self.elements[kind]
        each, moved, alignment = self.vectors(kind, n)
        given = self.types.UniTuple(number, n)

        def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
            values = [builder.extract_value(args[1], k) for k in range(n)]
            if kind == "u16" and each == 1:
                values = [builder.trunc(x, ir.IntType(16)) for x in values]
            for k in range(n - n % each, n):
                stored = builder.store(values[k], self.pointer(builder, args[0], k * SIZES[kind], element))
                stored.align = SIZES[kind]
            for first in range(0, n - n % each, each):
                value = self.pack(builder, kind, moved, values[first : first + each]) if each > 1 else values[first]
                stored = builder.store(value, self.pointer(builder, args[0], first * SIZES[kind], moved))
                stored.align = alignment
            return context.get_dummy_value()

        def function(typingctx, address, values):  # type: ignore[no-untyped-def]
            return self.types.void(self.types.uint64, given), code

        return self.guarded(self.intrinsic(function), alignment)

    def guarded(self, access: Function, alignment: int) -> Function:
        """Return the function that the kernels call for ``access``."""
        return access

    def _pick(self, places: tuple[int | None, ...]) -> Function:
        types = self.types

        def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
            values = []
            for k in places:
                if k is None:
                    values.append(context.get_dummy_value())
                    continue
                value, given = builder.extract_value(args[0], k), sig.args[0].types[k]
                if isinstance(given, types.Optional):  # a rule's result that would be None were its state off
                    value = context.make_helper(builder, given, value).data
                values.append(value)
            return context.make_tuple(builder, sig.return_type, values)

        def function(typingctx, values):  # type: ignore[no-untyped-def]
            found = [types.none if k is None else values.types[k] for k in places]
            found = [x.type if isinstance(x, types.Optional) else x for x in found]
            return types.BaseTuple.from_types(found)(values), code

        return self.intrinsic(function)  # type: ignore[no-any-return]

    def _transpose(self) -> Function:
        types = self.types

        def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
            rows = [builder.extract_value(args[0], i) for i in range(len(sig.args[0].types))]
            columns = [
                context.make_tuple(builder, column, [builder.extract_value(row, k) for row in rows])
                for k, column in enumerate(sig.return_type.types)
            ]
            return context.make_tuple(builder, sig.return_type, columns)

        def function(typingctx, rows):  # type: ignore[no-untyped-def]
            columns = zip(*(row.types for row in rows.types), strict=True)
            return types.BaseTuple.from_types([types.BaseTuple.from_types(c) for c in columns])(rows), code

        return self.intrinsic(function)  # type: ignore[no-any-return]


class Device(Compiled):
    """Global memory of a GPU."""

    space = 1

    def __init__(self) -> None:
        from numba import cuda
        from numba.cuda.extending import intrinsic

        self.sync = cuda.syncthreads
        super().__init__(intrinsic, cuda.jit(device=True))


class Host(Compiled):
    """Memory of this process."""

    def __init__(self) -> None:
        from numba import njit
        from numba.core.extending import intrinsic

        self.sync = njit(lambda: None)
        super().__init__(intrinsic, njit)

    def guarded(self, access: Function, alignment: int) -> Function:
        mask = np.uint64(alignment - 1)
        u8 = np.uint64

        def checked(address, *values):  # type: ignore[no-untyped-def]
            if u8(address) & mask != u8(0):
                raise ValueError("the address of a vector is not aligned")
            return access(address, *values)

        return self.jit(checked)


class Plain(Target):
    """Memory of this process, by ctypes."""

    numbers = {  # noqa: RUF012
        "f32": (ctypes.c_float, np.float32), "f64": (ctypes.c_double, np.float64), "u64": (ctypes.c_uint64, np.uint64),
        "u32": (ctypes.c_uint32, np.uint32), "u16": (ctypes.c_uint16, np.uint32),
    }  # fmt: skip

    def __init__(self, sync: Function = lambda: None) -> None:
        self.sync = sync
        self.bits, self.real = codecs_cuda.bits, codecs_cuda.real
        self.widen_f16, self.narrow_f16 = codecs_cuda.widen_f16, codecs_cuda.narrow_f16
        super().__init__()

    def jit(self, function: Function) -> Function:
        return function

    def compile_tree(self, function: Function) -> Function:
        return function

    def transpose(self, rows: Any) -> Any:
        return tuple(zip(*rows, strict=True))

    def _pick(self, places: tuple[int | None, ...]) -> Function:
        return lambda values: tuple(None if k is None else values[k] for k in places)

    def _load(self, kind: str, n: int) -> Function:
        element, number = self.numbers[kind]

        def load(address):  # type: ignore[no-untyped-def]
            return tuple(number(x) for x in self.array(element, address, n))

        return load

    def _store(self, kind: str, n: int) -> Function:
        element, _ = self.numbers[kind]

        def store(address, values):  # type: ignore[no-untyped-def]
            self.array(element, address, n)[:] = [x.item() for x in values]

        return store

    @staticmethod
    def array(element: Any, address: Any, n: int) -> Any:
        """Return the ctypes array at ``address``."""
        width = min(ctypes.sizeof(element) << (n.bit_length() - 1), WIDEST)
        if int(address) % width:
            raise ValueError(f"the address {int(address):#x} of a vector is not a multiple of {width}")
        return (element * n).from_address(int(address))
