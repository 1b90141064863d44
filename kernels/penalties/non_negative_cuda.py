from ..numerics_cuda import relu


def non_negative_prox(p, step):
    return relu(p)
