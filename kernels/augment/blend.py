"""Blend: each image with a partner, by weights (mixup), or by a box of the partner put into it (cutmix).

out = weight * image + other_weight * partner, and inside the box of the sample, (top, left, bottom, right), the
partner alone. A sample with weight 1 and an empty box is copied, whatever the partner holds.

Computed in the dtype of the images, uint8 in float32 and rounded to nearest, halves up, after a clamp to [0, 255].

Ranges: images uint8, float32 or float64, C-contiguous; partners (samples,) in [0, samples); weights (samples, 2);
boxes (samples, 4). TypeError or ValueError else.
Deviations: cutmix takes a partner for each sample, where the papers take a permutation of the batch.
Source: H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", 2018,
https://arxiv.org/abs/1710.09412; S. Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
Localizable Features", 2019, https://arxiv.org/abs/1905.04899

>>> import numpy as np, pyopt
>>> images = np.array([1.0, 5.0], np.float32).reshape(2, 1, 1, 1)
>>> print(pyopt.augment.blend(images, partners=[1, 0], weights=[0.75, 1.0]).ravel())
[2. 5.]
"""

import numpy as np

from ..cpu import engine, isa
from .warp import stored


def reference(images, pool, partners, weights, boxes):
    out = images.copy()
    with np.errstate(all="ignore"):
        for n, (weight, other) in enumerate(weights):
            a, b = images[n].astype(weights.dtype), pool[partners[n]].astype(weights.dtype)
            if weight != 1:
                out[n] = stored(a * weight + b * other, images.dtype)
            top, left, bottom, right = boxes[n]
            out[n, :, top:bottom, left:right] = pool[partners[n], :, top:bottom, left:right]
    return out


def compute(images, pool, partners, weights, boxes, out, channels_last):
    samples, *shape = images.shape
    height, width, channels = shape if channels_last else (shape[1], shape[2], shape[0])
    size = height * width * channels
    row = size * images.itemsize
    strides = (row, 0, 8, 2 * weights.itemsize, 16, row)
    name = "augment.blend_bytes" if images.dtype == np.uint8 else "augment.blend"
    arrays, sizes = (images, pool, partners, weights, boxes, out), (samples, size, channels, height, width)
    engine.sweep(isa.tiles(), name, arrays, strides, (*sizes, channels_last))
