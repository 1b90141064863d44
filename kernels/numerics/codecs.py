"""Storage types: float64, float32, bfloat16 (of ml_dtypes) and float16, whatever the arithmetic is done in.

Arithmetic is float64 for a parameter of float64 and float32 for all others. Decoding is exact. Encoding rounds

- ``nearest``: to the nearest, ties to even, beyond the largest number to infinity, as IEEE 754 has it;
- ``stochastic``: up or down at random, by what is cut off, so that the mean is kept: 16 bits of philox.py an element; a
  finite number stays finite;
- ``remainder``: a bfloat16 to the nearest, ties away from 0, and the 16 bits cut off in an array beside it: both
  together are the float32.

TYPES has a row for each type, from which the engines take all that they know of it. Another one is a row, its
functions here, its tiles in codecs.pxi and its functions of one number in codecs_cuda.py.

Sources: S. Gupta et al., "Deep learning with limited numerical precision", ICML 2015, https://arxiv.org/abs/1502.02551;
P. Zamirai et al., "Revisiting bfloat16 training", 2020, https://arxiv.org/abs/2010.06192
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

REALS: dict[str, type[Any]] = {"f32": np.float32, "f64": np.float64}  # the compute types
ROUNDINGS = ("nearest", "stochastic", "remainder")
INFINITE = np.uint32(0x7F800000)  # the exponent of infinities and NaNs


class Type(NamedTuple):
    """A storage type."""

    name: str  # NumPy's, PyTorch's and the user's
    short: str  # as in the names of tiles and of kernels
    size: int  # bytes of an element
    typestr: str  # in the CUDA array interface
    real: str  # the smaller compute type that holds all of its numbers; empty: it holds bits, not numbers
    holds: tuple[str, ...]  # the roles of arrays that may be stored in it
    package: str | None = None  # that has its dtype, where NumPy has none
    remainder: str | None = None  # the type of the bits that rounding with remainder cuts off, where it can
    block: int = 1  # elements that are encoded together
    has_scale: bool = False  # a float32 beside each block
    decode: Callable[[Array], Array] | None = None  # from its array to floating point; None: NumPy does it
    encode: Callable[[Array], Array] | None = None  # from float32 to its words; None: NumPy does it
    stochastic: Callable[[Array, Array], Array] | None = None  # its words, from the bits of float32 and 16 random ones

    @property
    def native(self) -> bool:
        """Whether it is a compute type, whose arrays are used as they are."""
        return self.short == self.real

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype; ImportError where the package that has it is not installed."""
        if self.package is None:
            return np.dtype(self.name)
        try:
            module = importlib.import_module(self.package)
        except ImportError:
            need = f"{self.name} arrays need the package {self.package}: pip install {self.package}"
            raise ImportError(need) from None
        found: np.dtype[Any] = np.dtype(getattr(module, self.name))
        return found


def keeps(real: str, kind: Type) -> bool:
    """Whether the compute type ``real`` holds every number of a storage type, so that decoding is exact."""
    return kind.real in {"f64": ("f64", "f32"), "f32": ("f32",)}[real]


@cache
def allowed(role: str, real: str | None = None) -> tuple[Type, ...]:
    """Return the types that an array in this role may be stored in, those that ``real`` keeps where it is given."""
    return tuple(t for t in TYPES if role in t.holds and (real is None or keeps(real, t)))


def dtype(name: Any) -> np.dtype[Any]:
    """Return the storage type called ``name``, or the one that ``name`` is.

    Raises ValueError where it is none, ImportError where bfloat16 needs ml_dtypes and it is not installed.
    """
    text = name if isinstance(name, str) else getattr(name, "name", None) or getattr(name, "__name__", repr(name))
    if text not in NAMES:
        raise ValueError(f"{name!r} is no storage type: must be one of {', '.join(NAMES)}")
    return BY_NAME[text].dtype


def compute(p: np.dtype[Any]) -> type[Any]:
    """Return the type that parameters of dtype ``p`` are computed in."""
    return REALS[BY_NAME[p.name].real]


@np.errstate(all="ignore")
def decode(x: Array, real: type[Any]) -> Array:
    """Return the numbers that are stored in ``x``; exact."""
    form = BY_NAME[x.dtype.name].decode
    return (x if form is None else form(x)).astype(real)


def upcast(x: Array) -> Array:
    """Return the numbers that are stored in ``x`` in their compute type; ``x`` itself where it is of that."""
    real = compute(x.dtype)
    return x if x.dtype == real else decode(x, real)


