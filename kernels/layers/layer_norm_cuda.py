def layer_norm_forward(x, high, low, scale, weight, bias):
    return (((x - high) - low) * scale) * weight + bias


def layer_norm_backward(dy, x, weight, high, low, scale, share, slope):
    return ((dy * weight - share) - ((x - high) - low) * slope) * scale
