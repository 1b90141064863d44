from ..numerics_cuda import one, sign, soft, zero


def mcp_gradient(p, g, alpha, gamma):
    return g + (zero(p) if abs(p) > gamma * alpha else (alpha - abs(p) / gamma) * sign(p))


def mcp_prox(p, step, alpha, gamma):
    return p if abs(p) > gamma * alpha else soft(p, step * alpha) / (one(p) - step / gamma)
