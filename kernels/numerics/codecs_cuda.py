"""Storage types on the GPU: numbers of 16 bits as words, one at a time, in plain Python.

bf16 goes through integers both ways, since instructions for it flush subnormal numbers or are missing before sm_80.
Words are uint32 with the upper half zero, also where memory holds 16 bits. CODECS has the functions of each type.
"""

from typing import Any, NamedTuple

import numpy as np

u4 = np.uint32
u8 = np.uint64
f4 = np.float32
f8 = np.float64
INFINITE = u4(0x7F800000)  # the exponent of infinities and NaNs
QUIET = u4(0x40)  # keeps a NaN one when its lower bits are cut off
TOP = u4(0x7F7F0000)  # the largest finite bf16, as a float32
NORMAL = u4(0x38800000)  # 2^-14, the smallest normal half, as a float32
UNITS, SHARES = f4(1 << 24), f4(1 << 16)  # of 2^-24, the subnormal halves; of what is cut off
ROUND0, ROUND1 = u4(0xD2511F53), u4(0xCD9E8D57)  # philox.py
KEY0, KEY1 = u4(0x9E3779B9), u4(0xBB67AE85)


def bits(x):
    return np.float32(x).view(np.uint32)


def real(word):
    return np.uint32(word).view(np.float32)


def widen_f16(word):
    return np.float32(np.uint16(word).view(np.float16))


def narrow_f16(x):
    return np.uint32(np.float16(x).view(np.uint16))


def widen_bf16(word):
    return real(u4(word << u4(16)))


def narrow_bf16(x):
    """To nearest, ties to even."""
    b = bits(x)
    if u4(b & INFINITE) == INFINITE and u4(b << u4(9)) != u4(0):
        return u4(u4(b >> u4(16)) | QUIET)
    return u4(u4(b + u4(0x7FFF) + u4(u4(b >> u4(16)) & u4(1))) >> u4(16))


def round_to_odd(x):
    """A float64 as a float32: what does not fit goes to the odd neighbour, so that the next rounding is the only."""
    y = f4(x)
    if f8(y) == x:
        return y
    b = bits(y)
    return real(u4((u4(b - u4(1)) if abs(f8(y)) > abs(x) else b) | u4(1)))


def stochastic_bf16(x, random):
    """Up with the probability that the bits cut off stand for: ``random`` has 16 bits. Finite numbers stay finite."""
    b = bits(x)
    size = u4(b & u4(0x7FFFFFFF))
    rounded = u4(u4(b if size >= TOP else u4(b + random)) >> u4(16))
    return u4(rounded | (QUIET if size > INFINITE else u4(0)))


def stochastic_f16(x, random):
    """As ``stochastic_bf16``, in 10 bits of a half."""
    b = bits(x)
    size = u4(b & u4(0x7FFFFFFF))
    if size < NORMAL:
        y = real(size) * UNITS
        whole = u4(y)
        rounded = u4(whole + (u4(1) if (y - f4(whole)) * SHARES > f4(random) else u4(0)))
    else:
        rounded = u4(u4(u4(size - u4(0x38000000)) + u4(random >> u4(3))) >> u4(13))
    largest = u4(0x7C00) if size == INFINITE else u4(0x7E00) if size > INFINITE else u4(0x7BFF)
    rounded = largest if rounded > u4(0x7BFF) else rounded
    return u4(rounded | u4(u4(b >> u4(16)) & u4(0x8000)))


def upper(x):
    """The bf16 part of a float32 kept in two parts, rounded to nearest, ties away from 0."""
    b = bits(x)
    if u4(b & INFINITE) == INFINITE:
        return u4(u4(b >> u4(16)) | (QUIET if u4(b << u4(9)) != u4(0) else u4(0)))
    return u4(u4(b + u4(0x8000)) >> u4(16))


def lower(x):
    """The 16 bits that ``upper`` cut off; 0 for NaN."""
    b = bits(x)
    return u4(0) if u4(b & INFINITE) == INFINITE and u4(b << u4(9)) != u4(0) else u4(b & u4(0xFFFF))


def joined(high, low):
    """The float32 that ``upper`` and ``lower`` came from."""
    return real(u4(u4(high << u4(16)) + low - (u4(0x10000) if low > u4(0x7FFF) else u4(0))))


def words(block, t, stream, key0, key1):
    """The 4 words of a block of 8 elements; philox.py describes them. ``stream`` is stream * 2^24 + tensor."""
    x0, x1, x2, x3 = u4(block & u8(0xFFFFFFFF)), u4(block >> u8(32)), t, stream
    for _ in range(7):
        a, b = u8(u8(ROUND0) * u8(x0)), u8(u8(ROUND1) * u8(x2))
        x0, x1 = u4(u4(b >> u8(32)) ^ x1 ^ key0), u4(b & u8(0xFFFFFFFF))
        x2, x3 = u4(u4(a >> u8(32)) ^ x3 ^ key1), u4(a & u8(0xFFFFFFFF))
        key0, key1 = u4(key0 + KEY0), u4(key1 + KEY1)
    return x0, x1, x2, x3


def half(given, k):
    """The 16 bits of element ``k`` of a block."""
    a, b, c, d = given
    low = a if k < u4(2) else b
    high = c if k < u4(6) else d
    word = low if k < u4(4) else high
    return u4(word >> u4(16)) if u4(k & u4(1)) != u4(0) else u4(word & u4(0xFFFF))


class Codec(NamedTuple):
    """A storage type. Without functions the number in memory is one, of its own width."""

    word: str  # as intrinsics.py calls what lies in memory
    widen: Any = None  # from a word to float32
    narrow: Any = None  # from float32 to a word, to nearest
    stochastic: Any = None  # the same, by 16 random bits


CODECS = {
    "f64": Codec("f64"),
    "f32": Codec("f32"),
    "bf16": Codec("u16", widen_bf16, narrow_bf16, stochastic_bf16),
    "f16": Codec("u16", widen_f16, narrow_f16, stochastic_f16),
}
