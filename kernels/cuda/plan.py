"""The plan of the GPU engine: all tensors of an optimizer, and the step over them.

A step enqueues up to three kernels for each variant of the stages on the caller's current stream and waits for none of
them. What changed since the last step is uploaded before: addresses of gradients, hyper-parameters. Step counts,
carries, norm and scalars live on the device, so that a CUDA graph may hold a step: it has tables of its own, and
replays with the hyper-parameters that ``refresh`` wrote last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..native import write
from ..step import Beside, Group, Request
from .launches import Launches
from .sparse_rows import RowSteps, SparseRows
from .tables import DeviceTables
from .tensor_list import TensorList


class Plan:
    """All tensors of an optimizer on one GPU: a ``backend.Plan``. ``device`` is a ``driver.GPU``."""

    def __init__(self, device: Any, names: Sequence[str], params: Sequence[Any], beside: Sequence[Beside],
                 groups: Sequence[Group], members: Sequence[int], steps: Sequence[int],
                 carries: Sequence[float]) -> None:  # fmt: skip
        self.device = device
        self.list = TensorList(device, len(groups[0].rule.states), names, params, beside)
        for i, k in enumerate(members):
            if groups[k].stages.rows:
                self.list.whole_rows(i)
        self.tables = DeviceTables(device, self.list, groups, members, steps, carries)
        self.launches = Launches(device, self.list, self.tables)
        self.rows = RowSteps(device, self.list, self.tables, self.launches)
        self.limited = self.checked = False  # whether the last step computed a norm, and looked for what is not finite

    def step(self, grads: Sequence[Any], request: Request) -> None:
        """Enqueue a step of every tensor whose gradient is not None."""
        before = self.device.enter()
        try:
            hold = tuple(grads)  # until everything is enqueued
            self.ask(request)
            found = self.list.take(hold, request.zero)
            stream = self.device.stream(self.list.library)
            late = self.rows.late(stream, hold) if self.rows.lagging else set()
            numbers = self.tables.bring(stream, found, request)  # the last that may raise for what a caller gave
            write(*request.notes or ((),))
            if late:
                self.rows.catch_up(stream, late)
            self.enqueue(stream, request, numbers)
            self.tables.count(request.skip)
        finally:
            self.device.leave(before)

    def ask(self, request: Request) -> None:
        """Ask the groups for their numbers, before arrays are checked: a schedule may do anything to them."""
        self.tables.put_groups(request.groups, request.grad_scale)
        if request.still is not None:
            request.still()

    def check(self, grads: Sequence[Any], zero: bool) -> None:
        """Raise where ``step`` cannot take these gradients."""
        self.list.check(tuple(grads), zero)

    def enqueue(self, stream: Any, request: Request, numbers: int) -> None:
        """Launch the kernels of a step, which reads tables at the address ``numbers``."""
        tables, launch = self.tables, self.device.launch
        given, info, result, partial = (numbers + tables.given_after, tables.info.address, tables.result.address,
                                        tables.partial.address)  # fmt: skip
        self.note(request, any(group.h.max_tensor_norm is not None for group in request.groups))
        leaves, prologue, norms, update = self.launches.of(request, self.limited)
        for x in leaves:
            launch(stream, x.config, x.kernel, given, *x.after, info, partial, result)
        launch(stream, prologue.config, prologue.kernel, given, info, numbers, tables.progress.address, result, partial,
               tables.scratch.address)  # fmt: skip
        for x in (*norms, *update):
            launch(stream, x.config, x.kernel, *x.before, given, *x.after)

    def note(self, request: Request, own_norms: bool) -> None:
        """Note what this step computes for ``norm`` and ``skipped``; ``own_norms``: single tensors have a limit."""
        self.limited = request.skip or request.max_norm != math.inf or own_norms
        self.checked = request.skip

    # ---- some rows

    def step_rows(self, i: int, indices: Any, values: Any, request: Request, lazy: float) -> None:
        """Enqueue a step of the rows ``indices`` of tensor ``i``."""
        before = self.device.enter()
        try:
            self.ask(request)
            v = self.list.check_rows(i, indices, values)
            stream = self.device.stream(self.list.library)
            if self.device.capturing(stream):
                raise RuntimeError("step_rows takes its indices from the host: a CUDA graph cannot hold it")
            write(*request.notes or ((),))
            h = request.groups[self.tables.members[i]].h
            self.list.forget()
            self.note(request, h.max_tensor_norm is not None)
            self.rows.enqueue(stream, i, SparseRows.of(indices), v, request, lazy, self.limited)
            self.tables.count(request.skip, i)
            if self.list.beside[i].row_decay is not None:
                self.rows.note(i, lazy, stream)
        finally:
            self.device.leave(before)

    def check_rows(self, i: int, indices: Any, values: Any) -> None:
        """Raise where ``step_rows`` cannot take these."""
        self.list.check_rows(i, indices, values)

    def catch_up(self) -> None:
        """Decay all rows by what they missed in ``step_rows``."""
        before = self.device.enter()
        try:
            self.list.still()
            self.rows.catch_up(self.device.stream(self.list.library), self.rows.lagging)
        finally:
            self.device.leave(before)

    # ---- hyper-parameters of captured steps, and what is read back

    def refresh(self, groups: Sequence[Group]) -> None:
        """Bring changed hyper-parameters to all captured steps; ``grad_scale`` and limits stay those of the capture."""
        before = self.device.enter()
        try:
            self.tables.refresh(self.device.stream(self.list.library), groups)
        finally:
            self.device.leave(before)

    @property
    def norm(self) -> float | None:
        """The norm of the gradients of the last step, or None where it was not needed; waits for the device."""
        return float(self.read(0)) if self.limited else None

    @property
    def skipped(self) -> bool:
        """Whether the last step was none, because of an infinite or NaN gradient; waits for the device."""
        return self.checked and bool(self.read(1))

    def read(self, k: int) -> Any:
        """Return a number of the last step's result."""
        return self.device.download(self.tables.result.address + 8 * k, 8).view(np.float64)[0]

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries; waits for the device."""
        return self.tables.read_progress()
