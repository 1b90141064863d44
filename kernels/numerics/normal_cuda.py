"""The function of normal.py on one number, in plain Python, which Numba compiles."""

import numpy as np

from .elementary_element import exp, is_single
from .normal import _K, _P

K, K_F32 = np.float64(_K[8]), np.float32(_K[4])
P, P_F32 = tuple(map(np.float64, _P[8])), tuple(map(np.float32, _P[4]))


def normal(z):
    real = type(z)
    t = -z if z < 0 else z
    density = exp((t * t) * real(-0.5)) * real(0.3989422804014327)
    k = real(K_F32) if is_single(z) else real(K)
    s = real(1) / (t + k)
    w = real(1) - (k + k) * s
    tail = density * (s * real(mills_f32(np.float32(w)) if is_single(z) else mills_f64(np.float64(w))))
    return real(1) - tail if z > 0 else tail, density


def mills_f32(w):
    y = P_F32[0]
    for c in P_F32[1:]:
        y = y * w + c
    return y


def mills_f64(w):
    y = P[0]
    for c in P[1:]:
        y = y * w + c
    return y
