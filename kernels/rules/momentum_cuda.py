from ..numerics_element import flush


def momentum(p, g, velocity, lr, momentum, nesterov):
    v = momentum * velocity + lr * g
    step = momentum * v + lr * g if nesterov > 0 else v
    return p - step, flush(v)
