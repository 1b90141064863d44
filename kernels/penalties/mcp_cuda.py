from ..numerics_element import sign, zero


def mcp_gradient(p, g, alpha, gamma):
    return g + (zero(p) if abs(p) > gamma * alpha else (alpha - abs(p) / gamma) * sign(p))


def mcp_prox(p, step, alpha, gamma):
    t = step * alpha
    w = (abs(p) - t) / ((gamma - step) / gamma)
    w = abs(p) if abs(p) < w else w
    w = -w if p < 0 else w
    w = zero(p) if abs(p) <= t else w
    return p if abs(p) > gamma * alpha else w
