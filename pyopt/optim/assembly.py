"""What an optimizer is made of: groups, arrays and the plan that steps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays.backend import Array, check_parameters, make_plan
from .checkpoint import brief
from .group import PLACES, Group


class Made(NamedTuple):
    """All that an optimizer was made of, replaced as one: a change takes effect as a whole or not at all."""

    groups: list[Group]
    own: list[tuple[Array, ...]]  # the parameters by group; names, states and plan go through them in order
    names: list[str]
    states: list[list[Array | None]]  # see Group.places
    structures: list[Any]
    plan: Any

    @classmethod
    def of(cls, groups: list[Group], own: list[tuple[Array, ...]], names: list[str],
           states: Sequence[Sequence[Array | None]], steps: list[int], carries: list[float]) -> Made:  # fmt: skip
        """Return the whole, with new arrays where a state is None that belongs to a parameter."""
        params = [array for arrays in own for array in arrays]
        index = [i for i, arrays in enumerate(own) for _ in arrays]
        check_parameters(names, params)
        filled = [groups[i].states(p, have) for i, p, have in zip(index, params, states, strict=True)]
        structures = [group.structure for group in groups]
        used = [
            [array if place.on else None for array, place in zip(row, groups[i].places(p), strict=True)]
            for i, p, row in zip(index, params, filled, strict=True)
        ]
        stages = [group.stages for group in groups]
        plan = make_plan(f"rules.{groups[0].rule.kernel}", names, params, used, index, stages, steps, carries)
        return cls(groups, own, names, filled, structures, plan)

    def over(self, states: Sequence[Sequence[Array | None]]) -> Made:
        """Return the same over other states, from the same step counts on."""
        return Made.of(self.groups, self.own, self.names, states, *self.plan.progress())

    @property
    def params(self) -> list[Array]:
        """All parameters in their order."""
        return [p for own in self.own for p in own]

    def kept(self, place: str, missing: str) -> list[Array]:
        """Return the arrays of one of PLACES; ValueError, with what is ``missing``, where a parameter has none."""
        found = [states[PLACES.index(place) - len(PLACES)] for states in self.states]
        for name, array in zip(self.names, found, strict=True):
            if array is None:
                raise ValueError(f"{name} {missing}")
        return found  # type: ignore[return-value]

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
