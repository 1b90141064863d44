from ..numerics.elementary_element import double, magnitude, sign, soft


def l1_value(p, /, alpha):
    return double(alpha) * double(magnitude(p))


def l1_gradient(p, g, /, alpha):
    return g + alpha * sign(p)


def l1_prox(p, step, /, alpha):
    return soft(p, step * alpha)
