"""The face of an engine: what ``reference``, ``cpu``, ``cuda`` and plans over several devices have in common.

A plan is made of (names, params, beside, groups, members, steps, carries), after what its engine needs besides:
``names[i]`` and ``params[i]`` belong together, ``beside[i]`` is a ``step.Beside`` of arrays or None, ``members[i]`` the
number of its group among ``groups``, all of one rule; ``steps`` and ``carries`` are what each tensor starts from. The
groups of a request are those of the plan with other numbers: their stages are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .step import Group, Request


class Plan(Protocol):
    """All tensors of an optimizer, ready to step. An error leaves everything as it was."""

    @property
    def norm(self) -> float | None:
        """The norm of the gradients of the last step, scaled and not clipped; None where it was not needed."""

    @property
    def skipped(self) -> bool:
        """Whether the last step was none, because of an infinite or NaN gradient."""

    def step(self, grads: Sequence[Any], request: Request) -> None:
        """Step every tensor whose gradient is not None."""

    def check(self, grads: Sequence[Any], zero: bool) -> Any:
        """Raise where ``step`` cannot take these gradients."""

    def step_rows(self, i: int, indices: Any, values: Any, request: Request, lazy: float) -> None:
        """Step the rows ``indices`` of tensor ``i`` with the rows of ``values`` as gradients.

        ``lazy`` is what the step multiplies all other rows by: noted in ``row_decay``, where there is one, and done
        when they are touched.
        """

    def check_rows(self, i: int, indices: Any, values: Any) -> Any:
        """Raise where ``step_rows`` cannot take these."""

    def catch_up(self) -> None:
        """Decay all rows by what they missed in ``step_rows``."""

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries."""

    def refresh(self, groups: Sequence[Group]) -> None:
        """Bring changed hyper-parameters to steps that are repeated without a call, as a CUDA graph does."""
