from ..numerics_element import one, sign, soft


def elastic_net_gradient(p, g, l1, l2):
    return g + (l1 * sign(p) + l2 * p)


def elastic_net_prox(p, step, l1, l2):
    return soft(p, step * l1) / (one(p) + step * l2)
