from ..numerics.elementary_element import double, half, one


def l2_value(p, /, two_alpha):
    x = double(p)
    return half(x) * double(two_alpha) * (x * x)


def l2_gradient(p, g, /, two_alpha):
    return g + two_alpha * p


def l2_prox(p, step, /, two_alpha):
    return p / (one(p) + step * two_alpha)
