from ..numerics_cuda import sign


def elastic_net_gradient(p, g, l1, l2):
    return g + (l1 * sign(p) + l2 * p)
