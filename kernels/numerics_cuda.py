"""The functions of numerics.py on one number, in plain Python; the CUDA engine gives each its device form."""

import numpy as np


def sqrt(x):
    return np.sqrt(x)


def floor(x):
    return np.floor(x)


def sign(x):
    return type(x)(x > 0) - type(x)(x < 0)


def maximum(a, b):
    return b if b > a else a


def flush(x):
    return type(x)(0) if abs(x) < np.finfo(type(x)).tiny else x


def power(x, n):
    y = 1.0
    while n > 0:
        if n & 1:
            y *= x
        x *= x
        n >>= 1
    return y
