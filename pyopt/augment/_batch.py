"""A batch of images and what goes with its samples, checked before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..kernels import checks
from ..validate import one_of, written

LAYOUTS = ("NCHW", "NHWC")
BORDERS = ("constant", "edge")
SIDE = 24  # bits of its length: float32 counts no further without gaps


@dataclass(frozen=True)
class Batch:
    """Images of one layout, with its lengths by name."""

    images: Array
    layout: str | None  # None: NCHW, unless it looks like the other one

    def __post_init__(self) -> None:
        images_array(self.images, "images")
        if self.layout is None:
            object.__setattr__(self, "layout", LAYOUTS[0])
            if self.images.ndim == 4 and self.images.shape[3] in (1, 3, 4) and min(self.images.shape[1:3]) > 4:
                _, channels, height, width = self.images.shape
                raise ValueError(
                    f"images has shape {self.images.shape}: {channels} channels of {height} x {width} pixels unless "
                    "layout='NHWC'; say which, also where it is layout='NCHW'"
                )
        one_of("layout", self.layout, LAYOUTS)
        if self.images.ndim != 4 or 0 in self.images.shape[1:]:
            raise ValueError(f"images has shape {self.images.shape}: must be {self.layout}, no axis but N empty")
        if self.images[:1].size >= 2**31:
            raise ValueError(f"images has shape {self.images.shape}: a sample must have fewer than 2^31 elements")
        if max(self.size) >= 1 << SIDE:
            raise ValueError(f"images has shape {self.images.shape}: height and width must be below 2^24")

    @property
    def last(self) -> bool:
        """Whether the channels are the last axis."""
        return self.layout == "NHWC"

    @property
    def channels(self) -> int:
        """The number of channels."""
        channels: int = self.images.shape[3 if self.last else 1]
        return channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        shape: tuple[int, ...] = self.images.shape
        return (shape[1], shape[2]) if self.last else (shape[2], shape[3])

    @property
    def real(self) -> Any:
        """The dtype that the kernels compute in."""
        return np.float64 if self.images.dtype == np.float64 else np.float32

    def fill(self, value: Any) -> Array:
        """Return the number for each channel beyond the image."""
        fill = finite("fill", value, self.real)
        if fill.shape not in ((), (self.channels,)):
            raise ValueError(
                f"fill has shape {fill.shape}: must be a number, or one for each of {self.channels} channels"
            )
        if self.images.dtype == np.uint8 and ((fill < 0) | (fill > 255)).any():
            raise ValueError(f"fill={value!r}: must be in [0, 255] for uint8 images")
        return np.ascontiguousarray(np.broadcast_to(fill, self.channels))

    def rows(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        """Return finite numbers of this shape for each sample."""
        given = finite(name, value, self.real)
        want = (len(self.images), *shape)
        if given.shape not in (shape, want):
            raise ValueError(f"{name} has shape {given.shape}: must be {want}, or {shape} for all samples")
        return np.ascontiguousarray(np.broadcast_to(given, want))

    def integers(self, name: str, value: Any, shape: tuple[int, ...] = ()) -> Array:
        """Return int64 numbers of this shape for each sample."""
        given = array(name, value, "iu", "integers")
        want = (len(self.images), *shape)
        if given.shape not in (shape, want):
            raise ValueError(f"{name} has shape {given.shape}: must be {want}, or {shape} for all samples")
        if given.size and (int(given.min()) < -(2**31) or int(given.max()) >= 2**31):
            raise ValueError(f"{name} holds {given.min()} to {given.max()}: must be in [-2^31, 2^31)")
        return np.array(np.broadcast_to(given, want), np.int64, order="C")  # a copy, which only we write to

    def boxes(self, value: Any) -> Array:
        """Return boxes (top, left, bottom, right), clipped to the image; none where ``value`` is None."""
        if value is None:
            return np.zeros((len(self.images), 4), np.int32)
        given, (height, width) = self.integers("boxes", value, (4,)), self.size
        return np.ascontiguousarray(np.clip(given, 0, (height, width, height, width)), np.int32)

    def result(self, out: Array | None, size: tuple[int, int] | None = None) -> Array:
        """Return the array for the result: ``out``, if it fits."""
        shape = (size or self.size, (self.channels,))
        want = (len(self.images), *(shape[0] + shape[1] if self.last else shape[1] + shape[0]))
        if out is None:
            return np.empty(want, self.images.dtype)
        images_array(out, "out")
        if out.shape != want or out.dtype != self.images.dtype:
            raise ValueError(f"out is {out.dtype} of shape {out.shape}: must be {self.images.dtype} of shape {want}")
        written(out, "out", images=self.images)
        return out


def images_array(a: Any, name: str) -> None:
    """Raise where ``a`` is no C-contiguous array of uint8, float32 or float64."""
    if isinstance(a, np.ndarray) and not checks.masked(a):
        if a.dtype.name not in ("uint8", *checks.REALS):
            raise TypeError(f"{name} has dtype {a.dtype}: must be uint8, float32 or float64")
        if a.dtype == np.uint8:
            if not a.flags.c_contiguous:
                raise ValueError(f"{name} has strides {a.strides} for shape {a.shape}: np.ascontiguousarray is needed")
            return
    checks.rows_array(a, name)


def array(name: str, value: Any, kinds: str, allowed: str) -> Array:
    """Return an array of a dtype of one of these kinds; of any dtype where it is empty."""
    if checks.masked(value):
        raise TypeError(f"{name} is a masked array: fill it first, with a.filled(value)")
    try:
        given: Array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} has rows of different lengths: must be {allowed}") from error
    if given.dtype.kind not in kinds and given.size:
        what = f"{name} has dtype {given.dtype}" if given.ndim else f"{name}={value!r}"
        raise TypeError(f"{what}: must be {allowed}")
    return given


def finite(name: str, value: Any, real: Any) -> Array:
    """Return finite numbers in the dtype ``real``."""
    given = array(name, value, "iuf", "numbers")
    with np.errstate(all="ignore"):
        given = given.astype(real)
    if not np.isfinite(given).all():
        raise ValueError(f"{name} holds inf or NaN: must be finite numbers")
    return given
