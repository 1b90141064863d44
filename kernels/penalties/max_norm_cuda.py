from ..numerics.elementary_element import one, sqrt


def max_norm_shrink(squares, size, step, radius):
    norm = sqrt(squares)
    return radius / norm if norm > radius else one(norm)
