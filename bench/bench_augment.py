"""Flip, crop, rotation and scaling of a batch of images, as one affine map with bilinear sampling."""

import numpy as np

import pyopt
from pyopt.augment.images import matrices
from pyopt.kernels.augment import warp
from pyopt.kernels.cpu import isa

from .harness import Contender, faster, race
from .steps import TOLERANCE, error
from .torch_steps import torch

try:
    from scipy import ndimage
except ImportError:
    ndimage = None
try:
    import cv2
except ImportError:
    cv2 = None
try:
    from PIL import Image
except ImportError:
    Image = None

SHAPE = (1024, 3, 64, 64)
BAR = [faster("scipy", 5.0), faster("torch", 1.0)]


def bench_affine_warp(benchmark):
    rng = np.random.default_rng(0)
    images = rng.random(SHAPE, dtype=np.float32)
    maps = some_maps(rng)
    out = np.empty_like(images)
    contenders = [
        Contender("pyopt", lambda: pyopt.augment.affine_warp(images, maps, out=out), 8, result="bits"),
        *in_torch(images, maps),
        *in_scipy(images, maps),
        *in_opencv(images, maps),
        *in_pillow(images, maps),
        Contender("reference", lambda: by_reference(images, maps), result="bits"),
    ]
    errors = check(contenders, images, maps)
    title = f"affine warp, {SHAPE[0]} images of {SHAPE[1]} x {SHAPE[2]} x {SHAPE[3]}"
    race(benchmark, title, contenders, BAR, 9, images.size, errors, isa=isa.active(), threads=pyopt.get_num_threads())


def some_maps(rng):
    """Return a map for each image: a flip or none, a crop of the image padded by 4, 15 degrees, a tenth in size."""
    n, size = SHAPE[0], SHAPE[2:]
    moves = rng.integers(-4, 5, (2, n))
    angle, factor = np.deg2rad(rng.uniform(-15, 15, n)), rng.uniform(0.9, 1.1, n)
    return matrices(size, size, n, rng.random(n) < 0.5, False, *moves, angle, factor).reshape(n, 2, 3)


def by_reference(images, maps):
    n, channels, height, width = images.shape
    colours, boxes = np.tile(np.array([1, 0], images.dtype), (n, 1)), np.zeros((n, 4), np.int32)
    rows, fill = maps.reshape(n, 6).astype(images.dtype), np.zeros(channels, images.dtype)
    return warp.reference(images, rows, colours, boxes, fill, height, width, False)


def in_torch(images, maps):
    """Return the grid and its sampling, in coordinates where -1 and 1 are the outer edges of the image."""
    if torch is None:
        return []
    n, size = len(images), SHAPE[3]
    to = np.array([[2 / size, 0, 1 / size - 1], [0, 2 / size, 1 / size - 1], [0, 0, 1]])
    full = np.concatenate([maps, np.tile([[[0, 0, 1]]], (n, 1, 1))], 1)
    theta = torch.from_numpy((to @ full @ np.linalg.inv(to))[:, :2].astype(np.float32))
    x = torch.from_numpy(images)

    def call():
        grid = torch.nn.functional.affine_grid(theta, SHAPE, align_corners=False)
        return torch.nn.functional.grid_sample(x, grid, align_corners=False).numpy()

    return [Contender("torch", call)]


def in_scipy(images, maps):
    """Return a plane at a time; its grid-constant mode blends with what lies beyond the image."""
    if ndimage is None:
        return []
    out = np.empty_like(images)

    def call():
        for image, m, result in zip(images, maps, out, strict=True):
            for plane, target in zip(image, result, strict=True):
                a, offset = m[::-1, 1::-1], m[::-1, 2]
                ndimage.affine_transform(plane, a, offset, output=target, order=1, mode="grid-constant")
        return out

    return [Contender("scipy", call)]


def in_opencv(images, maps):
    """Return an image at a time, its channels innermost; it may round coordinates to parts of a pixel."""
    if cv2 is None:
        return []
    pictures, size = images.transpose(0, 2, 3, 1).copy(), SHAPE[:1:-1]
    out, flags = np.empty_like(pictures), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def call():
        for picture, m, target in zip(pictures, maps, out, strict=True):
            cv2.warpAffine(picture, m, size, target, flags, cv2.BORDER_CONSTANT)
        return out.transpose(0, 3, 1, 2)

    return [Contender("opencv", call, result="near")]


def in_pillow(images, maps):
    """Return a plane at a time; pixels that would blend with what lies beyond the image are taken from its edge."""
    if Image is None:
        return []
    corner = maps.copy()  # from corner to corner of the image, not from centre to centre of its first pixel
    corner[:, :, 2] += 0.5 - 0.5 * maps[:, :, :2].sum(axis=2)
    planes, out = [[Image.fromarray(plane) for plane in image] for image in images], np.empty_like(images)
    how = SHAPE[:1:-1], Image.Transform.AFFINE

    def call():
        for image, m, result in zip(planes, corner, out, strict=True):
            for plane, target in zip(image, result, strict=True):
                target[...] = plane.transform(*how, m.ravel().tolist(), Image.Resampling.BILINEAR)
        return out

    return [Contender("pillow", call, result="near")]


def check(contenders, images, maps):
    """Compare the results with the reference's bits and with float64, in eps of a coordinate of 64 pixels."""
    want, exact = by_reference(images, maps), by_reference(images.astype(np.float64), maps)
    errors = {}
    for c in contenders:
        got = c.call()
        errors[c.name] = error(got, exact) / SHAPE[2]
        if c.result == "near":
            assert np.abs(got - exact).mean() < 0.02, f"{c.name} does something else"
            continue
        assert errors[c.name] <= TOLERANCE, f"{c.name} is off by {errors[c.name]:.3g} eps"
        assert c.result != "bits" or np.array_equal(got, want), f"{c.name} differs from the reference"
    return errors
