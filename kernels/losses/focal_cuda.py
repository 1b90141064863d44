from ..numerics_element import double, exp, log1p, magnitude, relu


def focal(logits, target, factor, positive, negative, gamma, one):
    s = target + target - one
    u = s * logits
    e = exp(-magnitude(u))
    r = one / (one + e)
    log = log1p(e)
    p = r if u > 0 else e * r
    q = e * r if u > 0 else r
    miss = relu(-u) + log
    f = (target * positive + (one - target) * negative) * exp(-(gamma * (relu(u) + log)))
    return double(f * miss), -factor * (s * (f * (gamma * (p * miss) + q)))
