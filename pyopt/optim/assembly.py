"""What an optimizer is made of: groups, arrays and the plan that steps them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..arrays.backend import Array, check_parameters, make_plan
from ..kernels.backend import Plan
from ..kernels.step import Beside
from .checkpoint import brief
from .group import ParamGroup
from .slots import filled, in_use


class Assembly(NamedTuple):
    """All that an optimizer was made of, replaced as one: a change takes effect as a whole or not at all."""

    groups: list[ParamGroup]
    own: list[tuple[Array, ...]]  # the parameters by group; names, beside and plan go through them in order
    names: list[str]
    beside: list[Beside]
    structures: list[Any]
    plan: Plan

    @classmethod
    def of(cls, groups: list[ParamGroup], own: list[tuple[Array, ...]], names: list[str], beside: Sequence[Beside],
           steps: list[int], carries: list[float]) -> Assembly:  # fmt: skip
        """Return the whole, with new arrays in the slots that are on and empty."""
        params = [*chain(*own)]
        members = [i for i, arrays in enumerate(own) for _ in arrays]
        check_parameters(names, params)
        kept = [filled(groups[i], p, have) for i, p, have in zip(members, params, beside, strict=True)]
        used = [in_use(groups[i], p, have) for i, p, have in zip(members, params, kept, strict=True)]
        plan = make_plan(names, params, used, [group.group for group in groups], members, steps, carries)
        return cls(groups, own, names, kept, [group.structure for group in groups], plan)

    def over(self, beside: Sequence[Beside]) -> Assembly:
        """Return the same with other arrays beside the parameters, from the same step counts on."""
        return Assembly.of(self.groups, self.own, self.names, beside, *self.plan.progress())

    @property
    def params(self) -> list[Array]:
        """All parameters in their order."""
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
