"""The functions of elementary.py on one number, in plain Python; the CUDA engine gives each its device form."""

import numpy as np

from . import elementary


def sqrt(x):
    return np.sqrt(x)


def floor(x):
    return np.floor(x)


def sign(x):
    return type(x)(x > 0) - type(x)(x < 0)


def maximum(a, b):
    return b if b > a else a


def zero(x):
    return type(x)(0)


def one(x):
    return type(x)(1)


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


def double(x):
    return np.float64(x)


def exp(x):
    return elementary.exp(np.array([x]))[0]


def exp_any(x):
    return elementary.exp_any(np.array([x]))[0]


def log(x):
    return elementary.log(np.array([x]))[0]


def log1p(x):
    return elementary.log1p(np.array([x]))[0]


def power(x, n):
    y = 1.0
    while n > 0:
        if n & 1:
            y *= x
        x *= x
        n >>= 1
    return y
