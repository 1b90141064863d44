from ..numerics.elementary_element import double, exp_any, weighted


def poisson(log_rate, target, /, factor):
    e = exp_any(log_rate)
    return double(e) - weighted(double(target), double(log_rate)), factor * (e - target)
