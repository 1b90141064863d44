from ..numerics.elementary_element import double, exp, log1p, magnitude, relu, weighted, zero


def focal(logits, target, /, factor, positive, negative, gamma, one):
    s = target + target - one
    u = s * logits
    e = exp(-magnitude(u))
    r = one / (one + e)
    tail = log1p(e)
    p = r if u > zero(u) else e * r  # the probability of the right class, and of the wrong one
    q = e * r if u > zero(u) else r
    miss = relu(-u) + tail  # -ln p; relu(u) + tail is -ln q
    f = (target * positive + (one - target) * negative) * exp(-weighted(gamma, relu(u) + tail))
    return double(weighted(f, miss)), -factor * (s * (f * (gamma * weighted(p, miss) + q)))
