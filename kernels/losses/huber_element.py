from ..numerics.elementary_element import double, magnitude


def huber(prediction, target, /, factor, delta, half):
    d = prediction - target
    a = magnitude(d)
    c = delta if a > delta else a
    slope = -delta if d < -delta else d
    slope = delta if slope > delta else slope
    return double(c) * (double(a) - double(half) * double(c)), factor * slope
