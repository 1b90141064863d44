"""Optimizer updates on lists that the caller owns, in the argument order of torch.optim.functional.

``adamw(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, *, lr, beta1, ...)`` updates params, states
and steps in place. Each list has one entry for each parameter; that of a state which the hyper-parameters switch off is
not looked at. ``state_steps`` is a list of one-element arrays, or one vector: the number of steps taken before. A
gradient of None skips its parameter. Errors come before anything is touched, as in ``Optimizer.step``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .arrays.backend import Array, is_list, make_plan
from .kernels import checks
from .kernels.cpu import engine, isa
from .kernels.numerics import codecs
from .kernels.rules import RULES
from .kernels.spec import Rule
from .kernels.step import Beside, Request
from .optim.group import GRAD_SCALE, OPTIONS, ZERO_GRADS, ParamGroup


def _functional(rule: Rule) -> Callable[..., None]:
    """Return the functional form of ``rule``."""
    lists = [f"{state.name}s" for state in rule.states]
    signature = _signature(rule, ["params", "grads", *lists, "state_steps"])

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
        request = Request([group.group], GRAD_SCALE.check(given["grad_scale"]), ZERO_GRADS.check(given["zero_grads"]))
        carries = list(map(float, taken))
        plan = make_plan(names, params, beside, request.groups, [0] * len(params), taken, carries)
        plan.step(given["grads"], request)
        for step, t in zip(steps, plan.progress()[0], strict=True):
            step[...] = t

    function.__name__ = function.__qualname__ = rule.name
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = rule.doc
    return function


def _signature(rule: Rule, lists: Sequence[str]) -> inspect.Signature:
    """Return the lists by position, then every hyper-parameter that is no start value, ``betas`` as beta1 and beta2."""
    defaults: dict[str, Any] = {}
    # what belongs to arrays that the caller owns or to none
    without = {"ema_decay", "ema_bias_correction", *(state.start for state in rule.states)}
    for hyper in rule.all_hypers:
        if isinstance(hyper.default, tuple):
            defaults |= {f"{hyper.name[:-1]}{i}": x for i, x in enumerate(hyper.default, 1)}
        elif hyper.name not in without:
            defaults[hyper.name] = hyper.default
    defaults |= {name: OPTIONS[name] for name in ("penalty", "prox", "metric", "rounding", "seed")}
    defaults |= {"grad_scale": 1.0, "zero_grads": False}
    return inspect.Signature(
        [
            *(inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in lists),
            *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=x) for name, x in defaults.items()),
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


def accumulate(totals: Sequence[Array], grads: Sequence[Array | None]) -> None:
    """Add gradients of several batches up, in the precision of ``totals``, before they are stepped with.

    Parameters
    ----------
    totals : sequence of arrays
        float32 or float64, dense, updated in place; zeros before the first batch (``zero_grads=True`` leaves them so).
    grads : sequence of arrays or None
        One for each total, of its shape and memory order and of its dtype, float32, bfloat16 or float16; None adds
        nothing. Sums of 16 bits would lose what is smaller than 1/256 of them.

    Raises
    ------
    TypeError, ValueError
        Before anything is touched.
    """
    names = [f"totals[{i}]" for i in range(len(totals))]
    if len(grads) != len(totals):
        raise ValueError(f"{len(grads)} gradients for {len(totals)} totals: give one each, or None to add nothing")
    for i, (total, g) in enumerate(zip(totals, grads, strict=True)):
        checks.dense_array(total, names[i])
        if not total.flags.writeable:
            raise ValueError(f"{names[i]} is read-only: it is updated in place")
        if g is not None:
            allowed = checks.STORED[checks.STORED.index(total.dtype.name) :]
            checks.like(g, total, f"grads[{i}]", allowed)
            if np.may_share_memory(g, total):
                raise ValueError(f"grads[{i}] and {names[i]} share memory: an update in place needs arrays of its own")
    for total, g in zip(totals, grads, strict=True):
        if g is not None:
            name = f"codecs.add_{codecs.SHORT[g.dtype.name]}"
            raw = g.view(np.uint16) if g.itemsize == 2 else g  # which the tile itself decodes
            engine.sweep(isa.tiles(), name, (total, raw), (total.itemsize, g.itemsize), (total.size,))


sgd = _functional(RULES["sgd"])
momentum = _functional(RULES["momentum"])
adagrad = _functional(RULES["adagrad"])
rmsprop = _functional(RULES["rmsprop"])
adam = _functional(RULES["adam"])
adamw = _functional(RULES["adamw"])
lion = _functional(RULES["lion"])
