from ..numerics.elementary_element import flush


def momentum(p, g, velocity, /, lr, momentum, nesterov: bool):
    v = momentum * velocity + lr * g
    step = momentum * v + lr * g if nesterov else v
    return p - step, flush(v)
