"""The hyper-parameters and options of a parameter group, checked, as the kernels take them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ..arrays.backend import Array, beside, copied, described
from ..kernels import step
from ..kernels.hyper import Hyper
from ..kernels.numerics import codecs
from ..kernels.penalties.group_lasso import GroupLasso
from ..kernels.penalties.l1 import L1
from ..kernels.penalty import Penalty, Projection
from ..kernels.spec import Rule
from ..validate import one_of

ZERO_GRADS = Hyper("zero_grads", False)
GRAD_SCALE = Hyper("grad_scale", 1.0, low=float(np.finfo(np.float32).tiny))  # else 1 / grad_scale is infinite
OPTIONS: dict[str, Any] = {
    "penalty": None,
    "prox": None,
    "metric": None,
    "rounding": "nearest",
    "seed": 0,
    "state_dtype": None,
    "shadow_dtype": None,
}
PLACES = ("ema", "shadow", "remainder", "row_decay")  # what an optimizer keeps beside the states of its rule
SHADOW = PLACES.index("shadow") - len(PLACES)  # its place from the end


class Place(NamedTuple):
    """An array that may stand beside a parameter.

    ``start`` is a number, or a function of the parameter and the dtype; None for one that is made where it is first
    needed.
    """

    name: str
    on: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: Any


class Group:
    """The hyper-parameters of a parameter group as the kernels take them, read anew from its dict at every step."""

    def __init__(self, rule: Rule, values: dict[str, Any]) -> None:
        self.rule = rule
        self.read = itemgetter(*(h.name for h in rule.all_hypers), *OPTIONS)
        starts = [state.start for state in rule.states]
        self.fixed = {h.name for h in rule.all_hypers if isinstance(h.default, bool) or h.name in starts}
        self.seen: tuple[Any, ...] = ()
        self.structure: tuple[Any, ...] = ()
        self.refresh(values)

    def refresh(self, group: dict[str, Any]) -> None:
        """Take over what was written to ``group``, checked."""
        try:
            given = self.read(group)
        except KeyError as missing:
            raise ValueError(f"a parameter group has no {missing} any more: put it back") from None
        try:
            if given == self.seen:
                return
        except ValueError:  # an array among them, which the check below refuses or takes as a number
            pass
        values, schedules = {}, {}
        for hyper, value in zip(self.rule.all_hypers, given, strict=False):
            if hyper.name not in self.fixed and _scheduled(hyper, value):
                schedules[hyper.name] = hyper
                values[hyper.name] = value if callable(value) else tuple(value)
            else:
                values[hyper.name] = hyper.check(value)
        h = self.rule.Values(**values)
        if schedules.keys() <= {"lr"} and (wrong := self.rule.check(h)):
            raise ValueError(wrong)
        options = dict(zip(OPTIONS, given[len(values) :], strict=True))
        penalties = self._penalties(options)
        options |= {
            "rounding": one_of("rounding", options["rounding"], codecs.ROUNDINGS),
            "seed": _seed(options["seed"]),
            "state_dtype": self._state_dtype(options["state_dtype"]),
            "shadow_dtype": _shadow_dtype(options["shadow_dtype"]),
        }
        stages = step.stages(self.rule, h, penalties, options["rounding"])
        group.update(values, **options)
        self.h, self.schedules, self.penalties, self.options = h, schedules, penalties, options
        self.seen = tuple(dict(x) if isinstance(x, dict) else x for x in self.read(group))
        self.structure = (
            tuple(state.when is None or bool(values[state.when]) for state in self.rule.states),
            h.ema_decay is not None,
            str(options["state_dtype"]),
            options["shadow_dtype"],
            stages,
        )

    @property
    def stages(self) -> step.Stages:
        """The optional stages of the group."""
        return self.structure[-1]  # type: ignore[no-any-return]

    def work(self, grad_scale: float, t: int, carry: float) -> step.Work:
        """Return what step ``t`` (from 1 on) hands to the stages."""
        return self.work_of(self.hypers(t) if self.schedules else self.h, grad_scale, t, carry)

    def work_of(self, h: Any, grad_scale: float, t: int, carry: float) -> step.Work:
        """Return what step ``t`` with the hyper-parameters ``h`` hands to the stages."""
        work = step.work(self.rule, h, self.penalties, self.options["seed"], grad_scale, t, carry)
        if len(work.penalties) < len(self.stages.penalties):  # a coupled decay that is 0 now keeps its stage
            work = work._replace(penalties=((0.0,), *work.penalties))
        return work

    def hypers(self, t: int) -> Any:
        """Return the hyper-parameters of step ``t``, checked."""
        h = self.h
        for name, hyper in self.schedules.items():
            given = getattr(h, name)
            now = given(t - 1) if callable(given) else tuple(x(t - 1) if callable(x) else x for x in given)
            h = h._replace(**{name: hyper.check(now)})
        if self.schedules and (wrong := self.rule.check(h)):
            raise ValueError(wrong)
        return h

    def lazy_decay(self, t: int) -> float:
        """Return what step ``t`` multiplies a row by that has no gradient; ValueError where it does more to it."""
        h = self.hypers(t)
        if h.weight_decay != 0 and self.rule.decay == "coupled" and not self.rule.memoryless(h):
            raise ValueError(
                f"weight_decay={h.weight_decay!r} in step_rows: {self.rule.name} adds it to the gradient of every row, "
                "must be 0 (penalty=pyopt.L2(...) acts on the rows given)"
            )
        return float(1.0 - h.lr * h.weight_decay)

    def places(self, p: Array) -> list[Place]:
        """Return what may stand beside ``p``: the states of the rule in order, then those of PLACES."""
        (shape, stored), given = described(p), self.options["state_dtype"] or {}
        real = codecs.compute(stored)
        flags, ema, *_ = self.structure
        found = []
        for state, on in zip(self.rule.states, flags, strict=True):
            start = getattr(self.h, state.start) if isinstance(state.start, str) else state.start
            found.append(Place(state.name, on, shape, _storage(given, state.name, real), start))
        shadow, remainder = self.options["shadow_dtype"], self.stages.rounding == "remainder"
        row = codecs.BY_NAME[stored.name]
        if remainder and not (row.native or row.remainder):
            raise ValueError(
                f"rounding='remainder' for a {row.name} parameter: must be bfloat16, or float32 and float64"
            )
        kind = _storage(given, "ema", real)
        found.append(Place("ema", ema, shape, kind, _copy if ema else None))
        kind = codecs.dtype(shadow or "float16")
        found.append(Place("shadow", shadow is not None, shape, kind, None if shadow is None else _copy))
        cut_off = codecs.BY_SHORT[row.remainder or "u16"].dtype
        found.append(Place("remainder", remainder and row.remainder is not None, shape, cut_off, 0))
        found.append(Place("row_decay", True, (shape[0] + 1,) if shape else (2,), np.dtype(np.float64), None))
        return found

    def states(self, p: Array, have: Sequence[Array | None]) -> list[Array | None]:
        """Return what stands beside ``p``: ``have``, in the dtypes wanted now, and new arrays where one is on."""
        found: list[Array | None] = []
        for place, array in zip(self.places(p), have, strict=True):
            if array is None and place.on and place.start is not None:
                start = place.start(p, place.dtype) if callable(place.start) else place.start
                found.append(beside(p, start, place.dtype))
            elif array is None or array.dtype == place.dtype or (place.name == "shadow" and not place.on):
                found.append(array)
            else:
                found.append(beside(p, _copy(array, place.dtype, codecs.compute(described(p)[1])), place.dtype))
        return found

    def _state_dtype(self, given: Any) -> dict[str, str] | None:
        """Return a storage type for each state that one was asked for."""
        if given is None:
            return None
        names = [*(state.name for state in self.rule.states), "ema"]
        table = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names, given)
        if unknown := set(table) - set(names):
            raise ValueError(f"state_dtype={given!r}: {sorted(unknown)} are no states, must be among {names}")
        try:
            return {name: codecs.dtype(kind).name for name, kind in table.items()}
        except ValueError:
            raise ValueError(
                f"state_dtype={given!r}: must be None, one of {', '.join(codecs.NAMES)}, or a dict of these"
            ) from None

    def _penalties(self, options: dict[str, Any]) -> step.Penalties:
        """Check penalty, prox and metric against each other and the rule, and put them as the user may read them."""
        gradients, proxes = (_sequence(name, options[name]) for name in ("penalty", "prox"))
        for name, found in (("penalty", gradients), ("prox", proxes)):
            given = options[name]
            options[name] = given if found[:1] == (given,) else found or None
        metric = options["metric"]
        if not (metric is None or (isinstance(metric, str) and metric == "lr")):
            raise ValueError(f"metric={metric!r}: must be None or 'lr'")
        for penalty in gradients:
            if isinstance(penalty, Projection):
                raise TypeError(f"penalty={penalty!r}: a projection has no gradient: prox= takes it")
        _joint(proxes)
        if self.rule.steps is not None and metric is None:
            for penalty in proxes:
                if not penalty.separable:
                    raise ValueError(
                        f"prox={penalty!r}: {self.rule.name} has a step of its own for each element, and this form "
                        "needs one step for all, known beforehand: set metric='lr'"
                    )
        return step.Penalties(
            tuple(penalty for penalty in gradients if any(penalty.scalars())),
            tuple(penalty for penalty in proxes if isinstance(penalty, Projection) or any(penalty.scalars())),
            metric,
        )


class Given(NamedTuple):
    """What a step is given besides gradients: the hyper-parameters of all groups, and what the loss was scaled by.

    The CPU engine calls it for the numbers of one tensor; the GPU engine computes these on the device.
    """

    groups: Sequence[Group]
    grad_scale: float
    still: Callable[[], None] = lambda: None  # raises where a schedule did what a step cannot go on from

    def __call__(self, group: int, t: int, carry: float) -> step.Work:
        work = self.groups[group].work(self.grad_scale, t, carry)
        if self.groups[group].schedules:
            self.still()
        return work


def _copy(a: Any, dtype: np.dtype[Any], real: type[Any] | None = None) -> Array:
    """Return the numbers of an array in another storage type, in memory of this process."""
    values = copied(a)
    return codecs.encode(codecs.decode(values, real or codecs.compute(values.dtype)), dtype)


def _scheduled(hyper: Hyper, value: Any) -> bool:
    """Return whether a hyper-parameter is a function of the steps taken, or a pair with one in it."""
    pair = isinstance(hyper.default, tuple) and isinstance(value, (tuple, list)) and len(value) == 2
    return callable(value) or (pair and any(map(callable, value)))


def _joint(proxes: tuple[Penalty, ...]) -> None:
    """Refuse several proximal forms that are not, one after the other, that of their sum."""
    if len(proxes) < 2:
        return
    first, *rest = proxes
    convex = first.separable and not isinstance(first, Projection)  # by element: the nearest point of an interval
    interval = all(isinstance(x, Projection) and not x.by_row for x in rest)
    if not (len(rest) == 1 and ((convex and interval) or (isinstance(first, L1) and isinstance(rest[0], GroupLasso)))):
        raise ValueError(
            f"prox={proxes!r}: the proximal form of a sum is known for (a convex penalty by element such as L1, then "
            "Box or NonNegative) and for (L1, then GroupLasso) only"
        )


def _sequence(name: str, given: Any) -> tuple[Penalty, ...]:
    """Return one penalty, several or none as a tuple."""
    if given is None:
        return ()
    penalties = (given,) if isinstance(given, Penalty) else tuple(given) if isinstance(given, (list, tuple)) else None
    if penalties is None or not all(isinstance(penalty, Penalty) for penalty in penalties):
        raise TypeError(f"{name}={given!r}: must be a Penalty such as pyopt.L1(1e-4), a list of them, or None")
    return penalties


def _seed(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or not 0 <= given < 1 << 64:
        raise ValueError(f"seed={given!r}: must be an integer in [0, 2**64)")
    return int(given)


def _shadow_dtype(given: Any) -> str | None:
    if given is None:
        return None
    allowed = [row.name for row in codecs.allowed("shadow")]
    with contextlib.suppress(ValueError):
        if (name := codecs.dtype(given).name) in allowed:
            return name
    raise ValueError(f"shadow_dtype={given!r}: must be {', '.join(allowed)} or None")


def _storage(given: Mapping[str, str], name: str, real: type[Any]) -> np.dtype[Any]:
    """Return how a state is stored: never in more bits than it is computed in."""
    wanted = codecs.dtype(given.get(name, real))
    return np.dtype(real) if wanted.itemsize > np.dtype(real).itemsize else wanted
