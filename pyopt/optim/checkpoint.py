"""What a state_dict holds, and what must be so before one is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array, copied, described
from ..kernels import checks
from ..kernels.spec import Rule
from ..kernels.step import Beside
from ..validate import VERSION, fields, version
from .assembly import Assembly, brief
from .group import OPTIONS, ParamGroup
from .slots import filled, placed, slots


def snapshot(rule: Rule, made: Assembly, param_groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return copies of all that does not follow from the parameters, as a step would find it now."""
    values = [dict(group) for group in param_groups]
    groups = [ParamGroup(rule, each) for each in values]
    of = made.of_each(groups)
    beside = [filled(group, p, have) for group, p, have in zip(of, made.params, made.beside, strict=True)]
    for i, group in enumerate(of):
        if group.options["shadow_dtype"] is None:  # any more: what is left of one
            beside[i] = beside[i]._replace(shadow=None)
    states = [{key: copied(x) for key, x in own.items()} for own in made.described(rule, beside)]
    saved, first = [], 0
    for group_dict in values:
        count = len(group_dict["params"])
        own = {key: dict(x) if isinstance(x, dict) else x for key, x in group_dict.items()}
        saved.append({**own, "params": list(range(first, first + count))})
        first += count
    return {"version": VERSION, "rule": rule.name, "state": dict(enumerate(states)), "param_groups": saved}


def group_values(
    state_dict: Mapping[str, Any], rule: Rule, param_groups: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the parameter groups as they were saved; ValueError where they are others."""
    version(state_dict)
    fields("the state_dict", state_dict, ("version", "rule", "state", "param_groups"))
    if state_dict["rule"] != rule.name:
        raise ValueError(f"rule of the state_dict is {state_dict['rule']!r}: must be {rule.name!r}")
    saved = state_dict["param_groups"]
    if not isinstance(saved, (list, tuple)):
        raise ValueError(f"param_groups of the state_dict is {brief(saved)}: must be a list of dicts")
    if len(saved) != len(param_groups):
        raise ValueError(f"the state_dict has {len(saved)} parameter groups, the optimizer {len(param_groups)}")
    defaults = {**rule.Values()._asdict(), **OPTIONS}  # of what has been added since it was saved
    values = []
    for i, (have, given) in enumerate(zip(param_groups, saved, strict=True)):
        fields(f"group {i} of the state_dict", given, have, defaults)
        names = given["param_names"]
        if not isinstance(names, (list, tuple)) or tuple(names) != have["param_names"]:
            raise ValueError(
                f"group {i} of the state_dict has the parameters {names!r}: must be {list(have['param_names'])}"
            )
        values.append({**defaults, **given, "params": have["params"], "param_names": have["param_names"]})
    return values


def read_states(
    saved: Mapping[int, Any], groups: Sequence[ParamGroup], params: Sequence[Array], names: Sequence[str]
) -> tuple[list[Beside], list[int], list[float]]:
    """Return checked copies of what stands beside the parameters, and the step counts and carries.

    ``groups`` has that of each parameter.
    """
    if not isinstance(saved, Mapping) or set(saved) != set(range(len(params))):
        raise ValueError(f"the state_dict has states for {brief(saved)}: must be for 0 to {len(params) - 1}")
    found: list[Beside] = []
    for i, (group, p) in enumerate(zip(groups, params, strict=True)):
        entry, name = saved[i], names[i]
        own_slots = slots(group, p)
        known = {"step", "carry", *(slot.name for slot in own_slots.flat() if slot.on or slot.name != "shadow")}
        needed = {slot.name for slot in own_slots.flat() if slot.on and slot.start is not None} - {"shadow"}
        fields(f"{name} in the state_dict", entry, known, known - needed - {"step", "carry"})
        t = entry["step"]
        if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or not 0 <= t < 1 << 62:
            raise ValueError(f"step of {name} is {t!r} in the state_dict: must be an integer in [0, 2**62)")
        carry = entry["carry"]
        if isinstance(carry, bool) or not isinstance(carry, (int, float)) or not math.isfinite(carry):
            raise ValueError(f"carry of {name} is {carry!r} in the state_dict: must be a finite number")
        for slot in own_slots.flat():
            array = entry.get(slot.name)
            if array is None and slot.name not in needed:
                continue
            if described(array) != (slot.shape, slot.dtype) or checks.masked(array):
                raise ValueError(f"{slot.name} of {name} is {brief(array)}: must be {slot.dtype} of shape {slot.shape}")
        found.append(placed(p, own_slots.map(lambda slot, entry=entry: entry.get(slot.name))))
    order = range(len(params))
    return found, [int(saved[i]["step"]) for i in order], [float(saved[i]["carry"]) for i in order]


def loaded(
    state_dict: Mapping[str, Any], rule: Rule, current: Callable[[], Assembly],
    param_groups: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], Assembly]:  # fmt: skip
    """Return the parameter groups of a snapshot, and what is made of it, checked against what there is."""
    values = group_values(state_dict, rule, param_groups)
    groups = [ParamGroup(rule, value) for value in values]
    had = current()
    beside, steps, carries = read_states(state_dict["state"], had.of_each(groups), had.params, had.names)
    return values, Assembly.of(groups, had.own, had.names, beside, steps, carries)
