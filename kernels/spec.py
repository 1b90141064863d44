"""What a stem declares: frozen dataclasses, checked when they are made."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections import namedtuple
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from . import checks
from .cpu import engine, isa
from .numerics import reductions

Scalars = tuple[float, ...]

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


# What every rule has besides its own, because the stages around it do it.
STAGES = (
    Hyper("maximize", False),
    Hyper("clip_value", None),
    Hyper("max_tensor_norm", None),
    Hyper("ema_decay", None, high=1.0),
    Hyper("ema_bias_correction", False),
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


@dataclass(frozen=True, eq=False, repr=False)
class Rule:
    """An optimizer's update.

    ``reference(p, g, *states, *scalars)`` returns the new p and states (None stays for a state that is off);
    ``scalars(h, t, carry)`` returns its scalars in that order, and the next carry, in float64 with +, -, *, /, sqrt and
    ``power`` only; ``check(h)`` returns what is wrong with a combination of hyper-parameters, or None. A last scalar
    called ``decay``, which ``scalars`` leaves out, is what a decoupled decay multiplies the old p by; 1 where it is
    coupled. ``base`` is the rule whose update this is, under another decay; None for an update of its own.

    A proximal form needs the step, how far a constant gradient of 1 moves p in the long run: ``step(h)`` returns it,
    but for what differs from element to element; there ``steps(...)`` returns it for each, from some of the new states,
    of the scalars and ``step``, told by their names. ``memoryless(h)`` says whether a gradient of 0 only decays p,
    though the decay is coupled.
    """

    name: str
    reference: Callable[..., tuple[Any, ...]]
    scalars: Callable[[Any, int, float], tuple[Scalars, float]]
    states: tuple[State, ...]
    hypers: tuple[Hyper, ...]
    decay: str
    check: Callable[[Any], str | None] = lambda h: None
    step: Callable[[Any], float] = lambda h: h.lr
    steps: Callable[..., Any] | None = None
    memoryless: Callable[[Any], bool] = lambda h: False
    base: Rule | None = None
    doc: str | None = None
    decays: bool = field(init=False)  # whether the update takes ``decay``
    all_hypers: tuple[Hyper, ...] = field(init=False)
    Values: type[Any] = field(init=False)

    def __post_init__(self) -> None:
        if self.decay not in ("coupled", "decoupled"):
            raise ValueError(f"decay={self.decay!r}: must be 'coupled' or 'decoupled'")
        object.__setattr__(self, "decays", self.arguments[-1] == "decay")
        if self.decay == "decoupled" and not self.decays:
            raise ValueError(f"{self.name}: reference takes {self.arguments}: decay='decoupled' needs decay at the end")
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
        object.__setattr__(self, "doc", inspect.cleandoc(self.doc or ""))

    def __repr__(self) -> str:
        return f"<rule {self.name}>"

    def __reduce__(self) -> Any:
        if _rule(self.name) is not self:
            raise TypeError(f"{self!r} is none of pyopt.kernels.rules: it cannot be pickled")
        return _rule, (self.name,)

    def hyper(self, name: str) -> Hyper:
        """Return the hyper-parameter called ``name``."""
        return next(h for h in self.all_hypers if h.name == name)

    @property
    def update(self) -> Rule:
        """The rule whose update this is: engines take it, so that rules which share one share its kernels."""
        return self.base or self

    @property
    def kernel(self) -> str:
        """The stem of the forms of the update."""
        return self.update.name

    def tile(self, form: str = "") -> str:
        """Return the key of a tile: of the update, or of ``form``, such as ``steps``."""
        return f"rules.{_form(self.kernel, form)}"

    def element(self, form: str = "") -> Callable[..., Any]:
        """Return the update, or ``form``, on one element."""
        return _element(self.reference.__module__, _form(self.kernel, form))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The parameters of the update in all three forms."""
        return _arguments(self.reference)

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The names of what ``scalars`` returns."""
        return self.arguments[2 + len(self.states) : len(self.arguments) - self.decays]

    @property
    def steps_arguments(self) -> tuple[str, ...]:
        """The parameters of ``steps`` in all three forms."""
        return _arguments(self.steps) if self.steps is not None else ()


def _rule(name: str) -> Rule | None:
    """Return the rule of a stem: what a pickled one is read back as."""
    from .rules import RULES

    return RULES.get(name)


def _form(stem: str, form: str) -> str:
    return f"{stem}_{form}" if form else stem


def _element(module: str, name: str) -> Callable[..., Any]:
    """Return a function on one element, from the file that has those of a stem's module."""
    return getattr(importlib.import_module(f"{module}_cuda"), name)  # type: ignore[no-any-return]


def _arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


# The range of a coefficient that is divided by: float32 must have it too, and not as a 0.
WIDTH = {"low": float(np.finfo(np.float32).tiny)}


class Penalty:
    """A function of the weights that is added to the loss. Subclasses are frozen dataclasses of their coefficients.

    A subclass defines ``scalars()``, its coefficients as the kernels take them, and static methods: by element
    ``terms(p, *scalars)``, an element's share of the value in float64, ``gradient(p, g, *scalars)``, the loss gradient
    g plus the penalty's, and ``proximal(p, step, *scalars)``, the w that minimises (w - p)^2 / (2 * step) + penalty(w);
    or, ``by_row``, functions of the sum of the squares of a row and its size: ``row_terms(squares, size, *scalars)``,
    ``slope(...)``, the gradient divided by p, and ``shrink(squares, size, step, *scalars)``, the proximal point divided
    by p.
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

    def scalars(self) -> Scalars:
        """Return the coefficients as the kernels take them."""
        raise NotImplementedError

    @classmethod
    def coefficients(cls) -> int:
        """Return how many numbers ``scalars`` returns."""
        return len(_arguments(cls.shrink)) - 3 if cls.by_row else len(_arguments(cls.proximal)) - 2

    @classmethod
    def tile(cls, form: str) -> str:
        """Return the key of a tile: of ``value``, ``gradient``, ``prox``, ``slope`` or ``shrink``."""
        return f"penalties.{cls.stem}_{form}"

    @classmethod
    def element(cls, form: str) -> Callable[..., Any]:
        """Return ``gradient``, ``prox``, ``slope`` or ``shrink`` on one element or one row."""
        return _element(cls.__module__, f"{cls.stem}_{form}")

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
        for i, p in enumerate([params] if isinstance(params, np.ndarray) else params):
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
                result = reductions.by_row(p, type(self).slope, self.scalars()) * p
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
        arrays = [params] if isinstance(params, np.ndarray) else params
        return 0.0 if all(np.array_equal(self.prox(p, 1.0), p) for p in arrays) else math.inf

    def grad(self, p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Raise TypeError: a projection has none."""
        raise TypeError(f"{self!r} is a projection and has no gradient: use prox")


def discover(package: str, path: Iterable[str]) -> dict[str, Any]:
    """Import every stem of a folder; return the modules by stem."""
    stems = sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.endswith("_cuda"))
    return {stem: importlib.import_module(f"{package}.{stem}") for stem in stems}
