"""What the tests of losses share: inputs, options, known values, and the reference of softmax cross-entropy."""

from __future__ import annotations

import math

import numpy as np

import pyopt
from pyopt.kernels.losses import LOSSES, softmax_cross_entropy
from pyopt.kernels.numerics import codecs, reductions
from support.helpers import tame

SIZES = (0, 1, 3, 17, 1000, 4097, 70_001)
SHAPES = (
    (0, 3),
    (1, 1),
    (5, 2),
    (700, 10),
    (3, 31),
    (3, 32),
    (3, 33),
    (65, 63),
    (65, 64),
    (9, 129),
    (40, 1000),
    (700, 1000),
    (4099, 9),
)
OPTIONS = {
    "absolute_error": [{}],
    "binary_cross_entropy": [{}],
    "focal": [{"alpha": 0.25, "gamma": 2.0}, {"alpha": None, "gamma": 0.0}, {"alpha": 0.7, "gamma": 0.6}],
    "hinge": [{}],
    "huber": [{"delta": 1.0}, {"delta": 0.3}],
    "poisson": [{}],
    "squared_error": [{}],
    "squared_hinge": [{}],
}
EXTREME = (np.inf, -np.inf, np.nan, -0.0, 1e4, -1e4)
LN2, LN3 = 0.6931471805599453, 1.0986122886681098
# name, prediction, target, options, value of the sum, gradient: computed by hand from the equations
KNOWN = [
    ("squared_error", [1.0, 5.0], [2.0, 2.0], {}, 10.0, [-2.0, 6.0]),
    ("squared_error", [1.0, 5.0], [2.0, 2.0], {"sample_weight": [3.0, 0.5]}, 7.5, [-6.0, 3.0]),
    ("absolute_error", [1.0, 5.0, 2.0], [2.0, 2.0, 2.0], {}, 4.0, [-1.0, 1.0, 0.0]),
    ("huber", [1.0, 5.0, -4.0], [2.0, 2.0, 2.0], {"delta": 2.0}, 0.5 + 4.0 + 10.0, [-1.0, 2.0, -2.0]),
    ("binary_cross_entropy", [0.0, LN3], [1.0, 0.0], {"pos_weight": 3.0}, 3 * LN2 + 2 * LN2, [-1.5, 0.75]),
    ("binary_cross_entropy", [LN3], [0.25], {}, 0.25 * (2 * LN2 - LN3) + 0.75 * 2 * LN2, [0.5]),
    ("focal", [LN3], [0.0], {"alpha": 0.2, "gamma": 2.0}, 0.8 * 0.5625 * 2 * LN2, [0.8 * 0.5625 * (LN2 + 0.75)]),
    ("focal", [LN3], [1.0], {"alpha": None, "gamma": 0.0}, 2 * LN2 - LN3, [-0.25]),
    ("hinge", [0.25, 2.0, 1.0, 1.0], [1.0, 1.0, -1.0, 1.0], {}, 2.75, [-1.0, 0.0, 1.0, 0.0]),
    ("squared_hinge", [0.25, 2.0, 1.0], [1.0, 1.0, -1.0], {}, 0.5625 + 4.0, [-1.5, 0.0, 4.0]),
    ("poisson", [LN3, 0.0], [2.0, 1.0], {}, 3.0 - 2 * LN3 + 1.0, [1.0, 0.0]),
    ("softmax_cross_entropy", [[0.0, LN3]], [1], {}, 2 * LN2 - LN3, [[0.25, -0.25]]),
    (
        "softmax_cross_entropy",
        [[0.0, LN3]],
        [1],
        {"label_smoothing": 0.5, "class_weights": [2.0, 4.0], "sample_weight": [2.0]},
        2 * (0.5 * 2 * LN2 + 3 * (2 * LN2 - LN3)),  # the target times the class weights is (0.25 * 2, 0.75 * 4)
        [[2 * (3.5 * 0.25 - 0.5), 2 * (3.5 * 0.75 - 3.0)]],
    ),
    ("softmax_cross_entropy", [[0.0, LN3]], [[0.5, 0.25]], {}, 0.5 * 2 * LN2 + 0.25 * (2 * LN2 - LN3), None),
]
INF = np.inf
SHARED = {"label_smoothing": 0.75, "class_weights": [0.0, 2.0, 4.0]}  # each class has a quarter of its weight
# name, prediction, target, options, values, gradient: the limits, with 0 log 0 = 0
AT_INFINITY = [
    ("softmax_cross_entropy", [[-INF, 0.0]], [[0.0, 1.0]], {}, [0.0], [[0.0, 0.0]]),
    ("softmax_cross_entropy", [[-INF, 0.0]], [[0.5, 0.5]], {"sample_weight": [2.0]}, [INF], [[-1.0, 1.0]]),
    ("softmax_cross_entropy", [[-INF, 0.0]], [[0.5, 0.5]], {"sample_weight": [0.0]}, [0.0], [[0.0, 0.0]]),
    ("softmax_cross_entropy", [[-INF, 0.0]], [0], {"sample_weight": [0.0], "label_smoothing": 0.5}, [0.0], [[0.0] * 2]),
    ("softmax_cross_entropy", [[-INF, 0.0]], [0], {"class_weights": [0.0, 3.0]}, [0.0], [[0.0, 0.0]]),
    (
        "softmax_cross_entropy",
        [[-INF, 0.0, LN3]] * 2,
        [0, 1],
        SHARED,
        [0.5 * 2 * LN2 + 2 * LN2 - LN3, 2 * LN2 + 2 * LN2 - LN3],
        [[0.0, 0.375 - 0.5, 1.125 - 1.0], [0.0, 0.5 - 1.0, 1.5 - 1.0]],
    ),
    ("softmax_cross_entropy", [[-INF, 0.0, LN3]], [[1.0, 0.0, 0.0]], SHARED, [3 * LN2 - LN3], [[0.0, -0.125, 0.125]]),
    (
        "binary_cross_entropy",
        [-INF, INF, -INF, INF],
        [0.0, 1.0, 1.0, 0.0],
        {"pos_weight": 3.0},
        [0.0, 0.0, INF, INF],
        [0.0, 0.0, -3.0, 1.0],
    ),
    ("binary_cross_entropy", [-INF], [1.0], {"pos_weight": 0.0}, [0.0], [0.0]),
    ("poisson", [-INF, -INF, INF], [0.0, 2.0, 0.0], {}, [0.0, INF, INF], [0.0, -2.0, INF]),
    *(
        ("focal", [INF, -INF, INF, -INF], [1.0, 0.0, 0.0, 1.0], {"alpha": 0.25, "gamma": gamma},
         [0.0, 0.0, INF, INF], [0.0, 0.0, 0.75, -0.25])
        for gamma in (0.0, 1.5)
    ),
    ("focal", [-INF, INF], [1.0, 0.0], {"alpha": 0.0, "gamma": 1.5}, [0.0, INF], [0.0, 1.0]),
]  # fmt: skip


