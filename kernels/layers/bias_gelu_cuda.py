from ..numerics.elementary_element import exp
from ..numerics.normal_cuda import normal


def bias_gelu_forward(x, bias):
    z = x + bias
    return z * normal(z)[0]


def bias_gelu_backward(dy, x, bias):
    z = x + bias
    share, slope = normal(z)
    return dy * (share + z * slope)


def bias_gelu_tanh_forward(x, bias, zero, one, a, b, b3):
    z = x + bias
    return z * logistic(z, zero, one, a, b, b3)[0]


def bias_gelu_tanh_backward(dy, x, bias, zero, one, a, b, b3):
    z = x + bias
    share, slope = logistic(z, zero, one, a, b, b3)
    return dy * (share + z * slope)


def logistic(z, zero, one, a, b, b3):
    q = z * z
    u = z * (a + b * q)
    e = exp(u if u < zero else -u)
    r = one / (one + e)
    return e * r if u < zero else r, ((e * r) * r) * (a + b3 * q)
