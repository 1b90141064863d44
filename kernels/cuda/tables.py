"""What a plan keeps in the memory of its GPU, and what a step changes there: a copy here, uploaded where it differs."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any

import numpy as np

from ..step import Group, Request, Stages
from . import layout
from .device import prologue, tensor_norms
from .driver import StagingRing
from .layout import bytes_of
from .tensor_list import GradViews, TensorList, native
from .variant import FIRST, variant_of

CALL = 8  # words of the call's numbers
GIVEN = 4  # words of a tensor in the table of gradients


class DeviceTables:
    """Tables of the tensors of a list; ``members[i]`` is the number of the group of tensor i. See prologue.py."""

    def __init__(self, device: Any, tensors: TensorList, groups: Sequence[Group], members: Sequence[int],
                 steps: Sequence[int], carries: Sequence[float]) -> None:  # fmt: skip
        self.device, self.list, self.rule, self.members = device, tensors, groups[0].rule, [*members]
        self.stages = [groups[k].stages for k in self.members]
        self.leaves = layout.leaves(tensors.sizes)
        self.taken = [*steps]  # for schedules: counted here, and read back where the device may know better
        self.certain, self.scheduled = True, False
        coefficients = [coefficients_of(stages) for stages in self.stages]
        scalars = len(self.rule.scalar_names) + len(self.rule.norm_scalar_names)
        self.stride = -(-(16 + 8 * (FIRST + scalars + max(coefficients))) // 16) * 16
        self.block = prologue.BLOCK + sum(n for _, n in prologue.fields(self.rule)) + max(coefficients)
        self.block += self.block % 2
        self.progress = self.placed(np.array([steps, carries], np.float64).T)
        self.result = self.placed(np.zeros(4))
        self.rows = device.allocate(self.stride * tensors.count)
        self.partial = device.allocate(8 * self.leaves)
        self.scratch = device.allocate(prologue.room(tensors.count, self.leaves))
        self.sums: Any = None  # of a rule that needs norms
        if self.rule.norms:
            self.sums = device.allocate(tensor_norms.room(tensors.count, self.leaves))
        self.info = self.placed(self.described(coefficients))
        # what a step may change: the call's numbers and the groups' blocks, then the table of gradients
        words = CALL + self.block * tensors.count
        words += words % 2
        self.mirror = np.zeros(words + GIVEN * tensors.count, np.uint64)
        self.numbers = self.mirror[:words].view(np.float64)
        self.given = self.mirror[words:].reshape(-1, GIVEN)
        self.memory = device.allocate(self.mirror.nbytes)
        self.given_after = 8 * words
        self.ring = StagingRing(device, self.mirror.nbytes)
        self.where = np.zeros(tensors.count, np.int64)  # the block of each tensor
        self.blocks = 0
        self.stale_given = self.stale_numbers = False  # not as on the device
        self.kinds: tuple[str, ...] = ()  # of the gradients, empty for one that is not there
        self.all_kinds: tuple[str, ...] = ()  # the parameter's there
        self.layout = -1  # the number of these
        self.layouts: dict[tuple[str, ...], int] = {}
        self.heads: dict[tuple[int, str, int], int] = {}
        self.seen: tuple[Any, ...] = ()
        self.absent: tuple[str, ...] = ()  # hyper-parameters that are None
        self.call: tuple[float, ...] = ()
        self.graphs: list[tuple[Any, float, tuple[float, ...]]] = []  # tables of their own, grad_scale, call

    def placed(self, a: np.ndarray[Any, Any]) -> Any:
        """Return memory of the device that holds an array."""
        memory = self.device.allocate(a.nbytes)
        self.device.place(memory.address, bytes_of(a))
        return memory

    def described(self, coefficients: Sequence[int]) -> layout.Words:
        """Return the static words that the prologue reads of each tensor."""
        info = np.zeros((self.list.count, 4), np.uint64)
        info[:, 0] = self.rows.address + self.stride * np.arange(self.list.count)
        counts = [layout.leaves([n]) for n in self.list.sizes]
        info[:, 1] = np.cumsum([0, *counts[:-1]])
        info[:, 2] = counts
        info[:, 3] = [
            count + (1 << 32) * (native(p) == "f64") for count, p in zip(coefficients, self.list.views, strict=True)
        ]
        return info

    def row(self, i: int) -> int:
        """Return the address of the scalars of a tensor."""
        return int(self.rows.address + self.stride * i)

    # ---- what is uploaded when it changed

    def put_gradients(self, found: GradViews) -> None:
        """Write the table of gradients."""
        if found.views is None:
            changed = np.flatnonzero((found.addresses ^ self.given[:, 0]) & np.uint64(15))
        else:
            changed = np.arange(self.list.count)
            self.kinds = tuple("" if v is None else v.kind for v in found.views)
            self.all_kinds = tuple(k or p.kind for k, p in zip(self.kinds, self.list.views, strict=True))
            self.layout = self.layouts.setdefault(self.all_kinds, len(self.layouts))
            self.given[:, 1] = [v is not None for v in found.views]
        self.given[:, 0] = found.addresses
        for i in changed.tolist():
            self.given[i, 2] = self.head(i, self.kinds[i], int(found.addresses[i]))
        self.stale_given = True

    def head(self, i: int, kind: str, address: int) -> int:
        """Return the first element from which all arrays of a tensor are aligned, its size where there is none."""
        key = (i, kind, address % 16)
        if key not in self.heads:
            p = self.list.views[i]
            c = variant_of(self.rule, self.stages[i], p, self.list.beside[i], kind or p.kind, False, False)
            choices = layout.heads(c, self.list.operands(i), address)
            self.heads[key] = choices[0] if choices else self.list.sizes[i]
        return self.heads[key]

    def put_groups(self, groups: Sequence[Group], grad_scale: float) -> None:
        """Write the blocks of hyper-parameters, where one changed."""
        self.scheduled = scheduled = any(group.schedules for group in groups)
        seen = (grad_scale, *groups)  # each change makes a new one
        same = len(seen) == len(self.seen) and seen[0] == self.seen[0] and all(map(is_, seen[1:], self.seen[1:]))
        if same and not scheduled:
            return
        if scheduled and not self.certain:
            self.taken, self.certain = self.read_progress()[0], True
        used: dict[tuple[int, int], int] = {}
        for i, k in enumerate(self.members):
            key = (k, self.taken[i] if groups[k].schedules else 0)
            if key not in used:
                used[key] = len(used)
                self.fill_block(used[key], groups[k], self.taken[i] + 1, grad_scale, first=k == 0)
            self.where[i] = used[key]
        self.blocks = len(used)
        self.given[:, 3] = self.memory.address + 8 * (CALL + self.block * self.where)
        self.seen = seen
        self.stale_given = self.stale_numbers = True

    def fill_block(self, at: int, group: Group, t: int, grad_scale: float, first: bool) -> None:
        """Write the numbers of one group."""
        h = group.hypers(t)
        w = group.work_of(h, t, 0.0, grad_scale)
        corrected = h.ema_bias_correction and h.ema_decay is not None
        share = h.ema_decay if corrected else w.ema
        steps = (group.prox_step(h),) if group.penalties.proxes else ()
        coefficients = [x for row in (steps, *w.penalties, *w.proxes, *w.slopes, w.shrink[1:]) for x in row]
        decay = w.rule[-1] if group.rule.decays else 1.0
        values = [w.scale, w.max_norm, w.clip_value, decay, share, float(corrected), 0.0, 0.0,
                  *prologue.numbers(group.rule, h), *coefficients]  # fmt: skip
        start = CALL + self.block * at
        self.numbers[start : start + len(values)] = values
        self.mirror[start + 6] = w.seed
        absent = tuple(x.name for x in group.rule.hypers if getattr(h, x.name) is None)
        if not first and absent != self.absent:
            raise ValueError(f"the hyper-parameters {sorted({*absent, *self.absent})} are None in one group and not in "
                             "another: on a GPU they must be None in all or in none")  # fmt: skip
        self.absent = absent

    def put_call(self, request: Request, leaves: int, lazy: float) -> None:
        """Write what one step is asked for; ``lazy`` is what it multiplies the rows by that it does not touch."""
        self.write_call(request.max_norm, float(request.skip), 1.0 / request.grad_scale, float(self.list.count),
                        float(leaves), lazy)  # fmt: skip

    def write_call(self, *call: float) -> None:
        """Write the numbers of the call; see prologue.py."""
        if call != self.call:
            self.numbers[: len(call)], self.call, self.stale_numbers = call, call, True

    def bring(self, stream: Any, found: GradViews | None, request: Request) -> int:
        """Bring what changed to the device; return the address of the tables that the step reads."""
        if found is not None:
            self.put_gradients(found)
        self.put_call(request, self.leaves, 1.0)
        if self.device.capturing(stream):
            return self.captured(request.grad_scale)
        self.upload(stream)
        return int(self.memory.address)

    def upload(self, stream: Any) -> None:
        """Upload what is not as on the device."""
        pieces = []
        if self.stale_numbers:
            pieces.append((self.memory.address, bytes_of(self.mirror[: CALL + self.block * self.blocks])))
        if self.stale_given:
            pieces.append((self.memory.address + self.given_after, bytes_of(self.given)))
        if pieces:
            self.ring.upload(stream, pieces)
            self.stale_given = self.stale_numbers = False

    # ---- captured steps

    def captured(self, grad_scale: float) -> int:
        """Return the address of a copy of all tables, for the graph that is being captured.

        So no step between its replays changes them, and no replay those of another step; ``refresh`` writes to them.
        """
        memory, words = self.device.allocate(self.mirror.nbytes), self.mirror.copy()
        blocks = words[self.given_after // 8 :].reshape(-1, GIVEN)[:, 3]
        blocks -= np.uint64(self.memory.address)
        blocks += np.uint64(memory.address)
        self.device.place(memory.address, bytes_of(words))
        self.graphs.append((memory, grad_scale, self.call))
        return int(memory.address)

    def refresh(self, stream: Any, groups: Sequence[Group]) -> None:
        """Bring changed hyper-parameters to all captured steps; their scales and limits stay those of the capture."""
        for memory, scale, call in self.graphs:
            self.write_call(*call)
            self.put_groups(groups, scale)
            numbers = self.mirror[: CALL + self.block * self.blocks]
            self.ring.upload(stream, [(memory.address, bytes_of(numbers))])

    # ---- what the device counts

    def count(self, skip: bool, rows_of: int | None = None) -> None:
        """Count a step here too, where schedules need it; with ``skip`` the device alone knows whether it was one."""
        if self.scheduled:
            stepped = [kind != "" for kind in self.kinds] if rows_of is None else [False] * self.list.count
            if rows_of is not None:
                stepped[rows_of] = True
            self.taken = [t + one for t, one in zip(self.taken, stepped, strict=True)]
        self.certain &= self.scheduled and not skip

    def read_progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries; waits for the device."""
        found = self.device.download(self.progress.address, 16 * self.list.count).view(np.float64).reshape(-1, 2)
        return [int(t) for t in found[:, 0]], [float(carry) for carry in found[:, 1]]


def coefficients_of(stages: Stages) -> int:
    """Return how many numbers a row has behind the rule's scalars."""
    shrink = (stages.shrink,) if stages.shrink is not None else ()
    every = (*stages.penalties, *stages.proxes, *stages.slopes, *shrink)
    count: int = sum(penalty.coefficients() for penalty in every)
    return count + bool(stages.proxes or shrink)  # the step of the proximal forms comes first
