from ..numerics.elementary_element import double, magnitude, sign


def absolute_error(prediction, target, /, factor):
    d = prediction - target
    return double(magnitude(d)), factor * sign(d)
