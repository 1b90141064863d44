from ..numerics.elementary_element import flush, relu, sqrt


def rmsprop(p, g, square_avg, grad_avg, momentum_buffer, /, lr, alpha, one_minus_alpha, eps, momentum):
    v = alpha * square_avg + one_minus_alpha * (g * g)
    if grad_avg is None:
        m = None
        direction = g / (sqrt(v) + eps)
    else:
        centre = grad_avg + one_minus_alpha * (g - grad_avg)
        m = flush(centre)
        direction = g / (sqrt(relu(v - centre * centre)) + eps)
    if momentum_buffer is None:
        return p - lr * direction, flush(v), m, None
    b = momentum * momentum_buffer + direction
    return p - lr * b, flush(v), m, flush(b)


def rmsprop_steps(square_avg, grad_avg, /, eps, step):
    if grad_avg is None:
        return step / (sqrt(square_avg) + eps)
    return step / (sqrt(relu(square_avg - grad_avg * grad_avg)) + eps)
