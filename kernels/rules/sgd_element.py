from ..numerics.elementary_element import flush


def sgd(p, g, momentum_buffer, /, lr, momentum, one_minus_dampening, nesterov: bool):
    if momentum_buffer is None:
        return p - lr * g, None
    b = momentum * momentum_buffer + one_minus_dampening * g
    step = g + momentum * b if nesterov else b
    return p - lr * step, flush(b)
