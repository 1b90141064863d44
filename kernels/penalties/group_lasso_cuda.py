from ..numerics.elementary_element import one, sqrt, zero


def group_lasso_slope(squares, size, alpha):
    return alpha * sqrt(size) / sqrt(squares) if squares > zero(squares) else zero(squares)


def group_lasso_shrink(squares, size, step, alpha):
    threshold = step * alpha * sqrt(size)
    norm = sqrt(squares)
    return zero(norm) if norm <= threshold else one(norm) - threshold / norm
