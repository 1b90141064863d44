"""Warp: an affine map of each image with bilinear sampling, then contrast, brightness and a box cut out, in one pass.

.. math::

    u &= m_0 x + (m_1 y + m_2)

    v &= m_3 x + (m_4 y + m_5)

    z &= lerp(lerp(I_{j,i}, I_{j,i+1}, u - i), lerp(I_{j+1,i}, I_{j+1,i+1}, u - i), v - j), i = floor(u), j = floor(v)

    out_{y,x} &= z * gain + shift

with lerp(a, b, t) = a + t * (b - a), m the sample's row of ``matrices`` and (gain, shift) its row of ``colours``. The
map goes from the output's pixels to the input's, both counted from 0 in their centres: (x, y) = (0, 0) is the centre
of the first pixel, as in scipy.ndimage, where the matrix is that of (y, x). It is the geometry of grid_sample in torch
with align_corners=False. Beyond the image lies what gain and shift make ``fill`` of, a number for each channel; with
``edge``, the nearest pixel.
The box of a sample, (top, left, bottom, right) in its row of ``boxes``, becomes ``fill`` after everything else.

Computed in the dtype of the images, uint8 in float32; to uint8 it is rounded to nearest, halves up, after a clamp to
[0, 255]. u and v are clamped to two pixels around the image before the floor. All of it is + - * floor and selects, so
that the bits are the same everywhere, given the matrices.

Ranges: images uint8, float32 or float64, C-contiguous, height and width below 2^24, fewer than 2^31 elements a sample;
matrices (samples, 6) with entries below 1e9 in size; colours (samples, 2), fill (channels,), all finite, gain > 0;
boxes (samples, 4). TypeError or ValueError else.
Deviations: a pixel of weight 0 counts, as in torch: inf or NaN in it gives NaN; -0 becomes 0. No borders that reflect
or wrap: ``np.pad`` makes them, before a ``crop`` or a warp.
Source: G. Wolberg, "Digital Image Warping", IEEE Computer Society Press 1990,
https://www.worldcat.org/isbn/0818689447

>>> import numpy as np, pyopt
>>> image = np.array([[1.0, 2.0, 4.0]], np.float32).reshape(1, 1, 1, 3)
>>> half_a_pixel = np.array([[[1, 0, 0.5], [0, 1, 0]]])
>>> print(pyopt.augment.affine_warp(image, half_a_pixel).ravel())
[1.5 3.  2. ]
"""

import numpy as np

from ..cpu import engine, isa


def reference(images, matrices, colours, boxes, fill, out_height, out_width, edge):
    samples, channels, height, width = images.shape
    real = matrices.dtype.type
    out = np.empty((samples, channels, out_height, out_width), images.dtype)
    x, y = np.arange(out_width, dtype=real), np.arange(out_height, dtype=real)[:, None]
    with np.errstate(all="ignore"):
        for n in range(samples):
            m0, m1, m2, m3, m4, m5 = matrices[n]
            i, s = _cell(m0 * x + (m1 * y + m2), real, width)
            j, t = _cell(m3 * x + (m4 * y + m5), real, height)
            gain, shift = colours[n]
            for c in range(channels):
                beyond = (fill[c] - shift) / gain
                a, b = (_pixel(images[n, c], beyond, j, k, edge) for k in (i, i + 1))
                d, e = (_pixel(images[n, c], beyond, j + 1, k, edge) for k in (i, i + 1))
                top, bottom = a + s * (b - a), d + s * (e - d)
                z = (top + t * (bottom - top)) * gain + shift
                out[n, c] = stored(z, images.dtype)
                top, left, bottom, right = boxes[n]
                out[n, c, top:bottom, left:right] = stored(fill[c], images.dtype)
    return out


def stored(z, dtype):
    """Return z as images of ``dtype`` hold it."""
    if dtype != np.uint8:
        return z
    z = np.where(z > 0, z, z.dtype.type(0))
    z = np.where(z < 255, z, z.dtype.type(255))
    return (z + z.dtype.type(0.5)).astype(np.uint8)


def _cell(u, real, size):
    """Return floor(u) as integers and the rest, of u clamped to two pixels around the image."""
    low, high = real(-2), real(size + 1)
    u = np.where(u > low, u, low)
    u = np.where(u < high, u, high)
    i = np.floor(u)
    return i.astype(np.int64), u - i


def _pixel(plane, fill, j, i, edge):
    height, width = plane.shape
    p = plane[np.clip(j, 0, height - 1), np.clip(i, 0, width - 1)].astype(fill.dtype)
    return p if edge else np.where((j >= 0) & (j < height) & (i >= 0) & (i < width), p, fill)


def compute(images, matrices, colours, boxes, fill, out, channels_last, edge):
    samples, *shape = images.shape
    height, width, channels = shape if channels_last else (shape[1], shape[2], shape[0])
    out_height, out_width = out.shape[1:3] if channels_last else out.shape[2:4]
    row, size = images.itemsize, out.size // max(1, samples)
    strides = (height * width * channels * row, 6 * matrices.itemsize, 2 * colours.itemsize, 16, 0, size * row)
    sizes = (samples, size, channels, height, width, out_height, out_width, channels_last, edge)
    name = "augment.warp_bytes" if images.dtype == np.uint8 else "augment.warp"
    engine.sweep(isa.tiles(), name, (images, matrices, colours, boxes, fill, out), strides, sizes)
