from ..numerics_cuda import one, sign, soft, zero


def scad_gradient(p, g, alpha, gamma, gamma1):
    slope = alpha if abs(p) <= alpha else (gamma * alpha - abs(p)) / gamma1
    return g + (zero(p) if abs(p) > gamma * alpha else slope * sign(p))


def scad_prox(p, step, alpha, gamma, gamma1):
    t = step * alpha
    middle = soft(p, t * gamma / gamma1) / (one(p) - step / gamma1)
    inside = soft(p, t) if abs(p) <= alpha + t else middle
    return p if abs(p) > gamma * alpha else inside