def call(name, *args, **options):
    """Call a loss by its name."""
    return getattr(pyopt.losses, name)(*args, **options)


def labels(rows, classes, seed=1):
    """Return random labels."""
    return np.random.default_rng(seed).integers(0, classes, rows)


def inputs(name, n, dtype, make=tame):
    """Return a prediction and a target that the loss takes."""
    known = getattr(LOSSES[name], "LABELS", None)
    target = np.random.default_rng(2).choice(known, n).astype(dtype) if known else make(n, dtype, 2)
    if name == "binary_cross_entropy" and make is tame:
        target = np.abs(target) % dtype(1)
    return (make(n, dtype, 1) * dtype(3) if make is tame else make(n, dtype, 1)), target


def hard_logits(shape, dtype):
    """Return logits with rows of every kind: ordinary, far apart, equal, and with special numbers."""
    z = tame(shape, dtype) * dtype(3)
    for i, special in enumerate(EXTREME[: shape[0] // 2]):
        z[2 * i, i % shape[1]] = special
    if shape[0] > 20:
        z[13], z[15], z[17] = -np.inf, 1e4, tame(shape[1], dtype) * dtype(60)
        nan = np.array([0xFFC00001], np.uint32).view(np.float32)[0]  # negative, with a payload
        z[19, 0] = nan
    return z


def softmax_reference(z, target, reduction, label_smoothing=0.0, class_weights=None, ignore_index=-100,
                      sample_weight=None):  # fmt: skip
    """Return value and gradient of softmax cross-entropy by its reference."""
    (rows, classes), dtype = z.shape, np.dtype(codecs.compute(z.dtype))
    wide = np.ones(classes) if class_weights is None else class_weights.astype(np.float64)
    weight = np.ones(rows, dtype) if sample_weight is None else sample_weight
    keep, share = (1.0 - label_smoothing) * wide, (label_smoothing / classes * wide).astype(dtype)
    count = 1.0
    if reduction == "mean" and target.ndim == 2:
        count = float(rows)
    elif reduction == "mean":
        count = math.fsum(np.bincount(target[target != ignore_index], minlength=classes) * wide)
    with np.errstate(all="ignore"):
        if target.ndim == 2:
            made = softmax_cross_entropy.reference_soft(
                z, target, weight, keep.astype(dtype), share, dtype.type(1 / count)
            )
        else:
            known = np.where(target == ignore_index, -1, target)
            hot = np.where(known < 0, 0.0, keep[known] * weight).astype(dtype)
            scalars = dtype.type(1 / count), dtype.type(math.fsum(share)), label_smoothing > 0
            made = softmax_cross_entropy.reference(z, known, hot, weight, share, *scalars)
        terms, gradient = made
        value = codecs.encode(terms, z.dtype) if reduction == "none" else np.float64(reductions.tree_sum(terms)) / count
    return value, gradient
