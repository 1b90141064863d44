from ..numerics_element import one


def l2_gradient(p, g, two_alpha):
    return g + two_alpha * p


def l2_prox(p, step, two_alpha):
    return p / (one(p) + step * two_alpha)
