from ..numerics.elementary_element import double, exp, log


def exponential(logit, top):
    return exp(logit - top)


def smoothed(share, logit, top):
    return share * (logit - top)


def soft_target(target, keep, share):
    return target * keep + share


def mass(hot, weight, share_sum):
    return hot + weight * share_sum


def gap(hot, logit, top):
    return double(hot) * (double(logit) - double(top))


def term(mass, total, gap, weight, dot):
    return double(mass) * log(double(total)) - (gap + double(weight) * double(dot))


def soft_term(mass, total, weight, dot):
    return double(weight) * (double(mass) * log(double(total)) - double(dot))


def scale(factor, mass, total):
    return (factor * mass) / total


def slope(exponential, scale, factor, weight, share):
    return exponential * scale - factor * weight * share


def label_slope(slope, factor, hot):
    return slope - factor * hot
