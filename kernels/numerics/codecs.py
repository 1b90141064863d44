"""Storage types: float64, float32, bfloat16 (of ml_dtypes) and float16, whatever the arithmetic is done in.

Arithmetic is float64 for a parameter of float64 and float32 for all others. Decoding is exact. Encoding rounds

- ``nearest``: to the nearest, ties to even, beyond the largest number to infinity, as IEEE 754 has it;
- ``stochastic``: up or down at random, by what is cut off, so that the mean is kept: 16 bits of philox.py an element; a
  finite number stays finite;
- ``remainder``: a bfloat16 to the nearest, ties away from 0, and the 16 bits cut off in an array beside it: both
  together are the float32.

Sources: S. Gupta et al., "Deep learning with limited numerical precision", ICML 2015, https://arxiv.org/abs/1502.02551;
P. Zamirai et al., "Revisiting bfloat16 training", 2020, https://arxiv.org/abs/2010.06192
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SHORT = {"float64": "f64", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}  # as in the names of tiles
NAMES = tuple(SHORT)
ROUNDINGS = ("nearest", "stochastic", "remainder")


def dtype(name: Any) -> np.dtype[Any]:
    """Return the storage type called ``name``, or the one that ``name`` is.

    Raises ValueError where it is none, ImportError where bfloat16 needs ml_dtypes and it is not installed.
    """
    text = name if isinstance(name, str) else getattr(name, "name", None) or getattr(name, "__name__", repr(name))
    if text not in NAMES:
        raise ValueError(f"{name!r} is no storage type: must be one of {', '.join(NAMES)}")
    if text == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError("bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes") from None
        text = ml_dtypes.bfloat16
    return np.dtype(text)


def compute(p: np.dtype[Any]) -> type[Any]:
    """Return the type that parameters of dtype ``p`` are computed in."""
    return np.float64 if p == np.float64 else np.float32


@np.errstate(all="ignore")
def decode(x: Array, real: type[Any]) -> Array:
    """Return the numbers that are stored in ``x``; exact."""
    if x.dtype.name == "bfloat16":
        x = (x.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return x.astype(real)


def wide(x: Array) -> Array:
    """Return the numbers that are stored in ``x`` in their compute type; ``x`` itself where it is of that."""
    real = compute(x.dtype)
    return x if x.dtype == real else decode(x, real)


@np.errstate(all="ignore")
def encode(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return ``x`` rounded to the nearest numbers of ``dtype``."""
    if dtype.name != "bfloat16":
        return x.astype(dtype, copy=False)
    bits = _odd(x).view(np.uint32)
    near = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), bits >> np.uint32(16) | np.uint32(0x40), near).astype(np.uint16).view(dtype)


@np.errstate(all="ignore")
def stochastic(x: Array, dtype: np.dtype[Any], random: Array) -> Array:
    """Return ``x`` rounded to bfloat16 or float16, up or down by the 16 bits in ``random``, a uint32 array."""
    bits = _odd(x).view(np.uint32)
    size = bits & np.uint32(0x7FFFFFFF)
    infinite, nan = np.uint32(0x7F800000), size > np.uint32(0x7F800000)
    if dtype.name == "bfloat16":
        rounded = np.where(size >= np.uint32(0x7F7F0000), bits, bits + random) >> np.uint32(16)
        rounded = rounded | np.where(nan, np.uint32(0x40), np.uint32(0))
    else:
        tiny = size < np.uint32(0x38800000)  # 2^-14, the smallest normal number
        units = np.where(tiny, size.view(np.float32), np.float32(0)).astype(np.float64) * 2.0**24
        whole = np.floor(units)
        low = whole.astype(np.uint32) + ((units - whole) * 65536 > random)
        rounded = np.where(tiny, low, (size - np.uint32(0x38000000) + (random >> np.uint32(3))) >> np.uint32(13))
        rounded = np.minimum(rounded, 0x7BFF)
        rounded = np.where(size == infinite, 0x7C00, np.where(nan, 0x7E00, rounded))
        rounded = rounded | (bits >> np.uint32(16) & np.uint32(0x8000))
    return rounded.astype(np.uint16).view(dtype)


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
def _odd(x: Array) -> Array:
    """Return ``x`` in float32, what does not fit rounded to the odd neighbour: the next rounding is the only one."""
    near = x.astype(np.float32)
    if x.dtype == np.float32:
        return near
    bits = np.ascontiguousarray(near).view(np.uint32)
    bits = np.where(np.abs(near.astype(np.float64)) > np.abs(x), bits - np.uint32(1), bits) | np.uint32(1)
    return np.where(near == x, near, bits.view(np.float32))
