"""What a function on lists does: it makes a plan of what it is given, steps once, and writes the step counts back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array, is_list, make_plan
from ..arrays.gpu import by_view
from ..kernels import checks
from ..kernels.spec import Rule
from ..kernels.step import Beside, Request
from ..optim.group import GRAD_SCALE, OPTIONS, ZERO_GRADS, ParamGroup


def on_lists(rule: Rule) -> Callable[..., None]:
    """Return the functional form of ``rule``."""
    lists = [f"{state.name}s" for state in rule.states]
    signature = _signature(rule)

    def function(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        for name in ("params", "grads"):
            if not is_list(given[name]):
                raise TypeError(f"{name} is {type(given[name]).__name__}: a list of arrays is needed")
        params = list(given["params"])
        group = ParamGroup(rule, _hypers(rule, given))
        steps = _steps(given["state_steps"], len(params))
        taken = [int(step.item()) for step in steps]
        columns = [
            _complete(given[name], name, len(params)) if on else [None] * len(params)
            for name, on in zip(lists, group.structure[0], strict=True)
        ]
        names = [f"params[{i}]" for i in range(len(params))]
        beside = [Beside(tuple(column[i] for column in columns)) for i in range(len(params))]
        scale, zero = GRAD_SCALE.check(given["grad_scale"]), ZERO_GRADS.check(given["zero_grads"])
        plan = make_plan(names, params, beside, [group.group], [0] * len(params), taken, list(map(float, taken)))
        grads = list(given["grads"])
        _apart(steps, {"params": params, "grads": grads, **dict(zip(lists, columns, strict=True))})
        stepped = [i for i, g in enumerate(grads[: len(steps)]) if g is not None]
        done = [(steps[i], np.full_like(steps[i], taken[i] + 1)) for i in stepped]
        plan.step(grads, Request([group.group], scale, zero, notes=(done,)))

    function.__name__ = function.__qualname__ = rule.name
    function.__module__ = __package__ or ""
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = rule.doc
    return by_view("params", *lists, "state_steps")(function)


def argument_lists(rule: Rule) -> list[str]:
    """Return the names of the lists, which come by position."""
    return ["params", "grads", *(f"{state.name}s" for state in rule.states), "state_steps"]


def defaults(rule: Rule) -> dict[str, Any]:
    """Return what comes by name: every hyper-parameter that is no start value, ``betas`` as beta1 and beta2."""
    found: dict[str, Any] = {}
    # what belongs to arrays that the caller owns or to none
    without = {"ema_decay", "ema_bias_correction", *(state.start for state in rule.states)}
    for hyper in rule.all_hypers:
        if isinstance(hyper.default, tuple):
            found |= {f"{hyper.name[:-1]}{i}": x for i, x in enumerate(hyper.default, 1)}
        elif hyper.name not in without:
            found[hyper.name] = hyper.default
    found |= {name: OPTIONS[name] for name in ("penalty", "prox", "metric", "rounding", "seed")}
    return found | {"grad_scale": 1.0, "zero_grads": False}


def _signature(rule: Rule) -> inspect.Signature:
    by_position, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            *(inspect.Parameter(name, by_position) for name in argument_lists(rule)),
            *(inspect.Parameter(name, by_name, default=x) for name, x in defaults(rule).items()),
        ]
    )


def _hypers(rule: Rule, given: dict[str, Any]) -> dict[str, Any]:
    """Return the values that ``Group`` takes."""
    if given["rounding"] == "remainder":
        raise ValueError(
            "rounding='remainder': must be 'nearest' or 'stochastic', a remainder needs an array of its own"
        )
    values: dict[str, Any] = {name: given.get(name, default) for name, default in OPTIONS.items()}
    for hyper in rule.all_hypers:
        if isinstance(hyper.default, tuple):
            values[hyper.name] = tuple(given[f"{hyper.name[:-1]}{i}"] for i in (1, 2))
        else:
            values[hyper.name] = given.get(hyper.name, hyper.default)
    return values


def _column(given: Any, name: str, count: int) -> list[Any]:
    """Return the list of one state, with an entry for each parameter."""
    if not isinstance(given, Iterable):
        raise TypeError(f"{name} is {type(given).__name__}: a list of arrays is needed")
    column = list(given)
    if len(column) != count:
        raise ValueError(f"{name} has {len(column)} entries for {count} parameters")
    return column


def _complete(given: Any, name: str, count: int) -> list[Any]:
    """Return the list of a state that the update needs."""
    column = _column(given, name, count)
    for i, array in enumerate(column):
        if array is None:
            raise TypeError(f"{name}[{i}] is None: an array is needed, zeros before the first step")
    return column


def _steps(given: Any, count: int) -> list[Array]:
    """Return the step counts as one-element arrays that can be written to."""
    vector = isinstance(given, np.ndarray) and given.ndim > 0
    steps = _column([given[i : i + 1] for i in range(len(given))] if vector else given, "state_steps", count)
    for i, step in enumerate(steps):
        if (
            not isinstance(step, np.ndarray)
            or step.size != 1
            or step.dtype.kind not in "iuf"
            or not step.flags.writeable
        ):
            raise TypeError(f"state_steps[{i}] is {step!r}: a writeable array of one number is needed")
        taken = step.item()
        if not 0 <= taken < 1 << 62 or taken != int(taken):
            raise ValueError(f"state_steps[{i}] is {taken!r}: must be a whole number in [0, 2**62)")
        real = step.dtype.kind == "f"
        if not (float(step.dtype.type(taken + 1)) > taken if real else taken < np.iinfo(step.dtype).max):
            raise ValueError(f"state_steps[{i}] is {taken!r}: {step.dtype} does not hold {int(taken) + 1}, use int64")
    return steps


def _apart(steps: Sequence[Array], others: dict[str, Sequence[Any]]) -> None:
    """Refuse step counts that share memory with each other, or with what a step reads or writes."""
    named = [(f"{name}[{i}]", a) for name, arrays in others.items() for i, a in enumerate(arrays)]
    if pair := checks.overlap([(f"state_steps[{i}]", step) for i, step in enumerate(steps)], named):
        raise ValueError(f"{pair[0]} and {pair[1]} share memory: each step count needs memory of its own")
