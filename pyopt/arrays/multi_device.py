"""Parameters on several devices: a plan for each as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..kernels import checks
from ..kernels.backend import Plan
from ..kernels.step import Beside, Group, Request
from . import gpu


class Part(NamedTuple):
    """The tensors that one device has."""

    plan: Plan
    tensors: list[int]
    on_gpu: bool


class MultiDevicePlan:
    """Plans on several devices as one ``backend.Plan``; a norm over several devices is refused."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.count = sum(len(part.tensors) for part in parts)
        self.last: Plan | None = None  # that stepped rows, where that was the last step

    @property
    def norm(self) -> float | None:
        """The norm of the gradients of the last step, where it was one of rows."""
        return None if self.last is None else self.last.norm

    @property
    def skipped(self) -> bool:
        """Whether the last step was none."""
        return self.last is not None and bool(self.last.skipped)

    def step(self, grads: Sequence[Any], request: Request) -> None:
        """Step every part, when all gradients on GPUs have been checked; the CPU engine checks its own first."""
        if request.max_norm != math.inf or request.skip:
            raise ValueError("max_grad_norm, skip_nonfinite and a DynamicLossScale need all parameters on one device")
        shares = self.shares(grads)
        for part, share in shares:
            if part.on_gpu:
                part.plan.check(share, request.zero)
        self.last = None
        for part, share in sorted(shares, key=lambda pair: pair[0].on_gpu):
            part.plan.step(share, request)
            request = request._replace(notes=())

    def check(self, grads: Sequence[Any], zero: bool) -> None:
        """Raise where ``step`` cannot take these gradients."""
        for part, share in self.shares(grads):
            part.plan.check(share, zero)

    def shares(self, grads: Sequence[Any]) -> list[tuple[Part, tuple[Any, ...]]]:
        """Return the gradients of each part."""
        hold = tuple(grads)
        checks.count(hold, self.count)
        return [(part, tuple(hold[i] for i in part.tensors)) for part in self.parts]

    def part_of(self, i: int) -> tuple[Plan, int]:
        """Return the plan that has tensor ``i``, and its place there."""
        return next((plan, tensors.index(i)) for plan, tensors, _ in self.parts if i in tensors)

    def step_rows(self, i: int, indices: Any, values: Any, request: Request, lazy: float) -> None:
        """Step rows of a tensor by the plan that has it."""
        plan, k = self.part_of(i)
        self.last = plan
        plan.step_rows(k, indices, values, request, lazy)

    def check_rows(self, i: int, indices: Any, values: Any) -> None:
        """Raise where ``step_rows`` cannot take these."""
        plan, k = self.part_of(i)
        plan.check_rows(k, indices, values)

    def catch_up(self) -> None:
        """Decay all rows by what they missed in ``step_rows``."""
        for part in self.parts:
            part.plan.catch_up()

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries."""
        steps, carries = [0] * self.count, [0.0] * self.count
        for plan, tensors, _ in self.parts:
            for i, t, carry in zip(tensors, *plan.progress(), strict=True):
                steps[i], carries[i] = t, carry
        return steps, carries

    def refresh(self, groups: Sequence[Group]) -> None:
        """Bring changed hyper-parameters to the steps that CUDA graphs hold."""
        for part in self.parts:
            part.plan.refresh(groups)


def make_plan(
    on_cpu: Callable[..., Plan], names: Sequence[str], params: Sequence[Any], beside: Sequence[Beside],
    groups: Sequence[Group], members: Sequence[int], steps: Sequence[int], carries: Sequence[float],
) -> Plan:  # fmt: skip
    """Return the plan for arrays of which some are on GPUs; ``on_cpu`` makes that of the rest."""
    from ..kernels.cuda.plan import Plan as CudaPlan

    devices: dict[Any, list[int]] = {}
    for i, p in enumerate(params):
        devices.setdefault(gpu.gpu_of(p) if gpu.on_gpu(p) else None, []).append(i)
    parts = []
    for device, tensors in devices.items():
        own: Any = ([x[i] for i in tensors] for x in (names, params, beside))
        rest: Any = ([x[i] for i in tensors] for x in (members, steps, carries))
        args = (*own, groups, *rest)
        parts.append(Part(on_cpu(*args) if device is None else CudaPlan(device, *args), tensors, device is not None))
    return parts[0].plan if len(parts) == 1 else MultiDevicePlan(parts)
