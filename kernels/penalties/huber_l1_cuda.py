from ..numerics_element import one, soft


def huber_l1_gradient(p, g, alpha, delta):
    x = p / delta
    x = one(p) if x > one(p) else x
    x = -one(p) if x < -one(p) else x
    return g + alpha * x


def huber_l1_prox(p, step, alpha, delta):
    t = step * alpha
    return p * (delta / (delta + t)) if abs(p) <= delta + t else soft(p, t)
