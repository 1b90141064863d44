from ..numerics.elementary_element import double, half, magnitude, one, sign, zero


def scad_value(p, /, alpha, gamma, gamma1):
    x, a, c, d = double(magnitude(p)), double(alpha), double(gamma), double(gamma1)
    two = one(c) + one(c)
    middle = (two * c * a * x - x * x - a * a) / (two * d)
    outside = half(a) * (a * a) * (c + one(c)) if x > c * a else middle
    return a * x if x <= a else outside


def scad_gradient(p, g, /, alpha, gamma, gamma1):
    size = magnitude(p)
    slope = alpha if size <= alpha else (gamma * alpha - size) / gamma1
    return g + (zero(p) if size > gamma * alpha else slope * sign(p))


def scad_prox(p, step, /, alpha, gamma, gamma1):
    size, t = magnitude(p), step * alpha
    w = alpha + (size - (alpha + t)) * (gamma1 / (gamma1 - step))
    w = size if size < w else w  # a step just below gamma - 1 may round to it: 1 / 0
    w = size - t if size <= alpha + t else w
    w = -w if p < zero(p) else w
    w = p if t == zero(t) else w
    w = zero(p) if size <= t else w
    return p if size > gamma * alpha else w
