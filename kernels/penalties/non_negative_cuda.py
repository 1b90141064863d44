from ..numerics_element import zero


def non_negative_prox(p, step):
    return zero(p) if p <= 0 else p
