from ..numerics.elementary_element import double, half, magnitude, one, sign, soft


def elastic_net_value(p, /, l1, l2):
    x = double(magnitude(p))
    return double(l1) * x + half(x) * double(l2) * (x * x)


def elastic_net_gradient(p, g, /, l1, l2):
    return g + (l1 * sign(p) + l2 * p)


def elastic_net_prox(p, step, /, l1, l2):
    return soft(p, step * l1) / (one(p) + step * l2)
