from ..numerics_element import double, exp, log1p, magnitude


def binary_cross_entropy(logits, target, pos_weight, factor, one):
    e = exp(-magnitude(logits))
    positive = pos_weight * target
    negative = one - target
    up = negative if logits > 0 else negative * e
    down = positive * e if logits > 0 else positive
    wrong = negative if logits > 0 else positive
    term = (positive + negative) * log1p(e) + wrong * magnitude(logits)
    return double(term), factor * ((up - down) / (one + e))