@np.errstate(all="ignore")
def encode(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return ``x`` rounded to the nearest numbers of ``dtype``."""
    form = BY_NAME[dtype.name].encode
    if form is None:
        return x.astype(dtype, copy=False)
    return form(_round_to_odd(x)).view(dtype)


@np.errstate(all="ignore")
def stochastic(x: Array, dtype: np.dtype[Any], random: Array) -> Array:
    """Return ``x`` rounded to ``dtype``, up or down by the 16 bits in ``random``, a uint32 array."""
    form = BY_NAME[dtype.name].stochastic
    if form is None:
        raise ValueError(f"{dtype} is rounded to the nearest only")
    return form(_round_to_odd(x).view(np.uint32), random).view(dtype)


@np.errstate(all="ignore")
def join(high: Array, low: Array) -> Array:
    """Return the float32 numbers whose halves ``split`` made."""
    bits = (high.view(np.uint16).astype(np.uint32) << np.uint32(16)) + low.view(np.int16).astype(np.int32).view(
        np.uint32
    )
    return bits.view(np.float32)


@np.errstate(all="ignore")
def split(x: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return float32 numbers as bfloat16 and the 16 bits cut off; a NaN keeps none of them."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    bits = np.where(np.isnan(x), bits & np.uint32(0xFFFF0000) | np.uint32(0x400000), bits)
    return ((bits + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16).view(dtype), bits.astype(np.uint16)


@np.errstate(all="ignore")
def _round_to_odd(x: Array) -> Array:
    """Return ``x`` in float32, what does not fit rounded to the odd neighbour: the next rounding is the only one."""
    near = x.astype(np.float32)
    if x.dtype == np.float32:
        return near
    bits = np.ascontiguousarray(near).view(np.uint32)
    bits = np.where(np.abs(near.astype(np.float64)) > np.abs(x), bits - np.uint32(1), bits) | np.uint32(1)
    return np.where(near == x, near, bits.view(np.float32))


def _decode_bf16(x: Array) -> Array:
    return (x.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def _encode_bf16(x: Array) -> Array:
    bits = x.view(np.uint32)
    near = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), bits >> np.uint32(16) | np.uint32(0x40), near).astype(np.uint16)


def _stochastic_bf16(bits: Array, random: Array) -> Array:
    size = bits & np.uint32(0x7FFFFFFF)
    rounded = np.where(size >= np.uint32(0x7F7F0000), bits, bits + random) >> np.uint32(16)
    return (rounded | np.where(size > INFINITE, np.uint32(0x40), np.uint32(0))).astype(np.uint16)


def _stochastic_f16(bits: Array, random: Array) -> Array:
    size = bits & np.uint32(0x7FFFFFFF)
    tiny = size < np.uint32(0x38800000)  # 2^-14, the smallest normal number
    units = np.where(tiny, size.view(np.float32), np.float32(0)).astype(np.float64) * 2.0**24
    whole = np.floor(units)
    low = whole.astype(np.uint32) + ((units - whole) * 65536 > random)
    rounded = np.where(tiny, low, (size - np.uint32(0x38000000) + (random >> np.uint32(3))) >> np.uint32(13))
    rounded = np.minimum(rounded, 0x7BFF)
    rounded = np.where(size == INFINITE, 0x7C00, np.where(size > INFINITE, 0x7E00, rounded))
    words: Array = rounded | (bits >> np.uint32(16) & np.uint32(0x8000))
    return words.astype(np.uint16)


PLAIN = ("param", "grad", "state")
HALF = (*PLAIN, "shadow")
TYPES = (
    Type("float64", "f64", 8, "<f8", "f64", PLAIN),
    Type("float32", "f32", 4, "<f4", "f32", PLAIN),
    Type("bfloat16", "bf16", 2, "<V2", "f32", HALF, package="ml_dtypes", remainder="u16",
         decode=_decode_bf16, encode=_encode_bf16, stochastic=_stochastic_bf16),
    Type("float16", "f16", 2, "<f2", "f32", HALF, stochastic=_stochastic_f16),
    Type("uint16", "u16", 2, "<u2", "", ("remainder",)),
)  # fmt: skip
BY_SHORT = {row.short: row for row in TYPES}
BY_NAME = {row.name: row for row in TYPES}
NAMES = tuple(row.name for row in TYPES if row.real)
