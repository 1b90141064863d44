from ..numerics_cuda import double, exp, log1p, magnitude, relu


def binary_cross_entropy(logits, target, pos_weight, factor, one):
    e = exp(-magnitude(logits))
    r = one / (one + e)
    log = log1p(e)
    up = r if logits > 0 else e * r
    down = e * r if logits > 0 else r
    positive = pos_weight * target
    negative = one - target
    term = positive * (relu(-logits) + log) + negative * (relu(logits) + log)
    return double(term), factor * (negative * up - positive * down)
