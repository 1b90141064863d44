"""The functions of elementary.py on one number, in plain Python: what an ``X_element.py`` may call.

Each has the bits of its namesake on arrays and of the C function in elementary.pxi. They run on NumPy's scalars as they
are, and Numba compiles them for a GPU; so both types of ``exp`` and ``log1p`` are written out, and the type of ``x``
chooses while compiling. Coefficients come from elementary.py, which says what they are.
"""

import numpy as np

from .elementary import _EXP, _LN2, _LOG1P

INF = np.float64(np.inf)
LOG2_E = np.float64(1.4426950408889634)
LOG2_E_F32 = np.float32(LOG2_E)
ROUNDER = np.float64(6755399441055744.0)  # 1.5 * 2^52: a number plus this has its nearest integer in the low bits
ROUNDER_F32 = np.float32(12582912.0)  # 1.5 * 2^23
LN2, LN2_F32 = tuple(map(np.float64, _LN2[8])), tuple(map(np.float32, _LN2[4]))  # in two parts: high, low
EXP, EXP_F32 = tuple(map(np.float64, _EXP[8])), tuple(map(np.float32, _EXP[4]))
LOG1P, LOG1P_F32 = tuple(map(np.float64, _LOG1P[8])), tuple(map(np.float32, _LOG1P[4]))
LOWEST, LOWEST_F32 = np.float64(-708.0), np.float32(-87.0)  # where e^x is taken for 0
HIGHEST, HIGHEST_F32 = np.float64(709.782712893384), np.float32(88.72283)  # and where for infinity
ONE_BITS = np.uint64(0x3FF0000000000000)
LOG_BITS = np.uint64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)  # from the bits of sqrt(1/2) to those of 1

f4, f8, u4, u8 = np.float32, np.float64, np.uint32, np.uint64


def sqrt(x):
    return np.sqrt(x)


def sign(x):
    return type(x)(x > 0) - type(x)(x < 0)


def maximum(a, b):
    return b if b > a else a


def zero(x):
    return type(x)(0)


def one(x):
    return type(x)(1)


def half(x):
    return type(x)(0.5)


def soft(x, threshold):
    moved = x - threshold if x > 0 else x + threshold
    return type(x)(0) if abs(x) <= threshold else moved


def flush(x):
    return type(x)(0) if abs(x) < np.finfo(type(x)).tiny else x


def magnitude(x):
    return abs(x)


def relu(x):
    return type(x)(0) if x < 0 else x


def gate(x, y):
    return type(y)(0) if x <= 0 else y


def weighted(weight, x):
    y = weight * x
    return type(x)(0) if weight == 0 else y


def double(x):
    return np.float64(x)


def is_single(x):
    """Whether x is a float32; known while compiling, so that the branch not taken leaves no code."""
    return np.finfo(type(x)).bits == 32


def exp(x):
    return type(x)(exp_f32(f4(x)) if is_single(x) else exp_f64(f8(x)))


def exp_any(x):
    return type(x)(exp_any_f32(f4(x)) if is_single(x) else exp_any_f64(f8(x)))


def log1p(x):
    return type(x)(log1p_f32(f4(x)) if is_single(x) else log1p_f64(f8(x)))


def exp_core_f32(x):
    """Return e^r, where x = k ln 2 + r, and the number whose low bits are k."""
    rounded = x * LOG2_E_F32 + ROUNDER_F32
    k = rounded - ROUNDER_F32
    r = (x - k * LN2_F32[0]) - k * LN2_F32[1]
    z = r * r
    y = EXP_F32[0] * z + (EXP_F32[1] * r + EXP_F32[2])
    y = y * z + (EXP_F32[3] * r + EXP_F32[4])
    return (y * z + r) + f4(1), rounded


def exp_core_f64(x):
    rounded = x * LOG2_E + ROUNDER
    k = rounded - ROUNDER
    r = (x - k * LN2[0]) - k * LN2[1]
    z = r * r
    y = EXP[0] * r + EXP[1]
    y = y * z + (EXP[2] * r + EXP[3])
    y = y * z + (EXP[4] * r + EXP[5])
    y = y * z + (EXP[6] * r + EXP[7])
    y = y * z + (EXP[8] * r + EXP[9])
    return (y * z + r) + f8(1), rounded


def power_of_two_f32(rounded, bias):
    """Return 2^(k + bias - 127) for the k in the low bits of ``rounded``."""
    bits = u4((f4(rounded).view(u4) + bias) << u4(23))
    return u4(bits).view(f4)


def power_of_two_f64(rounded, bias):
    bits = u8((f8(rounded).view(u8) + bias) << u8(52))
    return u8(bits).view(f8)


def exp_f32(x):
    y, rounded = exp_core_f32(x)
    return f4(0) if x < LOWEST_F32 else y * power_of_two_f32(rounded, u4(127))


def exp_f64(x):
    y, rounded = exp_core_f64(x)
    return f8(0) if x < LOWEST else y * power_of_two_f64(rounded, u8(1023))


def exp_any_f32(x):
    y, rounded = exp_core_f32(x)
    y = (y + y) * power_of_two_f32(rounded, u4(126)) if x > 0 else y * power_of_two_f32(rounded, u4(127))
    y = f4(INF) if x > HIGHEST_F32 else y
    return f4(0) if x < LOWEST_F32 else y


def exp_any_f64(x):
    y, rounded = exp_core_f64(x)
    y = (y + y) * power_of_two_f64(rounded, u8(1022)) if x > 0 else y * power_of_two_f64(rounded, u8(1023))
    y = INF if x > HIGHEST else y
    return f8(0) if x < LOWEST else y


def log1p_f32(x):
    s, a = x / (f4(2) + x), LOG1P_F32
    z = s * s
    y = ((a[0] * z + a[1]) * z + a[2]) * z + a[3]
    s = s + s
    return s + s * (z * y)


def log1p_f64(x):
    s, a = x / (f8(2) + x), LOG1P
    z = s * s
    y = (((a[0] * z + a[1]) * z + a[2]) * z + a[3]) * z + a[4]
    y = ((((y * z + a[5]) * z + a[6]) * z + a[7]) * z + a[8]) * z + a[9]
    s = s + s
    return s + s * (z * y)


def log(x):
    bits = f8(x).view(u8)
    biased = u8((bits + LOG_BITS) >> u8(52))
    m = u8((bits + ONE_BITS) - (biased << u8(52))).view(f8)
    e = f8(np.int64(biased) - np.int64(1023))
    s = (m - f8(1)) / (m + f8(1))
    z = s * s
    y = f8(1) / f8(21)
    for n in range(19, 1, -2):
        y = y * z + f8(1) / f8(n)
    y = f8(2) * s + (f8(2) * s) * (z * y)
    return x if x - x != 0 else e * LN2[0] + (y + e * LN2[1])


def power(x, n):
    y = 1.0
    while n > 0:
        if n & 1:
            y *= x
        x *= x
        n >>= 1
    return y
