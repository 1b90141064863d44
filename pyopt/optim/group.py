"""The dict of a parameter group that users write to, checked, and what the engines take of it: a ``step.Group``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from ..kernels.hyper import Hyper
from ..kernels.numerics import codecs
from ..kernels.penalties.group_lasso import GroupLasso
from ..kernels.penalties.l1 import L1
from ..kernels.penalty import Penalty, Projection
from ..kernels.spec import Rule
from ..kernels.step import Group, Penalties
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


class ParamGroup:
    """The dict of a parameter group, read anew at every step; ``group`` is what the engines take of it."""

    group: Group
    options: dict[str, Any]
    slots: dict[Any, Any]  # beside a parameter, by its shape and dtype: see slots.py

    def __init__(self, rule: Rule, values: dict[str, Any]) -> None:
        self.rule = rule
        self.read = itemgetter(*(h.name for h in rule.all_hypers), *OPTIONS)
        starts = [state.start for state in rule.states]
        self.fixed = {h.name for h in rule.all_hypers if isinstance(h.default, bool) or h.name in starts}
        self.seen: tuple[Any, ...] = ()
        self.structure: tuple[Any, ...] = ()
        self.refresh(values)

    def refresh(self, written: dict[str, Any]) -> None:
        """Take over what was written to the dict, checked."""
        try:
            given = self.read(written)
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
        group = Group(self.rule, h, schedules, penalties, options["rounding"], options["seed"])
        written.update(values, **options)
        self.group, self.options, self.slots = group, options, {}
        self.seen = tuple(dict(x) if isinstance(x, dict) else x for x in self.read(written))
        self.structure = (
            tuple(state.when is None or bool(values[state.when]) for state in self.rule.states),
            h.ema_decay is not None,
            str(options["state_dtype"]),
            options["shadow_dtype"],
            group.stages,
        )

    @property
    def h(self) -> Any:
        """The hyper-parameters, of which some may be functions of the number of steps taken."""
        return self.group.h

    def lazy_decay(self, t: int) -> float:
        """Return what step ``t`` multiplies a row by that has no gradient; ValueError where it does more to it."""
        if self.rule.norms:
            raise ValueError(f"step_rows: {self.rule.name} needs norms of the whole tensor: use step")
        h = self.group.hypers(t)
        if h.weight_decay != 0 and self.rule.decay == "coupled" and not self.rule.memoryless(h):
            raise ValueError(
                f"weight_decay={h.weight_decay!r} in step_rows: {self.rule.name} adds it to the gradient of every row, "
                "must be 0 (penalty=pyopt.L2(...) acts on the rows given)"
            )
        return float(1.0 - h.lr * h.weight_decay)

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

    def _penalties(self, options: dict[str, Any]) -> Penalties:
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
        if self.rule.norms:
            self._without_norms(gradients, proxes, metric)
        if self.rule.prox_steps is not None and metric is None:
            for penalty in proxes:
                if not penalty.separable:
                    raise ValueError(
                        f"prox={penalty!r}: {self.rule.name} has a step of its own for each element, and this form "
                        "needs one step for all, known beforehand: set metric='lr'"
                    )
        return Penalties(
            tuple(penalty for penalty in gradients if any(penalty.scalars())),
            tuple(penalty for penalty in proxes if isinstance(penalty, Projection) or any(penalty.scalars())),
            metric,
        )

    def _without_norms(self, gradients: tuple[Penalty, ...], proxes: tuple[Penalty, ...], metric: str | None) -> None:
        """Refuse what would have to be known before a rule has its norms."""
        for penalty in gradients:
            if penalty.by_row:
                raise ValueError(
                    f"penalty={penalty!r}: {self.rule.name} needs the norm of the whole update before the first row is "
                    "stepped, and this gradient needs that of each row: prox= takes it"
                )
        for penalty in proxes:
            if metric is None and not isinstance(penalty, Projection):
                raise ValueError(
                    f"prox={penalty!r}: {self.rule.name} goes as far as the norms of a tensor say, and this form needs "
                    "a step known beforehand: set metric='lr'"
                )


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
