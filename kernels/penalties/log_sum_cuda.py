from ..numerics_cuda import one, relu, sign, sqrt, zero


def log_sum_gradient(p, g, alpha, eps):
    return g + alpha * sign(p) / (abs(p) + eps)


def log_sum_prox(p, step, alpha, eps):
    two = one(p) + one(p)
    t = step * alpha
    root = ((abs(p) - eps) + sqrt(relu((abs(p) + eps) * (abs(p) + eps) - (two + two) * t))) / two * sign(p)
    root = root if p == p else p
    return zero(p) if abs(p) <= t / eps else root
