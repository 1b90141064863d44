"""The functions of numerics.py on one number, in plain Python; the CUDA engine gives each its device form."""

import numpy as np

from .numerics import _EXP, _LN2


def sqrt(x):
    return np.sqrt(x)


def sign(x):
    return type(x)(x > 0) - type(x)(x < 0)


def maximum(a, b):
    return b if b > a else a


def flush(x):
    return type(x)(0) if abs(x) < np.finfo(type(x)).tiny else x


def exp(x):
    real, size = type(x), x.dtype.itemsize
    bits, shift, bias, magic, lowest = {
        4: (np.uint32, 23, 0x3F800000, 12582912.0, -87.0),
        8: (np.uint64, 52, 0x3FF0000000000000, 6755399441055744.0, -708.0),
    }[size]
    if x < real(lowest):
        return real(0)
    k = x * real(1.4426950408889634) + real(magic)
    scale = ((k.view(bits) << bits(shift)) + bits(bias)).view(real)
    k = k - real(magic)
    r = (x - k * real(_LN2[size][0])) - k * real(_LN2[size][1])
    y = real(_EXP[size][0])
    for c in _EXP[size][1:]:
        y = y * r + real(c)
    return (((y * r) * r + r) + real(1)) * scale


def power(x, n):
    y = 1.0
    while n > 0:
        if n & 1:
            y *= x
        x *= x
        n >>= 1
    return y
