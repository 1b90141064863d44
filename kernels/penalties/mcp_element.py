from ..numerics.elementary_element import double, half, magnitude, one, sign, zero


def mcp_value(p, /, alpha, gamma):
    x, a, c = double(magnitude(p)), double(alpha), double(gamma)
    inside = a * x - (x * x) / ((one(c) + one(c)) * c)
    return half(c) * c * (a * a) if x > c * a else inside


def mcp_gradient(p, g, /, alpha, gamma):
    slope = (alpha - magnitude(p) / gamma) * sign(p)
    return g + (zero(p) if magnitude(p) > gamma * alpha else slope)


def mcp_prox(p, step, /, alpha, gamma):
    size, t = magnitude(p), step * alpha
    w = (size - t) / ((gamma - step) / gamma)
    w = size if size < w else w  # a step just below gamma may round to it: 1 / 0
    w = -w if p < zero(p) else w
    w = zero(p) if size <= t else w
    return p if size > gamma * alpha else w
