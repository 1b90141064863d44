"""The immutable bundle of groups, arrays and plan that an optimizer swaps as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..arrays.backend import Array, check_parameters, described, make_plan
from ..arrays.gpu import as_numpy, facts, is_tensor
from ..kernels import checks
from ..kernels.backend import Plan
from ..kernels.spec import Rule
from ..kernels.step import SLOTS, Beside
from .group import ParamGroup
from .slots import filled, in_use, moved


class Assembly(NamedTuple):
    """All that an optimizer was made of, replaced as one: a change takes effect as a whole or not at all."""

    groups: list[ParamGroup]
    own: list[tuple[Any, ...]]  # the parameters by group, as given; names, beside and plan go through them in order
    params: list[Array]  # the same, tensors of PyTorch in this process's memory by view
    tensors: list[Any]  # those tensors, which may be given other memory,
    facts: list[Any]  # and what they were when they were viewed
    torch: bool  # whether there are tensors at all, on a GPU or not
    names: list[str]
    beside: list[Beside]
    used: list[Beside]  # the same without what is off, as the plan has it
    structures: list[Any]
    plan: Plan

    @classmethod
    def of(cls, groups: list[ParamGroup], own: list[tuple[Any, ...]], names: list[str], beside: Sequence[Beside],
           steps: list[int], carries: list[float], had: Assembly | None = None) -> Assembly:  # fmt: skip
        """Return the whole, with new arrays in the slots that are on and empty.

        What it begins with is looked at no more where ``had`` has it: many groups are added one by one.
        """
        given = [*chain(*own)]
        params = [as_numpy(a) for a in given]
        tensors = [a for a, p in zip(given, params, strict=True) if a is not p]
        members = _of_each(range(len(own)), own)
        check_parameters(names, params)
        structures = [group.structure for group in groups]
        known = len(had.names) if had is not None and had.structures == structures[: len(had.groups)] else 0
        kept, used = [*beside[:known]], [*had.used] if had is not None and known else []
        for i in range(known, len(names)):
            group = groups[members[i]]
            kept.append(filled(group, params[i], beside[i]))
            used.append(in_use(group, params[i], kept[i]))
        plan = make_plan(names, params, used, [group.group for group in groups], members, steps, carries)
        torch = any(map(is_tensor, given))
        return cls(groups, own, params, tensors, facts(tensors), torch, names, kept, used, structures, plan)

    def over(self, beside: Sequence[Beside]) -> Assembly:
        """Return the same with other arrays beside the parameters, from the same step counts on."""
        return Assembly.of(self.groups, self.own, self.names, beside, *self.plan.progress())

    def followed(self) -> Assembly:
        """Return the same over the memory that its tensors have now; ValueError where one has become another."""
        if not self.tensors or (now := facts(self.tensors)) == self.facts:
            return self
        for t, (_, *was), (_, *fact) in zip(self.tensors, self.facts, now, strict=True):
            if was != fact:
                name = next(n for n, a in zip(self.names, self.given, strict=True) if a is t)
                raise ValueError(
                    f"{name} is {_tensor(*fact)}, and was {_tensor(*was)} when the optimizer was made: make a new one"
                )
        return self.over(self.beside)

    def extended(self, group: ParamGroup, pairs: Sequence[tuple[str, Any]]) -> Assembly:
        """Return the same and one more group, of named arrays; ValueError where a name is there already."""
        arrays = tuple(array for _, array in pairs)
        names = [*self.names, *(name for name, _ in pairs)]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"the names {twice} are used twice")
        steps, carries = self.plan.progress() if self.names else ([], [])
        beside = [*self.beside, *[Beside.nothing(group.rule)] * len(arrays)]
        return Assembly.of([*self.groups, group], [*self.own, arrays], names, beside,
                           [*steps, *[0] * len(arrays)], [*carries, *[0.0] * len(arrays)], self)  # fmt: skip

    def over_copies(self, given: list[Any]) -> Assembly:
        """Return the same over copies of the parameters on another device; ValueError where they are no such."""
        new = [as_numpy(a) for a in given]
        if [described(p) for p in new] != [described(p) for p in self.params]:
            raise ValueError(f"{brief([described(p) for p in new])}: must have the shapes and dtypes of the parameters")
        check_parameters(self.names, new)
        beside = [moved(p, arrays) for p, arrays in zip(new, self.beside, strict=True)]
        left = iter(given)
        own = [tuple(next(left) for _ in arrays) for arrays in self.own]
        return Assembly.of(self.groups, own, self.names, beside, *self.plan.progress())

    def intact(self, param_groups: Sequence[Mapping[str, Any]]) -> Assembly:
        """Return the same; ValueError where ``param_groups`` is a list that it was not made of."""
        if len(param_groups) != len(self.own):
            raise ValueError(
                f"{len(param_groups)} parameter groups, where the optimizer was made of {len(self.own)}: "
                "use add_param_group, and leave the list as it is"
            )
        for own, values in zip(self.own, param_groups, strict=True):
            if values.get("params") is not own:
                raise ValueError("the 'params' of a parameter group were replaced: use add_param_group")
        return self

    def still(self) -> None:
        """Raise where a schedule, in the middle of a step, has given a tensor other memory."""
        if facts(self.tensors) != self.facts:
            raise ValueError("a schedule moved the memory of a parameter: only between steps may that be done")

    def described(self, rule: Rule, beside: Sequence[Beside]) -> list[dict[str, Any]]:
        """Return step count and carry of each parameter, and what stands beside it, by name."""
        names = [*(state.name for state in rule.states), *SLOTS]
        return [
            {"step": t, "carry": carry}
            | {name: array for name, array in zip(names, own.flat(), strict=True) if array is not None}
            for t, carry, own in zip(*self.plan.progress(), beside, strict=True)
        ]

    def of_each(self, groups: Sequence[ParamGroup]) -> list[ParamGroup]:
        """Return the group of each parameter among ``groups``: those of the optimizer, or others in their place."""
        return _of_each(groups, self.own)

    def renewed(self, param_groups: Sequence[dict[str, Any]]) -> bool:
        """Take over what was written to the groups; return whether other arrays or stages are needed for it."""
        for group, values in zip(self.groups, param_groups, strict=True):
            group.refresh(values)
        return self.structures != [group.structure for group in self.groups]

    @property
    def given(self) -> list[Any]:
        """All parameters in their order, as given."""
        return [*chain(*self.own)]

    def kept(self, slot: str, missing: str) -> list[Array]:
        """Return the arrays of one of SLOTS; ValueError, with what is ``missing``, where a parameter has none."""
        found = [getattr(beside, slot) for beside in self.beside]
        for name, array in zip(self.names, found, strict=True):
            if array is None:
                raise ValueError(f"{name} {missing}")
        return found

    def position(self, param: str | int | None) -> int:
        """Return the position of the parameter that a name, a position or None stands for."""
        names = self.names
        if param is None and len(names) == 1:
            return 0
        if isinstance(param, str) and param in names:
            return names.index(param)
        if isinstance(param, (int, np.integer)) and not isinstance(param, bool) and 0 <= param < len(names):
            return int(param)
        raise ValueError(f"param={param!r}: must be a position in [0, {len(names)}) or a name, one of {brief(names)}")


def _of_each(things: Iterable[Any], own: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return what belongs to each parameter, of one thing for each group."""
    return [thing for thing, arrays in zip(things, own, strict=True) for _ in arrays]


def brief(value: Any) -> str:
    """Return what ``value`` is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"{'masked ' if checks.masked(value) else ''}{value.dtype} of shape {value.shape}"
    text = repr(sorted(value, key=str)) if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _tensor(device: Any, dtype: Any, shape: Any, strides: Any) -> str:
    return f"{dtype} of shape {tuple(shape)} and strides {strides} on {device}"
