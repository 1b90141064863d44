"""What a penalty is around its stems: its coefficients, and its value, gradient and proximal form on whole arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np

from . import checks
from .cpu import engine, isa
from .hyper import Hyper
from .numerics import reductions
from .spec import arguments_of, element_of

# The range of a coefficient that is divided by: float32 must have it too, and not as a 0.
WIDTH = {"low": float(np.finfo(np.float32).tiny)}


class Penalty:
    """A function of the weights that is added to the loss. Subclasses are frozen dataclasses of their coefficients.

    A subclass defines ``scalars()``, its coefficients as the kernels take them, and static methods: by element
    ``terms(p, *scalars)``, an element's share of the value in float64, ``gradient(p, g, *scalars)``, the loss gradient
    g plus the penalty's, and ``proximal(p, step, *scalars)``, the w that minimises (w - p)^2 / (2 * step) + penalty(w);
    or, ``by_row``, functions of the sum of the squares of a row and its size: ``row_terms(squares, size, *scalars)``,
    ``slope(...)``, the gradient divided by p, and ``shrink(squares, size, step, *scalars)``, the proximal point divided
    by p. Where a slope overflows, the gradient is that of the row multiplied by 2^64: there, it must depend on the
    direction alone.
    """

    stem: ClassVar[str]
    by_row: ClassVar[bool] = False
    terms: ClassVar[Callable[..., Any]]
    gradient: ClassVar[Callable[..., Any]]
    proximal: ClassVar[Callable[..., Any]]
    row_terms: ClassVar[Callable[..., Any]]
    slope: ClassVar[Callable[..., Any]]
    shrink: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls) -> None:
        cls.stem = cls.__module__.rpartition(".")[2]

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            hyper = Hyper(f.name, 0.0, **f.metadata)
            object.__setattr__(self, f.name, hyper.check(getattr(self, f.name)))

    def scalars(self) -> tuple[float, ...]:
        """Return the coefficients as the kernels take them."""
        raise NotImplementedError

    @classmethod
    def coefficients(cls) -> int:
        """Return how many numbers ``scalars`` returns."""
        return len(arguments_of(cls.shrink)) - 3 if cls.by_row else len(arguments_of(cls.proximal)) - 2

    @classmethod
    def tile(cls, form: str) -> str:
        """Return the key of a tile: of ``value``, ``gradient``, ``prox``, ``slope`` or ``shrink``."""
        return f"penalties.{cls.stem}_{form}"

    @classmethod
    def element(cls, form: str) -> Callable[..., Any]:
        """Return ``gradient``, ``prox``, ``slope`` or ``shrink`` on one element or one row."""
        return element_of(cls.__module__, f"{cls.stem}_{form}", "cuda" if cls.by_row else "element")

    def max_step(self) -> float:
        """Return the step below which the proximal point is unique; infinite for a convex penalty."""
        return math.inf

    @property
    def separable(self) -> bool:
        """Whether the proximal form takes any step, and another one for each element."""
        return not self.by_row and self.max_step() == math.inf

    def check_step(self, step: float) -> None:
        """Raise ValueError where the proximal point is not unique for ``step``."""
        if not step < self.max_step():
            raise ValueError(f"a proximal step of {step!r} for {self!r}: must be < {self.max_step():.6g}")

    def value(self, params: Any) -> float:
        """Return the penalty of an array, or of a list of arrays together, summed in float64.

        Raises TypeError or ValueError where an array is not float32 or float64, aligned and dense (by row:
        C-contiguous).
        """
        total = 0.0
        for i, p in enumerate(params if isinstance(params, (list, tuple)) else [params]):
            (checks.rows_array if self.by_row else checks.dense_array)(p, f"params[{i}]")
            rows = (len(p) if p.ndim else 1) if self.by_row else p.size
            size = max(1, p.size // max(1, rows))
            sizes = (rows, size) if self.by_row else (rows,)
            name, strides = self.tile("value"), (size * p.itemsize,)
            total += engine.sweep(isa.tiles(), name, (p,), strides, sizes, self.scalars(), True) if p.size else 0.0
        return total

    def grad(self, p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the gradient of the penalty at ``p``, an array of its shape and dtype, float32 or float64."""
        checks.plain_array(p, "p")
        real = p.dtype.type
        result: np.ndarray[Any, Any]
        with np.errstate(all="ignore"):
            if self.by_row:
                result = reductions.row_gradient(p, type(self).slope, self.scalars())
            else:
                result = type(self).gradient(p, np.zeros_like(p), *map(real, self.scalars()))
        return result

    def prox(self, p: np.ndarray[Any, Any], step: Any) -> np.ndarray[Any, Any]:
        """Return the w that minimises (w - p)^2 / (2 * step) + penalty(w), an array of p's shape and dtype.

        p is float32 or float64; ``step`` is a number >= 0 or, by element, an array of such numbers, shaped as p. Raises
        TypeError for anything else, ValueError for another shape, and where a step is so large that there is more than
        one w.
        """
        checks.plain_array(p, "p")
        steps = self._steps(step, p)
        self.check_step(float(steps.max(initial=0)))
        real = p.dtype.type
        with np.errstate(all="ignore"):
            if self.by_row:
                factor = reductions.by_row(p, type(self).shrink, (float(steps), *self.scalars()))
                return np.where(factor == 1, p, p * factor)
            steps = np.broadcast_to(steps.astype(p.dtype), p.shape)
            result: np.ndarray[Any, Any] = type(self).proximal(p, steps, *map(real, self.scalars()))
        return result

    def _steps(self, step: Any, p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return ``step`` in float64, checked but for its bound, which float32 may round it to."""
        allowed = f"must be {'a number' if self.by_row else 'numbers'} >= 0"
        steps = np.asarray(step)
        if steps.dtype.kind not in "fiu":
            raise TypeError(f"step={step!r}: {allowed}")
        steps = steps.astype(np.float64)
        if not (steps >= 0).all() or (self.by_row and steps.ndim):
            raise ValueError(f"step={step!r}: {allowed}")
        if steps.ndim and steps.shape != p.shape:
            raise ValueError(f"step has shape {steps.shape}, p {p.shape}: it must be one number or have p's shape")
        return steps


class Projection(Penalty):
    """A set that the weights are kept in: a penalty of 0 inside and infinity outside, without a gradient."""

    separable = True  # the nearest point is the same for every step

    def value(self, params: Any) -> float:
        """Return 0 where all arrays are inside, else infinity."""
        arrays = params if isinstance(params, (list, tuple)) else [params]
        return 0.0 if all(np.array_equal(self.prox(p, 1.0), p) for p in arrays) else math.inf

    def grad(self, p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Raise TypeError: a projection has none."""
        raise TypeError(f"{self!r} is a projection and has no gradient: use prox")
