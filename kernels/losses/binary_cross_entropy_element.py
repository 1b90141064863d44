from ..numerics.elementary_element import double, exp, log1p, magnitude, weighted, zero


def binary_cross_entropy(logits, target, pos_weight, /, factor, one):
    e = exp(-magnitude(logits))
    positive = pos_weight * target
    negative = one - target
    up = negative if logits > zero(logits) else negative * e  # over 1 + e these are (1 - target) sigmoid(logits)
    down = positive * e if logits > zero(logits) else positive  # and pos_weight target sigmoid(-logits)
    wrong = negative if logits > zero(logits) else positive
    term = (positive + negative) * log1p(e) + weighted(wrong, magnitude(logits))
    return double(term), factor * ((up - down) / (one + e))
