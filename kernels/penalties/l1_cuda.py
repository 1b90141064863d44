from ..numerics_element import sign, soft


def l1_gradient(p, g, alpha):
    return g + alpha * sign(p)


def l1_prox(p, step, alpha):
    return soft(p, step * alpha)
