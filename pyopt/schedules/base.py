"""What all schedules share: checked fields, and elementary functions with the same bits on every machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from ..kernels.hyper import Hyper
from ..kernels.native import power as _repeated_squaring
from ..validate import integer, one_of

_STEP = Hyper("step", 0.0)
_COS = [(-1) ** n / math.factorial(2 * n) for n in range(9)]
_SIN = [(-1) ** n / math.factorial(2 * n + 1) for n in range(9)]


@dataclass(frozen=True)
class Schedule:
    """A number, such as a learning rate, as a function of the number of steps taken: 0 for the first step.

    Subclasses are frozen dataclasses with a closed form: what they return depends on the step alone, so that a run can
    be resumed anywhere. They can be compared, hashed and pickled, and return floats.
    """

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, f.metadata["check"](f.name, getattr(self, f.name)))
        self._validate()

    def _validate(self) -> None:
        """Raise ValueError where fields do not go together."""

    def __call__(self, step: float) -> float:
        """Return the value for a step; ValueError or TypeError where ``step`` is no finite number >= 0."""
        return self._value(_STEP.check(step))

    def _value(self, step: float) -> float:
        raise NotImplementedError


# ---- fields


def number(default: Any = MISSING, **limits: Any) -> Any:
    """Return a field for a number; ``limits`` are those of ``Hyper``, finite and >= 0 if not given."""
    return _field(default, lambda name, x: Hyper(name, 0.0, **limits).check(x))


def count(default: Any = MISSING, low: int = 1, optional: bool = False) -> Any:
    """Return a field for an integer >= ``low``, or None where ``optional``."""
    return _field(default, lambda name, x: None if optional and x is None else integer(name, x, low))


def choice(default: str, *others: str) -> Any:
    """Return a field for one of several words."""
    return _field(default, lambda name, x: one_of(name, x, (default, *others)))


def flag(default: bool) -> Any:
    """Return a field for True or False."""
    return _field(default, lambda name, x: Hyper(name, default).check(x))


def rising() -> Any:
    """Return a field for integers >= 1 in rising order."""
    return _field(MISSING, _rising)


def _field(default: Any, check: Callable[[str, Any], Any]) -> Any:
    return field(default=default, metadata=checked(check))


def checked(check: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Return the metadata of a field that takes whatever ``check(name, value)`` returns."""
    return {"check": check}


def _rising(name: str, x: Any) -> tuple[int, ...]:
    if not isinstance(x, (list, tuple)):
        raise TypeError(f"{name}={x!r}: must be a list of integers >= 1 in rising order")
    steps = tuple(integer(f"{name}[{i}]", each, 1) for i, each in enumerate(x))
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"{name}={x!r}: must be a list of integers >= 1 in rising order")
    return steps


# ---- arithmetic that no C library has a part in


def cos_pi(x: float) -> float:
    """Return cos(pi * x) for x in [0, 1], within 2 units in the last place."""
    if x > 0.5:
        return -cos_pi(1.0 - x)
    y = math.pi * (x if x <= 0.25 else 0.5 - x)
    terms = _COS if x <= 0.25 else _SIN
    total = 0.0
    for term in reversed(terms):
        total = total * (y * y) + term
    return total if x <= 0.25 else total * y


def cosine(start: float, end: float, share: float) -> float:
    """Return the point between ``start`` and ``end`` on half a wave, ``share`` of the way."""
    return end + (start - end) * (1.0 + cos_pi(share)) / 2.0


def linear(start: float, end: float, share: float) -> float:
    """Return the point between ``start`` and ``end`` on a line, ``share`` of the way."""
    return start + (end - start) * share


def power(base: float, exponent: float) -> float:
    """Return ``base**exponent`` for numbers >= 0, infinity where that is too large.

    By repeated squaring where the exponent is an integer: only other ones depend on the C library, in the last bits.
    """
    if exponent == int(exponent):
        return float(_repeated_squaring(base, int(min(exponent, 2.0**62))))
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf
