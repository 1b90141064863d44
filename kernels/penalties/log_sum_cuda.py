from ..numerics_element import one, sign, sqrt, zero


def log_sum_gradient(p, g, alpha, eps):
    return g + alpha * sign(p) / (abs(p) + eps)


def log_sum_prox(p, step, alpha, eps):
    two, size, t = one(p) + one(p), abs(p), step * alpha
    most = eps if size < eps else size
    excess = size - t / eps
    v = (eps - size) / most
    d = sqrt(v * v + (two + two) * ((eps / most) * (excess / most)))
    w = two * excess / (v + d) if size < eps else size * ((d - v) / two)
    w = size if size < w else w
    w = -w if p < 0 else w
    w = p if t == 0 or size - size != 0 else w
    return zero(p) if size <= t / eps else w
