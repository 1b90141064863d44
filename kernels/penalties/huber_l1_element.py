from ..numerics.elementary_element import double, half, magnitude, one, soft


def huber_l1_value(p, /, alpha, delta):
    x, a, d = double(magnitude(p)), double(alpha), double(delta)
    inside = a * (x * x) / ((one(d) + one(d)) * d)
    outside = a * (x - half(d) * d)
    return inside if x <= d else outside


def huber_l1_gradient(p, g, /, alpha, delta):
    x = p / delta
    x = one(p) if x > one(p) else x
    x = -one(p) if x < -one(p) else x
    return g + alpha * x


def huber_l1_prox(p, step, /, alpha, delta):
    t = step * alpha
    inside = p * (delta / (delta + t))
    return inside if magnitude(p) <= delta + t else soft(p, t)
