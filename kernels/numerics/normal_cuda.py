"""The function of normal.py on one number, in plain Python; the CUDA engine gives it its device form."""

from .elementary_cuda import exp
from .normal import _K, _P


def normal(z):
    real, size = type(z), z.dtype.itemsize
    t = -z if z < 0 else z
    density = exp((t * t) * real(-0.5)) * real(0.3989422804014327)
    s = real(1) / (t + real(_K[size]))
    w = real(1) - real(2 * _K[size]) * s
    y = real(_P[size][0])
    for c in _P[size][1:]:
        y = y * w + real(c)
    tail = density * (s * y)
    return real(1) - tail if z > 0 else tail, density
