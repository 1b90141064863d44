from ..numerics.elementary_element import floor


def warp(images, matrices, colours, boxes, fill, edge, n, c, y, x):
    """Return pixel (n, c, y, x) of the result, before it is rounded to the dtype of the images."""
    height, width = images.shape[2], images.shape[3]
    real = type(fill[c])
    if boxes[n, 0] <= y < boxes[n, 2] and boxes[n, 1] <= x < boxes[n, 3]:
        return fill[c]
    u = matrices[n, 0] * real(x) + (matrices[n, 1] * real(y) + matrices[n, 2])
    v = matrices[n, 3] * real(x) + (matrices[n, 4] * real(y) + matrices[n, 5])
    u, v = clamped(u, real(-2), real(width + 1)), clamped(v, real(-2), real(height + 1))
    i, j = floor(u), floor(v)
    s, t = u - i, v - j
    left, top = int(i), int(j)
    beyond = (fill[c] - colours[n, 1]) / colours[n, 0]
    a = pixel(images, beyond, edge, n, c, top, left)
    b = pixel(images, beyond, edge, n, c, top, left + 1)
    d = pixel(images, beyond, edge, n, c, top + 1, left)
    e = pixel(images, beyond, edge, n, c, top + 1, left + 1)
    upper, lower = a + s * (b - a), d + s * (e - d)
    return (upper + t * (lower - upper)) * colours[n, 0] + colours[n, 1]


def clamped(u, low, high):
    u = u if u > low else low
    return u if u < high else high


def pixel(images, beyond, edge, n, c, j, i):
    height, width = images.shape[2], images.shape[3]
    if not edge and (j < 0 or j >= height or i < 0 or i >= width):
        return beyond
    j = 0 if j < 0 else height - 1 if j >= height else j
    i = 0 if i < 0 else width - 1 if i >= width else i
    return type(beyond)(images[n, c, j, i])
