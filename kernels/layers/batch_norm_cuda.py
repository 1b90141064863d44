def batch_norm_squares(x, shift):
    d = x - shift
    return d, d * d


def batch_norm_products(dy, x, mean):
    return dy, dy * (x - mean)


def batch_norm_forward(x, high, low, scale, bias):
    return ((x - high) - low) * scale + bias


def batch_norm_backward(dy, x, high, low, scale, share, slope):
    return ((dy - share) - ((x - high) - low) * slope) * scale


def batch_norm_scale(dy, scale):
    return dy * scale
