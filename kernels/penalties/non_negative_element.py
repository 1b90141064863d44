from ..numerics.elementary_element import zero


def non_negative_prox(p, step, /):
    return zero(p) if p <= zero(p) else p
