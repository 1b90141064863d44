"""What a rule declares: frozen dataclasses, checked when they are made. Nothing is computed here."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections import namedtuple
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .hyper import Hyper

Scalars = tuple[float, ...]

DECAYS = ("coupled", "decoupled", "inside")
NORMS = ("param_norm", "update_norm")  # of a whole tensor: of p, and of what ``Rule.direction`` returns

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
    coupled. ``inside``: ``scalars`` has the decay. ``base`` is the rule whose update this is, under another decay; None
    for an update of its own.

    A rule may need norms of a tensor before it steps it: those of ``NORMS`` that ``norm_scalars(h, *norms)`` takes by
    their names. It returns further scalars, behind those of ``scalars`` and under the same law, for one tensor.
    ``direction(p, g, *states, *scalars)`` returns what ``update_norm`` is the norm of; it takes no such further scalar.

    A proximal form needs the step, how far a constant gradient of 1 moves p in the long run: ``prox_step(h)`` returns
    it, but for what differs from element to element; there ``prox_steps(...)`` returns it for each, from some of the
    new states, of the scalars and ``step``, told by their names. ``memoryless(h)`` says whether a gradient of 0 only
    decays p, though the decay is coupled.
    """

    name: str
    reference: Callable[..., tuple[Any, ...]]
    scalars: Callable[[Any, int, float], tuple[Scalars, float]]
    states: tuple[State, ...]
    hypers: tuple[Hyper, ...]
    decay: str
    check: Callable[[Any], str | None] = lambda h: None
    prox_step: Callable[[Any], float] = lambda h: h.lr
    prox_steps: Callable[..., Any] | None = None
    memoryless: Callable[[Any], bool] = lambda h: False
    direction: Callable[..., Any] | None = None
    norm_scalars: Callable[..., Scalars] = lambda h: ()
    base: Rule | None = None
    doc: str | None = None
    decays: bool = field(init=False)  # whether the update takes ``decay``
    all_hypers: tuple[Hyper, ...] = field(init=False)
    Values: type[Any] = field(init=False)

    def __post_init__(self) -> None:
        if self.decay not in DECAYS:
            raise ValueError(f"decay={self.decay!r}: must be one of {DECAYS}")
        object.__setattr__(self, "decays", self.arguments[-1] == "decay")
        if self.decay == "decoupled" and not self.decays:
            raise ValueError(f"{self.name}: reference takes {self.arguments}: decay='decoupled' needs decay at the end")
        if self.arguments[: 2 + len(self.states)] != ("p", "g", *(s.name for s in self.states)):
            raise ValueError(f"{self.name}: reference takes {self.arguments}, not p, g, its states and scalars")
        self._check_norms()
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

    def _check_norms(self) -> None:
        """Raise where the norms that are needed, and what is made of them, do not go together."""
        if unknown := set(self.norms) - set(NORMS):
            raise ValueError(f"{self.name}: norm_scalars takes {sorted(unknown)}: the norms are {NORMS}")
        if (self.direction is None) != (not self.norms):
            raise ValueError(f"{self.name}: direction needs norm_scalars of norms, and norms need a direction")
        if self.direction is None:
            return
        if self.decays:
            raise ValueError(f"{self.name}: a rule that needs norms has its decay inside and takes none at the end")
        given, first = arguments_of(self.direction), 2 + len(self.states)
        if len(given) < first or given != self.arguments[: len(given)] or len(given) == len(self.arguments):
            raise ValueError(
                f"{self.name}: direction takes {given}, reference {self.arguments}: these must be the former, and then "
                "what norm_scalars returns"
            )

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
        return element_of(self.reference.__module__, _form(self.kernel, form))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The parameters of the update in all its forms."""
        return arguments_of(self.reference)

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The names of what ``scalars`` returns."""
        last = len(self.arguments) - self.decays if self.direction is None else len(arguments_of(self.direction))
        return self.arguments[2 + len(self.states) : last]

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms that ``norm_scalars`` takes."""
        return arguments_of(self.norm_scalars)[1:]

    @property
    def norm_scalar_names(self) -> tuple[str, ...]:
        """The names of what ``norm_scalars`` returns."""
        return () if self.direction is None else self.arguments[len(arguments_of(self.direction)) :]

    @property
    def prox_steps_arguments(self) -> tuple[str, ...]:
        """The parameters of ``prox_steps`` in all its forms."""
        return arguments_of(self.prox_steps) if self.prox_steps is not None else ()


def _rule(name: str) -> Rule | None:
    """Return the rule of a stem: what a pickled one is read back as."""
    stem = f"{__package__}.rules.{name}"
    return importlib.import_module(stem).RULE if importlib.util.find_spec(stem) else None


def _form(stem: str, form: str) -> str:
    return f"{stem}_{form}" if form else stem


def element_of(module: str, name: str, end: str = "element") -> Callable[..., Any]:
    """Return a function on one element, from the file that has those of a stem's module."""
    return getattr(importlib.import_module(f"{module}_{end}"), name)  # type: ignore[no-any-return]


def arguments_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters of a function."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


def discover(package: str, path: Iterable[str]) -> dict[str, Any]:
    """Import every stem of a folder; return the modules by stem."""
    stems = sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.endswith(("_cuda", "_element")))
    return {stem: importlib.import_module(f"{package}.{stem}") for stem in stems}
