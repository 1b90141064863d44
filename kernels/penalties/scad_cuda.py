from ..numerics_element import sign, zero


def scad_gradient(p, g, alpha, gamma, gamma1):
    slope = alpha if abs(p) <= alpha else (gamma * alpha - abs(p)) / gamma1
    return g + (zero(p) if abs(p) > gamma * alpha else slope * sign(p))


def scad_prox(p, step, alpha, gamma, gamma1):
    t = step * alpha
    w = alpha + (abs(p) - (alpha + t)) * (gamma1 / (gamma1 - step))
    w = abs(p) if abs(p) < w else w
    w = abs(p) - t if abs(p) <= alpha + t else w
    w = -w if p < 0 else w
    w = p if t == 0 else w
    w = zero(p) if abs(p) <= t else w
    return p if abs(p) > gamma * alpha else w
