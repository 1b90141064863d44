from ..numerics.elementary_element import flush, sqrt


def adagrad(p, g, sum, /, step_size, eps):
    s = sum + g * g
    return p - step_size * (g / (sqrt(s) + eps)), flush(s)


def adagrad_steps(sum, /, step_size, eps):
    return step_size / (sqrt(sum) + eps)
