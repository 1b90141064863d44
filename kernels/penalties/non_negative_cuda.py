from ..numerics_cuda import positive


def non_negative_prox(p, step):
    return positive(p)
