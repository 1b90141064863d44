"""Elementary functions that rules, penalties and losses share, spelled the same in all forms.

They are on arrays here, on one number in elementary_element.py, in C in elementary.pxi.

Comparisons are explicit because libraries disagree on NaN and -0: ``sign(nan)`` is 0 here as in torch, where NumPy
gives NaN. ``exp``, ``exp_any``, ``log`` and ``log1p`` use +, -, *, / only, so that every instruction set returns the
same bits; all stay within 2 ulp of the exact value on the domain given. Every function keeps the dtype of its argument.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..native import enter_mode, leave_mode, power

__all__ = [
    "exp", "exp_any", "flush", "gate", "ieee", "log", "log1p", "magnitude", "maximum", "power", "relu", "sign", "soft",
    "sqrt", "weighted",
]  # fmt: skip

Array = np.ndarray[Any, np.dtype[Any]]


@contextlib.contextmanager
def ieee() -> Iterator[None]:
    """Compute in the default floating-point mode, whatever the caller has set, and without NumPy's warnings."""
    old = enter_mode()
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        leave_mode(old)


def sqrt(x: Array) -> Array:
    """Square root, correctly rounded."""
    return np.sqrt(x)


def sign(x: Array) -> Array:
    """-1, 0 or 1; 0 for NaN and for -0."""
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


def maximum(a: Array, b: Array) -> Array:
    """The larger one; ``a`` where either is NaN."""
    return np.where(b > a, b, a)


def soft(x: Array, threshold: Array) -> Array:
    """``x`` moved towards 0 by ``threshold``, at most to +0."""
    moved = np.where(x > 0, x - threshold, x + threshold)
    return np.where(np.abs(x) <= threshold, x.dtype.type(0), moved)


def flush(x: Array) -> Array:
    """``x`` with subnormal numbers replaced by +0, so that states which die out never slow a step."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)


def magnitude(x: Array) -> Array:
    """The absolute value."""
    return np.abs(x)


def relu(x: Array) -> Array:
    """``x``, or 0 where it is below 0; NaN stays."""
    return np.where(x < 0, x.dtype.type(0), x)


def gate(x: Array, y: Array) -> Array:
    """``y``, or 0 where ``x`` is 0 or below."""
    return np.where(x <= 0, y.dtype.type(0), y)


def weighted(weight: Array, x: Array) -> Array:
    """``weight`` times ``x``, and 0 where the weight is 0 whatever ``x`` is: 0 log 0 is 0."""
    return np.where(weight == 0, x.dtype.type(0), weight * x)


_LN2 = {4: (0.693359375, -2.12194440e-4), 8: (0.693147180369123816490, 1.90821492927058770002e-10)}
_EXP = {  # minimax for (e^r - 1 - r) / r^2 over |r| <= ln 2 / 2: relative errors of e^r 3e-9 and 4e-18
    4: (0.0013814540110662062, 0.008368745111447203, 0.04166839078565286, 0.16666520399016177, 0.49999993432113976),
    8: (2.5000549356466628e-08, 2.763031829960557e-07, 2.7557585235057476e-06, 2.4801492911096425e-05,
        0.00019841269507356738, 0.001388888894380203, 0.00833333333349435, 0.04166666666652955, 0.16666666666666413,
        0.5000000000000011),
}  # fmt: skip


_LOG1P = {  # minimax for (artanh(s) / s - 1) / s^2 over s^2 <= 1/9: relative errors of artanh(s) 5e-9 and 1.3e-18
    4: (0.1400597653696556, 0.14000906705534446, 0.2001076332345323, 0.33333208148946414),
    8: (0.08504878185018328, 0.041724862822261526, 0.060524722309037306, 0.06650560727693067, 0.07693274193038216,
        0.09090872239677222, 0.1111111197682139, 0.14285714274058948, 0.20000000000077559, 0.33333333333333155),
}  # fmt: skip
# integer of as many bits, bits of the fraction, bits of 1, 1.5 * 2^fraction, least and largest x of e^x
_FORMAT: dict[int, tuple[Any, ...]] = {
    4: (np.uint32, 23, 0x3F800000, 12582912.0, -87.0, 88.72283),
    8: (np.uint64, 52, 0x3FF0000000000000, 6755399441055744.0, -708.0, 709.782712893384),
}


def exp(x: Array) -> Array:
    """e^x for x <= 0; 0 below -87 (float32) or -708 (float64). Within 1.1 ulp."""
    bits, shift, bias, _, lowest, _ = _FORMAT[x.dtype.itemsize]
    with np.errstate(all="ignore"):
        k, y = _exp_core(x)
        scale = ((k.view(bits) << bits(shift)) + bits(bias)).view(x.dtype)
        return np.where(x < x.dtype.type(lowest), x.dtype.type(0), y * scale)


def exp_any(x: Array) -> Array:
    """e^x; 0 below -87 or -708, inf above 88.72283 or 709.782712893384. As accurate as ``exp``.

    For x > 0 it is 2 y 2^(k - 1): 2^k itself may be too large where e^x is not.
    """
    bits, shift, bias, _, lowest, highest = _FORMAT[x.dtype.itemsize]
    real = x.dtype.type
    with np.errstate(all="ignore"):
        k, y = _exp_core(x)
        up = x > 0
        bias = np.where(up, bits(bias - (1 << shift)), bits(bias))
        scale = ((k.view(bits) << bits(shift)) + bias).view(x.dtype)
        y = np.where(x > real(highest), real(np.inf), np.where(up, y + y, y) * scale)
        return np.where(x < real(lowest), real(0), y)


def _exp_core(x: Array) -> tuple[Array, Array]:
    """Return k in the low bits of a number, and e^r, where x = k ln 2 + r."""
    real, size = x.dtype.type, x.dtype.itemsize
    magic = real(_FORMAT[size][3])
    high, low = map(real, _LN2[size])
    rounded = x * real(1.4426950408889634) + magic
    k = rounded - magic
    r = (x - k * high) - k * low
    z, c = r * r, [real(c) for c in _EXP[size]]
    y = c[0] if len(c) % 2 else c[0] * r + c[1]
    for i in range(2 - len(c) % 2, len(c), 2):
        y = y * z + (c[i] * r + c[i + 1])
    return rounded, (y * z + r) + real(1)


def log1p(x: Array) -> Array:
    """ln(1 + x) for x in [0, 1], also close to 0. Within 2 ulp."""
    real, size = x.dtype.type, x.dtype.itemsize
    with np.errstate(all="ignore"):
        s = x / (real(2) + x)
        z = s * s
        y = np.full_like(x, _LOG1P[size][0])
        for c in _LOG1P[size][1:]:
            y = y * z + real(c)
        s = s + s
        return s + s * (z * y)


def log(x: Array) -> Array:
    """ln x for float64 x >= 1."""
    bits = np.ascontiguousarray(x).view(np.uint64)
    e = ((bits + np.uint64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)) >> np.uint64(52)).astype(np.int64) - 1023
    m = (bits - (e.astype(np.uint64) << np.uint64(52))).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    y = np.full_like(x, 1.0 / 21.0)
    for n in range(19, 1, -2):
        y = y * z + 1.0 / n
    y = 2.0 * s + (2.0 * s) * (z * y)
    return np.where(~np.isfinite(x), x, e * _LN2[8][0] + (y + e * _LN2[8][1]))
