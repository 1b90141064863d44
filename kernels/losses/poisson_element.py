from ..numerics.elementary_element import double, exp_any


def poisson(log_rate, target, /, factor):
    e = exp_any(log_rate)
    return double(e) - double(target) * double(log_rate), factor * (e - target)
