"""Hyper: a number that a user sets, with its default and its range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_NO_REALS = "bcmMSU"  # kinds of NumPy's dtypes that float() takes, though what they hold is no real number


@dataclass(frozen=True)
class Hyper:
    """A hyper-parameter: a number in ``[low, high)``, a pair of them, or a flag, told apart by its default.

    ``closed`` makes the range ``[low, high]``, ``above`` takes ``low`` out of it; a default of None stands for a number
    that may be left out.
    """

    name: str
    default: float | bool | tuple[float, float] | None
    low: float = 0.0
    high: float = math.inf
    closed: bool = False
    above: bool = False

    @property
    def range(self) -> str:
        """The values allowed, in words."""
        if isinstance(self.default, bool):
            return "True or False"
        end = "]" if self.closed else ")"
        bounds = f"finite and {'>' if self.above else '>='} {self.low:g}"
        if self.high < math.inf or self.closed or self.low == -math.inf:
            bounds = f"in {'(' if self.above else '['}{self.low:g}, {self.high:g}{end}"
        if self.default is None:
            return f"None or {bounds}"
        return f"two numbers {bounds}" if isinstance(self.default, tuple) else bounds

    def check(self, value: Any) -> Any:
        """Return ``value`` as the kernels take it, or raise ValueError or TypeError quoting it."""
        if value is None and self.default is None:
            return None
        if isinstance(self.default, bool):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{self.name}={value!r}: must be {self.range}")
            return bool(value)
        if isinstance(self.default, tuple):
            try:
                pair = () if isinstance(value, (set, frozenset, dict)) else tuple(value)  # a pair is in order
            except TypeError:
                pair = ()
            if len(pair) != 2:
                raise ValueError(f"{self.name}={value!r}: must be {self.range}")
            return tuple(self._number(x, value) for x in pair)
        return self._number(value, value)

    def _number(self, x: Any, shown: Any) -> float:
        try:
            if (
                isinstance(x, (bool, str, bytes, bytearray))
                or getattr(getattr(x, "dtype", None), "kind", "f") in _NO_REALS
            ):
                raise TypeError
            number = float(x)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{self.name}={shown!r}: must be {self.range}") from None
        inside = self.low <= number < self.high or (self.closed and number == self.high)
        if not inside or (self.above and number == self.low):
            raise ValueError(f"{self.name}={shown!r}: must be {self.range}")
        return number
