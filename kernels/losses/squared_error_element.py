from ..numerics.elementary_element import double


def squared_error(prediction, target, /, factor):
    d = prediction - target
    return double(d) * double(d), factor * d
