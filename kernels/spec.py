"""What a stem declares: frozen dataclasses, checked when they are made."""

from __future__ import annotations

import inspect
import math
import sys
from collections import namedtuple
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

Scalars = tuple[float, ...]


@dataclass(frozen=True)
class Hyper:
    """A hyper-parameter: a number in ``[low, high)``, a pair of them, or a flag, told apart by its default.

    ``closed`` makes the range ``[low, high]``; a default of None stands for a number that may be left out.
    """

    name: str
    default: float | bool | tuple[float, float] | None
    low: float = 0.0
    high: float = math.inf
    closed: bool = False

    @property
    def range(self) -> str:
        """The values allowed, in words."""
        if isinstance(self.default, bool):
            return "True or False"
        end = "]" if self.closed else ")"
        bounds = f"in [{self.low:g}, {self.high:g}{end}" if self.high < math.inf else f"finite and >= {self.low:g}"
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
                pair = tuple(value)
            except TypeError:
                pair = ()
            if len(pair) != 2:
                raise ValueError(f"{self.name}={value!r}: must be {self.range}")
            return tuple(self._number(x, value) for x in pair)
        return self._number(value, value)

    def _number(self, x: Any, shown: Any) -> float:
        try:
            number = float(x)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{self.name}={shown!r}: must be {self.range}") from None
        if isinstance(x, (bool, np.bool_)):
            raise TypeError(f"{self.name}={shown!r}: must be {self.range}")
        inside = self.low <= number < self.high or (self.closed and number == self.high)
        if isinstance(x, str) or not inside:
            raise ValueError(f"{self.name}={shown!r}: must be {self.range}")
        return number


# What every rule has besides its own, because the stages around it do it.
STAGES = (
    Hyper("maximize", False),
    Hyper("clip_value", None),
    Hyper("max_tensor_norm", None),
    Hyper("ema_decay", None, high=1.0),
)


@dataclass(frozen=True)
class State:
    """An array of a rule beside each parameter, with its shape.

    ``when`` names the hyper-parameter that turns it on (None: always there); ``start`` is its first value, a number or
    the name of a hyper-parameter.
    """

    name: str
    when: str | None = None
    start: float | str = 0.0


@dataclass(frozen=True)
class Rule:
    """An optimizer's update.

    ``reference(p, g, *states, *scalars)`` returns the new p and states (None stays for a state that is off);
    ``scalars(h, t, carry)`` returns its scalars in that order, and the next carry, in float64 with +, -, *, /, sqrt and
    ``power`` only; ``check(h)`` returns what is wrong with a combination of hyper-parameters, or None. The kernels are
    those of the stem that ``reference`` stands in: a rule may be another's update under another decay.
    """

    name: str
    reference: Callable[..., tuple[Any, ...]]
    scalars: Callable[[Any, int, float], tuple[Scalars, float]]
    states: tuple[State, ...]
    hypers: tuple[Hyper, ...]
    decay: str
    check: Callable[[Any], str | None] = lambda h: None
    all_hypers: tuple[Hyper, ...] = field(init=False)
    Values: type[Any] = field(init=False)

    def __post_init__(self) -> None:
        if self.decay not in ("coupled", "decoupled"):
            raise ValueError(f"decay={self.decay!r}: must be 'coupled' or 'decoupled'")
        if self.arguments[: 2 + len(self.states)] != ("p", "g", *(s.name for s in self.states)):
            raise ValueError(f"{self.name}: reference takes {self.arguments}, not p, g, its states and scalars")
        object.__setattr__(self, "all_hypers", (*self.hypers, *STAGES))
        names = [h.name for h in self.all_hypers]
        for state in self.states:
            for name in (state.when, state.start):
                if isinstance(name, str) and name not in names:
                    raise ValueError(f"{self.name}: the state {state.name} refers to {name!r}, no hyper-parameter")
        defaults = [h.default for h in self.all_hypers]
        values = namedtuple("Values", names, defaults=defaults)  # type: ignore[misc]  # noqa: PYI024
        object.__setattr__(self, "Values", values)

    @property
    def doc(self) -> str:
        """The documentation of the rule."""
        return inspect.getdoc(sys.modules[f"{__package__}.rules.{self.name}"]) or ""

    def hyper(self, name: str) -> Hyper:
        """Return the hyper-parameter called ``name``."""
        return next(h for h in self.all_hypers if h.name == name)

    @property
    def kernel(self) -> str:
        """The stem of the three forms of the update."""
        return self.reference.__module__.rpartition(".")[2]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The parameters of the update in all three forms."""
        code = self.reference.__code__
        return code.co_varnames[: code.co_argcount]


class Penalty:
    """A function of the weights that is added to the loss. Subclasses are frozen dataclasses of their coefficients.

    A subclass defines ``scalars()``, its coefficients as the kernels take them, and the static methods
    ``terms(p, *scalars)``, an element's share of the value in float64, and ``gradient(p, g, *scalars)``, the loss
    gradient g plus the penalty's.
    """

    stem: ClassVar[str]
    terms: ClassVar[Callable[..., Any]]
    gradient: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls) -> None:
        cls.stem = cls.__module__.rpartition(".")[2]

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            hyper = Hyper(f.name, 0.0, **f.metadata)
            object.__setattr__(self, f.name, hyper.check(getattr(self, f.name)))

    def scalars(self) -> Scalars:
        """Return the coefficients as the kernels take them."""
        raise NotImplementedError

    def value(self, params: Any) -> float:
        """Return the penalty of an array, or of a list of arrays together, summed in float64.

        Raises TypeError or ValueError where an array is not float32 or float64, aligned and dense.
        """
        from . import checks, engine, isa

        total = 0.0
        for i, p in enumerate([params] if isinstance(params, np.ndarray) else params):
            checks.dense_array(p, f"params[{i}]")
            name = f"penalties.{self.stem}_value"
            total += engine.sweep(isa.tiles(), name, (p,), (p.itemsize,), (p.size,), self.scalars(), True)
        return total

    def grad(self, p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the gradient of the penalty at ``p``, an array of its shape and dtype."""
        real = p.dtype.type
        result: np.ndarray[Any, Any] = type(self).gradient(p, np.zeros_like(p), *map(real, self.scalars()))
        return result


def discover(package: str, path: Iterable[str]) -> dict[str, Any]:
    """Import every stem of a folder; return the modules by stem."""
    import importlib
    import pkgutil

    stems = sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.endswith("_cuda"))
    return {stem: importlib.import_module(f"{package}.{stem}") for stem in stems}
