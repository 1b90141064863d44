"""Storage types in NumPy, on whole arrays: what the codecs of the GPU are compared with."""

import numpy as np


def words(x):
    """Return the bits of a float32 array."""
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def widen(a, kind):
    """Return an array of a storage type as float32; bf16 is kept as uint16."""
    if kind == "bf16":
        return (a.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return a.astype(np.float32)


def nearest(x, kind):
    """Return a float32 array in a storage type, rounded to nearest, ties to even."""
    if kind != "bf16":
        with np.errstate(over="ignore"):
            return x.astype({"f16": np.float16, "f32": np.float32}[kind])
    b = words(x).astype(np.uint64)
    up = (b + 0x7FFF + ((b >> 16) & 1)) >> 16
    return np.where(np.isnan(x), (b >> 16) | 0x40, up).astype(np.uint16)


def stochastic(x, random):
    """Return a float32 array in bf16, rounded up where the 16 bits of ``random`` say so; finite numbers stay so."""
    b = words(x).astype(np.uint64)
    up = b + random.astype(np.uint64)
    up = np.where((up & 0x7F800000) == 0x7F800000, b, up)
    found = np.where(np.isfinite(x), up, b) >> 16
    return np.where(np.isnan(x), found | 0x40, found).astype(np.uint16)


def split(x):
    """Return a float32 array as bf16, rounded to nearest, ties away from 0, and the 16 bits that were cut off."""
    b = words(x).astype(np.uint64)
    high = np.where(np.isnan(x), (b >> 16) | 0x40, (b + 0x8000) >> 16)
    return high.astype(np.uint16), np.where(np.isnan(x), 0, b & 0xFFFF).astype(np.uint16)


def join(high, low):
    """Return the float32 array that was split."""
    return ((high.astype(np.int64) << 16) + low.astype(np.int16)).astype(np.uint32).view(np.float32)
