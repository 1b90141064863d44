from ..numerics_cuda import sign


def l1_gradient(p, g, alpha):
    return g + alpha * sign(p)
