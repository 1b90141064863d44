from ..numerics.elementary_element import double, log, magnitude, one, sign, sqrt, zero


def log_sum_value(p, /, alpha, eps):
    x = double(magnitude(p)) / double(eps)
    y = one(x) + x  # not 1 + x in its last digits; y - 1 is what log sees
    z = log(y) * (x / (y - one(y)))
    z = z if y > one(y) else x
    z = z if y - y == zero(y) else x  # inf and NaN stay
    return double(alpha) * z


def log_sum_gradient(p, g, /, alpha, eps):
    return g + alpha * sign(p) / (magnitude(p) + eps)


def log_sum_prox(p, step, /, alpha, eps):
    two, size, t = one(p) + one(p), magnitude(p), step * alpha
    most = eps if size < eps else size
    excess = size - t / eps
    v = (eps - size) / most
    d = sqrt(v * v + (two + two) * ((eps / most) * (excess / most)))
    w = two * excess / (v + d) if size < eps else size * ((d - v) / two)  # one root: neither form cancels
    w = size if size < w else w
    w = -w if p < zero(p) else w
    w = p if t == zero(t) else w
    w = w if size - size == zero(size) else p  # inf and NaN stay
    return zero(p) if size <= t / eps else w
