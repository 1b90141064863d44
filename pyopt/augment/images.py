"""Augmentation of images: batches as NHWC or NCHW arrays of uint8, float32 or float64, multi-threaded.

The random numbers of a sample depend on the seed, the step and the number of the sample only. They, the sine and the
cosine of an angle and the matrices are computed in float64 on the host, once per sample; from the matrices on, the
bits are those of the reference on every instruction set and with any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..kernels.augment import AUGMENT
from ..kernels.hyper import Hyper
from ..validate import natural, one_of
from . import _draw
from ._batch import BORDERS, LAYOUTS, SIDE, Batch, array

LIMIT = 1e9  # of an entry of a matrix: no coordinate overflows


def affine_warp(images: Array, matrices: Any, *, size: tuple[int, int] | None = None, fill: Any = 0.0,
                border: str = "constant", layout: str | None = None, out: Array | None = None) -> Array:  # fmt: skip
    """Return each image under an affine map, sampled bilinearly.

    Parameters
    ----------
    images : array of shape (N, C, H, W), or (N, H, W, C) with ``layout="NHWC"``; uint8, float32 or float64
        C-contiguous, height and width below 2^24. Without ``layout`` what looks like (N, H, W, C) is an error: give
        "NCHW" where images of a width of 1, 3 or 4 are meant.
    matrices : array of shape (N, 2, 3), or (2, 3) for all samples
        From the output's (x, y, 1) to the input's (x, y), both counted in pixels from the centre of the first one;
        entries below 1e9 in size.
    size : (height, width) of the result; that of the images where it is None
    fill : number, or one for each channel
        What lies beyond the image with ``border="constant"``.
    border : "constant", or "edge" for the nearest pixel
        Borders that reflect or wrap are not offered: ``np.pad`` makes them before.
    out : array for the result, which must not share memory with ``images``

    Returns
    -------
    array of the dtype and layout of ``images``; uint8 is rounded to nearest, halves up.

    Raises
    ------
    TypeError, ValueError
        Before anything is touched, where an argument does not fit.

    See ``pyopt.kernels.augment.warp`` for the equations.
    """
    batch = Batch(images, layout)
    one_of("border", border, BORDERS)
    maps = batch.rows("matrices", matrices, (2, 3)).reshape(-1, 6)
    if (np.abs(maps) >= LIMIT).any():
        raise ValueError(f"matrices holds {np.abs(maps).max():g}: entries must be below {LIMIT:g} in size")
    filling, result = batch.fill(fill), batch.result(out, _size(size))
    return _warp(batch, maps, None, None, filling, result, border)


def flip(images: Array, horizontal: Any = True, vertical: Any = False, *, layout: str | None = None,
         out: Array | None = None) -> Array:  # fmt: skip
    """Return images flipped left to right, and upside down; each a flag, or one for each sample.

    See ``affine_warp`` for the other arguments and the errors.
    """
    batch = Batch(images, layout)
    flags = [_flags(batch, name, given) for name, given in (("horizontal", horizontal), ("vertical", vertical))]
    maps = matrices(batch.size, batch.size, len(images), flags[0], flags[1])
    return _warp(batch, maps.astype(batch.real), None, None, batch.fill(0), batch.result(out), "constant")


def crop(images: Array, top: Any, left: Any, height: int, width: int, *, fill: Any = 0.0, border: str = "constant",
         layout: str | None = None, out: Array | None = None) -> Array:  # fmt: skip
    """Return a window of each image, also beyond it.

    Parameters
    ----------
    top, left : integer below 2^24 in size, or one for each sample
        The window's first pixel, counted from that of the image.
    height, width : integers in [0, 2^24)

    See ``affine_warp`` for the other arguments and the errors.
    """
    batch = Batch(images, layout)
    one_of("border", border, BORDERS)
    maps = np.tile(np.eye(2, 3), (len(images), 1, 1))
    maps[:, 0, 2], maps[:, 1, 2] = batch.integers("left", left), batch.integers("top", top)
    if (np.abs(maps) >= 1 << SIDE).any():
        raise ValueError(f"top or left is {np.abs(maps).max():g}: must be below 2^24 in size")
    size = natural("height", height, SIDE), natural("width", width, SIDE)
    filling, result = batch.fill(fill), batch.result(out, size)
    return _warp(batch, maps.reshape(-1, 6).astype(batch.real), None, None, filling, result, border)


def blend(images: Array, partners: Any, weights: Any = 1.0, boxes: Any = None, *, layout: str | None = None,
          out: Array | None = None) -> Array:  # fmt: skip
    """Return weight * image + (1 - weight) * partner, and inside its box the partner alone.

    Parameters
    ----------
    partners : integers in [0, N), one for each sample
        Which image of the batch it is blended with.
    weights : number in [0, 1], or one for each sample
    boxes : integers (N, 4), or (4,) for all samples: top, left, bottom, right, clipped to the image; None for no boxes

    See ``affine_warp`` for the other arguments and the errors, ``pyopt.kernels.augment.blend`` for the equations.
    """
    batch = Batch(images, layout)
    which = batch.integers("partners", partners)
    if ((which < 0) | (which >= len(images))).any():
        raise ValueError(f"partners holds {which.min()} to {which.max()}: must be in [0, {len(images)})")
    weight = array("weights", weights, "iuf", "numbers in [0, 1]").astype(np.float64)
    if not ((weight >= 0) & (weight <= 1)).all():
        raise ValueError(f"weights={weights!r}: must be in [0, 1]")
    mine, other = batch.rows("weights", weight, ()), batch.rows("weights", 1 - weight, ())
    return _blend(batch, which, np.stack([mine, other], 1), batch.boxes(boxes), batch.result(out))


@dataclass(frozen=True)
class Images:
    """A random augmentation of a batch: one pass of warp, colours and cutout, and one of mixup or cutmix.

    Parameters
    ----------
    flip, vertical_flip : probability in [0, 1]
    crop_padding : pixels >= 0
        The window is moved by up to so many pixels beyond the image.
    rotate : degrees in [0, 180]
        The angle is uniform in [-rotate, rotate], counterclockwise, about the centre.
    scale : (low, high), both > 0
        The factor is uniform in it; 2 shows half of the image at twice its size.
    cutout : side >= 0 of a square set to ``fill``, its centre anywhere in the image, clipped to it
    brightness : in [0, 1]
        A part in [-brightness, brightness] of the range is added: 255 for uint8, and 1 for floats, which are taken to
        lie in [0, 1] (divide those in [0, 255] first). ``fill`` stays what it is.
    contrast : in [0, 1)
        Distances from the middle of the range are multiplied by a factor in [1 - contrast, 1 + contrast]. Floats are
        not clipped, uint8 is.
    mixup, cutmix : alpha >= 0 of Beta(alpha, alpha), 0 for neither; with both, each sample takes one of the two
    fill, border, layout : as in ``affine_warp``
    size : (height, width) of the result: a random window of the image; None for that of the images
    num_classes : number of classes, needed for integer labels with mixup or cutmix

    Raises
    ------
    TypeError, ValueError
        Where a value is out of range.

    >>> import numpy as np, pyopt
    >>> augment = pyopt.augment.Images(flip=0.5, crop_padding=4, rotate=15.0, mixup=0.2, num_classes=10)
    >>> images, labels = augment(np.zeros((8, 3, 32, 32), np.uint8), np.arange(8), seed=1, step=0)
    >>> images.shape, labels.shape
    ((8, 3, 32, 32), (8, 10))
    """

    flip: float = 0.0
    vertical_flip: float = 0.0
    crop_padding: int = 0
    rotate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    cutout: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    fill: Any = 0.0
    border: str = "constant"
    layout: str | None = None
    size: tuple[int, int] | None = None
    num_classes: int | None = None

    def __post_init__(self) -> None:
        for name, high, closed in (
            ("flip", 1.0, True), ("vertical_flip", 1.0, True), ("rotate", 180.0, True), ("brightness", 1.0, True),
            ("contrast", 1.0, False), ("mixup", np.inf, False), ("cutmix", np.inf, False),
        ):  # fmt: skip
            Hyper(name, 0.0, high=high, closed=closed).check(getattr(self, name))
        low, high = Hyper("scale", (1.0, 1.0)).check(self.scale)
        if not 1e-6 <= low <= high:
            raise ValueError(f"scale={self.scale!r}: must be (low, high) with 1e-6 <= low <= high")
        natural("crop_padding", self.crop_padding, SIDE)
        natural("cutout", self.cutout, SIDE)
        one_of("border", self.border, BORDERS)
        if self.layout is not None:
            one_of("layout", self.layout, LAYOUTS)
        _size(self.size)
        if self.num_classes is not None and natural("num_classes", self.num_classes) == 0:
            raise ValueError("num_classes=0: must be at least 1")

    def __call__(
        self, images: Array, labels: Any = None, *, seed: int, step: int = 0, index: Any = None
    ) -> tuple[Array, Any]:
        """Return augmented images, and their labels; see ``affine_warp`` for the images and the errors.

        ``seed`` in [0, 2^64) and ``step`` in [0, 2^32), for instance the epoch, choose the random numbers, together
        with ``index``, the numbers >= 0 of the samples in the data set (None: their places in the batch). With mixup
        or cutmix, labels are needed: integers of shape (N,) or weights (N, classes); float32 weights are returned,
        float64 for those. The partner of a sample is any sample of the batch. Else labels are returned as they are.
        """
        batch = Batch(images, self.layout)
        draws = _draw.Draws(natural("seed", seed, 64), natural("step", step, 32), _draw.numbers(index, len(images)))
        fill, out_size = batch.fill(self.fill), _size(self.size) or batch.size
        spare = [n + 2 * self.crop_padding - m for n, m in zip(batch.size, out_size, strict=True)]
        if min(spare) < 0:
            raise ValueError(f"size={self.size!r}: must fit in the image of {batch.size} and crop_padding")
        mixes = self.mixup > 0 or self.cutmix > 0
        weights = _one_hot(labels, len(images), self.num_classes) if mixes else labels
        if self._warps():
            maps, colours = self._maps(batch, out_size, spare, draws), self._colours(batch, draws)
            boxes = _draw.boxes(draws("cut_y"), draws("cut_x"), out_size, float(self.cutout))
            images = _warp(batch, maps, colours, boxes, fill, batch.result(None, out_size), self.border)
        else:
            images = images.copy()
        if not mixes or not len(images):
            return images, weights
        batch = Batch(images, batch.layout)
        partners, kept, boxes = _draw.mixes(draws, self.mixup, self.cutmix, batch.size)
        own = np.where(boxes[:, 3] > boxes[:, 1], 1.0, kept)  # the box does it
        pairs = np.stack([own, 1 - own], 1).astype(batch.real)
        images = _blend(batch, partners, pairs, boxes, batch.result(None))
        part = kept.astype(weights.dtype)[:, None]
        return images, part * weights + (1 - kept).astype(weights.dtype)[:, None] * weights[partners]

    def _warps(self) -> bool:
        """Whether anything is asked for but mixup and cutmix."""
        numbers = (self.flip, self.vertical_flip, self.crop_padding, self.rotate, self.cutout, self.brightness)
        return any(numbers) or self.contrast > 0 or tuple(self.scale) != (1, 1) or self.size is not None

    def _maps(self, batch: Batch, out_size: tuple[int, int], spare: list[int], draws: _draw.Draws) -> Array:
        dy, dx = (
            np.floor(draws(f"d{axis}") * (n + 1)) - self.crop_padding for axis, n in zip("yx", spare, strict=True)
        )
        angle = np.deg2rad(self.rotate * (2 * draws("angle") - 1))
        low, high = self.scale
        factor = low + (high - low) * draws("scale")
        flips = draws("flip") < self.flip, draws("vertical_flip") < self.vertical_flip
        maps = matrices(batch.size, out_size, len(angle), *flips, dy, dx, angle, factor)
        return maps.astype(batch.real)

    def _colours(self, batch: Batch, draws: _draw.Draws) -> Array:
        span = 255.0 if batch.images.dtype == np.uint8 else 1.0
        gain = 1 + self.contrast * (2 * draws("contrast") - 1)
        shift = span / 2 * (1 - gain) + span * self.brightness * (2 * draws("brightness") - 1)
        return np.stack([gain, shift], 1).astype(batch.real)


def matrices(size: tuple[int, int], out_size: tuple[int, int], samples: int, horizontal: Any, vertical: Any,
             dy: Any = 0.0, dx: Any = 0.0, angle: Any = 0.0, factor: Any = 1.0) -> Array:  # fmt: skip
    """Return (samples, 6) float64 maps from output to input: scale and turn about the centre, move, flip."""
    (height, width), (y, x) = size, ((n - 1) / 2 for n in out_size)
    angle, factor = np.broadcast_to(angle, samples), np.broadcast_to(factor, samples)
    c, s = np.cos(angle) / factor, np.sin(angle) / factor
    across, down = (c, -s, x - c * x + s * y + dx), (s, c, y - s * x - c * y + dy)
    u = [np.where(horizontal, last - a, a) for a, last in zip(across, (0, 0, width - 1), strict=True)]
    v = [np.where(vertical, last - a, a) for a, last in zip(down, (0, 0, height - 1), strict=True)]
    return np.stack([*u, *v], 1)


def _warp(batch: Batch, maps: Array, colours: Any, boxes: Any, fill: Array, out: Array, border: str) -> Array:
    """Run the kernel on checked arguments."""
    n = len(batch.images)
    colours = np.tile(np.array([1, 0], batch.real), (n, 1)) if colours is None else colours
    boxes = np.zeros((n, 4), np.int32) if boxes is None else boxes
    if out.size:
        AUGMENT["warp"].compute(batch.images, maps, colours, boxes, fill, out, batch.last, border == "edge")
    return out


def _blend(batch: Batch, partners: Array, weights: Array, boxes: Array, out: Array) -> Array:
    AUGMENT["blend"].compute(batch.images, batch.images, partners, weights, boxes, out, batch.last)
    return out


def _flags(batch: Batch, name: str, given: Any) -> Array:
    flags = array(name, given, "b", "True or False, or one for each sample")
    if flags.shape not in ((), (len(batch.images),)):
        raise ValueError(f"{name} has shape {flags.shape}: must be () or ({len(batch.images)},)")
    return np.broadcast_to(flags, len(batch.images))


def _size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size={size!r}: must be (height, width) or None")
    return natural("size[0]", size[0], SIDE), natural("size[1]", size[1], SIDE)


def _one_hot(labels: Any, samples: int, classes: int | None) -> Array:
    """Return the weights of the classes for each sample."""
    if labels is None:
        raise ValueError("labels=None: mixup and cutmix mix the labels too, give integers (N,) or weights (N, classes)")
    allowed = f"integers ({samples},) or floats ({samples}, classes)"
    given = array("labels", labels, "iuf", allowed)
    if given.dtype.kind == "f" and given.ndim == 2 and len(given) == samples:
        return given if given.dtype == np.float64 else given.astype(np.float32)
    if (given.dtype.kind not in "iu" and given.size) or given.shape != (samples,):
        raise ValueError(f"labels is {given.dtype} of shape {given.shape}: must be {allowed}")
    if classes is None:
        raise ValueError("num_classes=None: integer labels with mixup or cutmix need the number of classes")
    wrong = (given < 0) | (given >= classes)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"labels[{first}] is {given[first]}: must be in [0, {classes})")
    weights = np.zeros((samples, classes), np.float32)
    weights[np.arange(samples), given.astype(np.int64)] = 1
    return weights
