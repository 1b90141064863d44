"""The random numbers of a batch: each has a place of its own, so that no option changes what another one draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..kernels.numerics import philox
from ._batch import array

PLACES = (
    "flip", "vertical_flip", "dx", "dy", "angle", "scale", "cut_y", "cut_x", "brightness", "contrast", "which",
    "partner", "beta_radius", "beta_angle", "box_y", "box_x",
)  # fmt: skip


@dataclass(frozen=True)
class Draws:
    """Uniform numbers in (0, 1) by name, one for each sample."""

    seed: int
    step: int
    index: Array

    def __call__(self, name: str) -> Array:
        """Return the numbers of that name, in float64."""
        block, word = divmod(PLACES.index(name), 4)
        words = philox.words_at(self.index, self.seed, self.step, philox.AUGMENT, block)
        result: Array = (words[:, word] + 0.5) * 2.0**-32
        return result


def numbers(index: Any, samples: int) -> Array:
    """Return the numbers of the samples."""
    if index is None:
        return np.arange(samples, dtype=np.uint64)
    given = array("index", index, "iu", "integers >= 0, one for each sample")
    if given.shape != (samples,):
        raise ValueError(f"index has shape {given.shape}: must be ({samples},), one for each sample")
    if given.size and given.min() < 0:
        raise ValueError(f"index holds {given.min()}: must be integers >= 0")
    return given.astype(np.uint64)


def boxes(y: Array, x: Array, size: tuple[int, int], sides: Any) -> Array:
    """Return squares or, with two arrays of sides, boxes: their centres anywhere in the image, clipped to it."""
    high, wide = sides if isinstance(sides, tuple) else (sides, sides)
    height, width = size
    top, left = np.floor(y * height) - np.floor(high / 2), np.floor(x * width) - np.floor(wide / 2)
    found = np.stack([top, left, top + high, left + wide], 1)
    clipped: Array = np.clip(found, 0, (height, width, height, width)).astype(np.int32)
    return clipped


def beta(alpha: float, radius: Array, angle: Array) -> Array:
    """Return numbers of Beta(alpha, alpha) from two uniform ones each.

    T = sqrt(2 alpha (radius^(-1 / alpha) - 1)) cos(2 pi angle) is of Student's t with 2 alpha degrees of freedom, and
    (1 + T / sqrt(2 alpha + T^2)) / 2 of Beta(alpha, alpha). Source: R. W. Bailey, "Polar generation of random variates
    with the t-distribution", Mathematics of Computation 62, 1994, https://doi.org/10.1090/S0025-5718-1994-1219702-8
    """
    with np.errstate(all="ignore"):
        cosine = np.cos(2 * np.pi * angle)
        z = np.expm1(-np.log(radius) / alpha) * cosine * cosine
        result: Array = 0.5 + 0.5 * np.sign(cosine) * np.sqrt(1 / (1 + 1 / z))
    return result


def mixes(draws: Draws, mixup: float, cutmix: float, size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Return each sample's partner, the share of its own that is kept, and its box."""
    samples, (height, width) = len(draws.index), size
    partners = np.floor(draws("partner") * samples).astype(np.int64)
    cuts = draws("which") * (mixup > 0) < 0.5 if cutmix > 0 else np.zeros(samples, bool)
    radius, angle = draws("beta_radius"), draws("beta_angle")
    kept = beta(mixup, radius, angle) if mixup > 0 else np.ones(samples)
    found = np.zeros((samples, 4), np.int32)
    if cutmix > 0:
        side = np.sqrt(1 - beta(cutmix, radius, angle))
        sides = np.floor(side * height), np.floor(side * width)
        found = boxes(draws("box_y"), draws("box_x"), size, sides) * cuts[:, None]
        top, left, bottom, right = found.T
        kept = np.where(cuts, 1 - (bottom - top) * (right - left) / (height * width), kept)
    return partners, kept, found.astype(np.int32)
