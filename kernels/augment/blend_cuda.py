def blend(images, pool, partners, weights, boxes, n, c, y, x):
    """Return pixel (n, c, y, x) of the result, before it is rounded to the dtype of the images."""
    weight, other = weights[n, 0], weights[n, 1]
    real = type(weight)
    a, b = real(images[n, c, y, x]), real(pool[partners[n], c, y, x])
    if boxes[n, 0] <= y < boxes[n, 2] and boxes[n, 1] <= x < boxes[n, 3]:
        return b
    return a if weight == real(1) else a * weight + b * other
