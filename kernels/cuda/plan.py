"""The plan of the GPU engine: all tensors of an optimizer, and the step over them.

A step enqueues up to three kernels for each combination of stages on the caller's current stream and waits for none of
them. What changed since the last step is uploaded before: addresses of gradients, hyper-parameters. Step counts,
carries, norm and scalars live on the device, so that a CUDA graph may hold a step: it has tables of its own, and
replays with the hyper-parameters that ``refresh`` wrote last.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import numpy as np

from .. import step
from ..native import write
from ..numerics import codecs, philox
from ..penalties import PENALTIES
from ..spec import Rule
from . import layout
from .arrays import View
from .device import grad_norm, pipeline, prologue
from .device.operands import Column, Combination, Form
from .driver import Ring
from .entry_points import Leaves, Prepare, Rows, Update
from .tensor_list import Found, Tensors, native

CALL = 8  # words of the call's numbers
GIVEN = 4  # words of a tensor in the table of gradients


def forms(names: Sequence[str]) -> tuple[Form, ...]:
    """Return stem and number of coefficients of the penalties that some tiles belong to."""
    found = []
    for name in names:
        stem, _, form = name.removeprefix("penalties.").rpartition("_")
        function = getattr(PENALTIES[stem], {"prox": "proximal"}.get(form, form))
        found.append((stem, function.__code__.co_argcount - (3 if form == "shrink" else 2)))
    return tuple(found)


class WholePlan(Tensors):
    """All tensors of an optimizer on one GPU, ready to step as a whole; ``sparse_rows.Plan`` adds single rows.

    ``device`` is a ``driver.GPU``; see ``engine.Plan`` for the other arguments.
    """

    def __init__(self, device: Any, rule: str, names: Sequence[str], params: Sequence[Any],
                 states: Sequence[Sequence[Any]], groups: Sequence[int], stages: Sequence[step.Stages],
                 steps: Sequence[int], carries: Sequence[float]) -> None:  # fmt: skip
        super().__init__(names, params, states)
        self.device, self.kernel = device, rule.rpartition(".")[2]
        self.groups, self.stages = list(groups), list(stages)
        for i, k in enumerate(self.groups):
            if self.stages[k].rows:
                self.whole_rows(i)
        self.leaves = layout.leaves(self.sizes)
        self.progressed = device.allocate(16 * self.count)
        device.place(self.progressed.address, bytes_of(np.array([steps, carries], np.float64).T))
        self.result = device.allocate(32)
        device.place(self.result.address, np.zeros(32, np.uint8))
        self.taken = list(steps)  # for schedules: counted here, and read back where the device may know better
        self.certain, self.scheduled = True, False
        self.grads: list[Any] = []  # weak references to the last ones, which would cost their memory if kept alive
        self.kinds: tuple[str, ...] = ()  # of the gradients, empty for one that is not there
        self.all_kinds: tuple[str, ...] = ()  # the parameter's there
        self.seen: tuple[Any, ...] = ()
        self.absent: tuple[str, ...] = ()
        self.call: tuple[float, ...] = ()
        self.graphs: list[tuple[Any, float, tuple[float, ...]]] = []  # tables of their own, grad_scale, call
        self.cuts: dict[Any, list[Any]] = {}
        self.layouts: dict[tuple[str, ...], int] = {}
        self.heads: dict[tuple[int, str, int], int] = {}
        self.ready = self.stale_given = self.stale_numbers = False  # stale: not as on the device
        self.limited = self.checked = False

    # ---- what is made once

    def prepare(self, work: Any) -> None:
        """Lay out the device memory, when the first step says which rule and hyper-parameters there are."""
        self.rule: Rule = work.groups[0].rule
        group = work.groups[0]
        self.scalars = len(group.rule.scalars(group.hypers(1), 1, 0.0)[0])
        coefficients = max(map(self.coefficients, self.stages))
        self.stride = -(-(16 + 8 * (pipeline.FIRST + self.scalars + coefficients)) // 16) * 16
        self.block = prologue.BLOCK + sum(n for _, n in prologue.fields(self.rule)) + coefficients
        self.block += self.block % 2
        self.rows_at = self.device.allocate(self.stride * self.count)
        self.partial = self.device.allocate(8 * self.leaves)
        self.scratch = self.device.allocate(prologue.room(self.count, self.leaves))
        info = np.zeros((self.count, 4), np.uint64)
        info[:, 0] = self.rows_at.address + self.stride * np.arange(self.count)
        counts = [layout.leaves([n]) for n in self.sizes]
        info[:, 1] = np.cumsum([0, *counts[:-1]])
        info[:, 2] = counts
        info[:, 3] = [
            self.coefficients(self.stages[k]) + (1 << 32) * (native(p) == "f64")
            for k, p in zip(self.groups, self.views, strict=True)
        ]
        self.info = self.device.allocate(info.nbytes)
        self.device.place(self.info.address, bytes_of(info))
        # what a step may change: the call's numbers and the groups' blocks, then the table of gradients
        words = CALL + self.block * self.count
        words += words % 2
        self.mirror = np.zeros(words + GIVEN * self.count, np.uint64)
        self.numbers = self.mirror[:words].view(np.float64)
        self.given = self.mirror[words:].reshape(-1, GIVEN)
        self.memory = self.device.allocate(self.mirror.nbytes)
        self.given_after = 8 * words
        self.ring = Ring(self.device, self.mirror.nbytes)
        self.where = np.zeros(self.count, np.int64)  # the block of each tensor
        self.ready = True

    @staticmethod
    def coefficients(stages: step.Stages) -> int:
        """Return how many numbers a row has behind the rule's scalars."""
        shrink = (stages.shrink,) if stages.shrink is not None else ()
        every = forms((*stages.penalties, *stages.proxes, *stages.slopes, *shrink))
        return sum(count for _, count in every) + bool(stages.proxes or shrink)

    # ---- what is uploaded when it changed

    def check(self, grads: tuple[Any, ...], zero: bool) -> Found | None:
        """As ``Tensors.check``; a gradient on another GPU is refused too."""
        found = super().check(grads, zero)
        if found is not None and not self.tensors:
            for v, name in zip(found.views or (), self.names, strict=True):
                if v is not None and not self.device.holds(v.address):
                    raise TypeError(f"the gradient of {name} is not on {self.device}, where the parameter is")
        return found

    def fill_given(self, grads: tuple[Any, ...], found: Found) -> None:
        """Write the table of gradients."""
        self.accept(found)
        if found.views is None:
            changed = np.flatnonzero((found.addresses ^ self.given[:, 0]) & np.uint64(15))
        else:
            changed = np.arange(self.count)
            self.kinds = tuple("" if v is None else v.kind for v in found.views)
            self.all_kinds = tuple(k or p.kind for k, p in zip(self.kinds, self.views, strict=True))
            self.layout = self.layouts.setdefault(self.all_kinds, len(self.layouts))
            self.given[:, 1] = [v is not None for v in found.views]
        self.given[:, 0] = found.addresses
        for i in changed.tolist():
            self.given[i, 2] = self.head(i, self.kinds[i], int(found.addresses[i]))
        self.died = []
        if not self.tensors:
            died = self.died
            self.grads = [_reference(g, died.append) for g in grads]
            self.ids = list(map(id, grads))
        self.stale_given = True

    def head(self, i: int, kind: str, address: int) -> int:
        """Return the first element from which all arrays of a tensor are aligned, its size where there is none."""
        key = (i, kind, address % 16)
        if key not in self.heads:
            c = self.combination(i, kind or self.views[i].kind, False, False)
            choices = layout.heads(c, self.column_addresses(i), address)
            self.heads[key] = choices[0] if choices else self.sizes[i]
        return self.heads[key]

    def assign(self, work: Any) -> None:
        """Write the blocks of hyper-parameters, where one changed."""
        self.scheduled = scheduled = any(group.schedules for group in work.groups)
        seen = (work.grad_scale, *(group.h for group in work.groups))  # each change makes a new one
        same = len(seen) == len(self.seen) and seen[0] == self.seen[0] and all(map(is_, seen[1:], self.seen[1:]))
        if same and not scheduled:
            return
        if scheduled and not self.certain:
            self.taken, self.certain = self.progress()[0], True
        used: dict[tuple[int, int], int] = {}
        for i, k in enumerate(self.groups):
            key = (k, self.taken[i] if work.groups[k].schedules else 0)
            if key not in used:
                used[key] = len(used)
                self.fill_block(used[key], work, k, self.taken[i] + 1)
            self.where[i] = used[key]
        self.blocks = len(used)
        self.given[:, 3] = self.memory.address + 8 * (CALL + self.block * self.where)
        self.seen = seen
        self.stale_given = self.stale_numbers = True

    def fill_block(self, at: int, work: Any, k: int, t: int) -> None:
        """Write the numbers of one group."""
        group = work.groups[k]
        h = group.hypers(t)
        w = group.work_of(h, work.grad_scale, t, 0.0)
        corrected = h.ema_bias_correction and h.ema_decay is not None
        share = h.ema_decay if corrected else w.ema
        proximal = group.penalties.proxes
        steps = (step.proximal_step(group.rule, h, group.penalties),) if proximal else ()
        coefficients = [x for row in (steps, *w.penalties, *w.proxes, *w.slopes, w.shrink[1:]) for x in row]
        decay = w.rule[-1] if group.rule.decays else 1.0
        values = [w.scale, w.max_norm, w.clip_value, decay, share, float(corrected), 0.0, 0.0,
                  *prologue.numbers(group.rule, h), *coefficients]  # fmt: skip
        first = CALL + self.block * at
        self.numbers[first : first + len(values)] = values
        self.mirror[first + 6] = w.seed
        absent = tuple(x.name for x in group.rule.hypers if getattr(h, x.name) is None)
        if k and absent != self.absent:
            raise ValueError(f"the hyper-parameters {sorted({*absent, *self.absent})} are None in one group and not in "
                             "another: on a GPU they must be None in all or in none")  # fmt: skip
        self.absent = absent

    # ---- kernels and their tables

    def column_addresses(self, i: int) -> list[int]:
        """Return the addresses of a tensor's columns but g: p, states and EMA, shadow, remainder."""
        return [self.views[i].address, *(v.address for v in self.owned[i][:-1] if v is not None)]

    def combination(self, i: int, kind: str, clip: bool, zero: bool) -> Combination:
        """Return what the kernel of tensor ``i`` is made for, with gradients stored as ``kind``."""
        *states, ema, shadow, low, _ = self.owned[i]
        stages = self.stages[self.groups[i]]

        def column(name: str, v: View | None, number: int) -> Any:
            if v is None:
                return None
            random = stages.rounding == "stochastic" and codecs.BY_SHORT[v.kind].stochastic is not None
            return Column(name, v.kind, "stochastic" if random else "nearest", number if random else 0)

        p = column("p", self.views[i], philox.WEIGHTS)
        names = [state.name for state in self.rule.states]
        return Combination(
            rule=self.kernel,
            p=p if low is None else Column("p", p.kind, "remainder"),
            g=Column("g", kind),
            states=tuple(
                column(name, v, philox.STATES + j) for j, (name, v) in enumerate(zip(names, states, strict=True))
            ),
            ema=column("ema", ema, philox.EMA),
            shadow=None if shadow is None else Column("shadow", shadow.kind),
            penalties=forms(stages.penalties),
            proxes=forms(stages.proxes),
            uniform=stages.uniform or not stages.proxes,
            slopes=forms(stages.slopes),
            shrink=None if stages.shrink is None else forms((stages.shrink,))[0],
            scalars=self.scalars,
            clip=clip,
            zero=zero,
        )

    def cut(self, work: Any, zero: bool) -> list[Any]:
        """Return the launches of the update: one for each combination; see ``launches``."""
        clips = tuple(group.h.clip_value is not None for group in work.groups)
        key = (zero, clips, self.layout)
        if key not in self.cuts:
            members: dict[Combination, list[int]] = {}
            for i, kind in enumerate(self.all_kinds):
                if self.sizes[i]:
                    members.setdefault(self.combination(i, kind, clips[self.groups[i]], zero), []).append(i)
            self.cuts[key] = [self.launches(c, tensors) for c, tensors in members.items()]
        return self.cuts[key]

    def launches(self, c: Combination, tensors: list[int]) -> Any:
        """Return the launch of one combination: (kernel, config, table, chunks, other arguments, memory)."""
        rows = [self.rows_at.address + self.stride * i for i in tensors]
        units = [(self.rows(i) if c.by_row else self.sizes[i]) for i in tensors]
        addresses = [self.column_addresses(i) + (self.row_words(i) if c.by_row else []) for i in tensors]
        table = layout.table(c, tensors, rows, addresses)
        share = layout.rows_of_a_block if c.by_row else layout.chunk_size
        chunks = layout.chunks(units, share(sum(units), self.device.multiprocessors))
        both = np.concatenate([table.ravel(), chunks.ravel()])
        memory = self.device.allocate(both.nbytes)
        self.device.place(memory.address, bytes_of(both))
        kernel = Rows(c) if c.by_row else Update(c)
        more = (0,) if c.by_row else ()  # no rows are picked
        return (self.device.kernel(kernel), self.device.config(len(chunks), kernel.threads),
                memory.address, memory.address + table.nbytes, more, memory)  # fmt: skip

    def row_words(self, i: int) -> list[int]:
        """Return what a table has besides for a tensor whose rows stay whole; see whole_rows.py."""
        lags, rows = self.owned[i][-1], self.rows(i)
        decayed = (0, 0) if lags is None else (lags.address, lags.address + 8 * rows)
        return [self.sizes[i] // max(1, rows), *decayed]

    def leaf_launches(self) -> list[Any]:
        """Return the launches that read the gradients for their norm, one for each storage type."""
        key = ("leaves", self.layout)
        if key not in self.cuts:
            self.cuts[key] = []
            for kind in sorted(set(self.all_kinds)):
                of_kind = [n if k == kind else 0 for n, k in zip(self.sizes, self.all_kinds, strict=True)]
                leaves = layout.chunks(of_kind, grad_norm.LEAF)
                if len(leaves):
                    memory, kernel = self.device.allocate(leaves.nbytes), Leaves(kind)
                    self.device.place(memory.address, bytes_of(leaves))
                    blocks = -(-len(leaves) // (kernel.threads // 8))
                    self.cuts[key].append((self.device.kernel(kernel), self.device.config(blocks, kernel.threads),
                                           memory.address, len(leaves), memory))  # fmt: skip
        return self.cuts[key]

    # ---- the step

    def step(self, grads: Sequence[Any], work: Any, zero: bool = False, max_norm: float = math.inf,
             skip: bool = False, news: tuple[Any, ...] = ()) -> None:  # fmt: skip
        """Enqueue a step of every tensor whose gradient is not None; see ``engine.Plan.step``.

        ``work`` is a ``Given``: besides what the CPU engine calls, it has the groups and the scale of the gradients.
        """
        before = self.device.enter()
        try:
            hold = tuple(grads)  # until everything is enqueued
            self.take(hold, work, zero)
            stream = self.device.stream(self.library)
            write(*news or ((),))
            self.enqueue(stream, work, zero, max_norm, skip)
            if self.scheduled:
                self.taken = [t + (kind != "") for t, kind in zip(self.taken, self.kinds, strict=True)]
            self.certain &= self.scheduled and not skip
        finally:
            self.device.leave(before)

    def take(self, grads: tuple[Any, ...], work: Any, zero: bool) -> None:
        """Take all that a caller gave, and raise where it does not fit; arrays last, which a schedule may change."""
        if not self.ready:
            self.prepare(work)
        self.assign(work)
        found = self.check(grads, zero)
        if found is not None:
            self.fill_given(grads, found)

    def enqueue(self, stream: Any, work: Any, zero: bool, max_norm: float, skip: bool) -> None:
        """Upload what changed, and launch."""
        self.set_call(max_norm, float(skip), 1.0 / work.grad_scale, float(self.count), float(self.leaves), 1.0)
        if self.device.capturing(stream):
            numbers = self.own_tables(work)
        else:
            self.upload(stream)
            numbers = self.memory.address
        launch, given = self.device.launch, numbers + self.given_after
        self.limited = skip or max_norm != math.inf or any(g.h.max_tensor_norm is not None for g in work.groups)
        self.checked = skip
        update = self.cut(work, zero)
        result, partial = self.result.address, self.partial.address
        prepare = self.prepared(self.limited)
        if self.limited:
            for kernel, config, leaves, count, _ in self.leaf_launches():
                launch(stream, config, kernel, given, leaves, count, self.info.address, partial, result)
        launch(stream, prepare[1], prepare[0], given, self.info.address, numbers, self.progressed.address, result,
               partial, self.scratch.address)  # fmt: skip
        for kernel, config, table, chunks, more, _ in update:
            launch(stream, config, kernel, table, chunks, given, *more)

    def set_call(self, *call: float) -> None:
        """Write the numbers of the call; see prologue.py."""
        if call != self.call:
            self.numbers[: len(call)], self.call, self.stale_numbers = call, call, True

    def prepared(self, limited: bool, picked: bool = False) -> Any:
        """Return the kernel that prepares a step, and its launch configuration."""
        key = ("prepare", limited, self.absent, picked)
        if key not in self.cuts:
            kernel = Prepare(self.rule.name, self.scalars, limited, self.absent, picked)
            blocks = 1 if limited else -(-self.count // kernel.threads)
            self.cuts[key] = [self.device.kernel(kernel), self.device.config(blocks, kernel.threads)]
        return self.cuts[key]

    def upload(self, stream: Any) -> None:
        """Bring what changed to the device."""
        pieces = []
        if self.stale_numbers:
            pieces.append((self.memory.address, bytes_of(self.mirror[: CALL + self.block * self.blocks])))
        if self.stale_given:
            pieces.append((self.memory.address + self.given_after, bytes_of(self.given)))
        if pieces:
            self.ring.upload(stream, pieces)
            self.stale_given = self.stale_numbers = False

    def own_tables(self, work: Any) -> int:
        """Return the address of a copy of all tables, for the graph that is being captured.

        So no step between its replays changes them, and no replay those of another step; ``refresh`` writes to them.
        """
        memory, words = self.device.allocate(self.mirror.nbytes), self.mirror.copy()
        blocks = words[self.given_after // 8 :].reshape(-1, GIVEN)[:, 3]
        blocks -= np.uint64(self.memory.address)
        blocks += np.uint64(memory.address)
        self.device.place(memory.address, bytes_of(words))
        self.graphs.append((memory, work.grad_scale, self.call))
        return int(memory.address)

    def refresh(self, work: Any) -> None:
        """Bring changed hyper-parameters to all captured steps; ``grad_scale`` and limits stay those of the capture."""
        before = self.device.enter()
        try:
            for memory, scale, call in self.graphs:
                self.set_call(*call)
                self.assign(work._replace(grad_scale=scale))
                numbers = self.mirror[: CALL + self.block * self.blocks]
                self.ring.upload(self.device.stream(self.library), [(memory.address, bytes_of(numbers))])
        finally:
            self.device.leave(before)

    # ---- what is read back

    @property
    def norm(self) -> float | None:
        """The norm of the gradients of the last step, or None where it was not needed; waits for the device."""
        return float(self.device.download(self.result.address, 8).view(np.float64)[0]) if self.limited else None

    @property
    def skipped(self) -> bool:
        """Whether the last step was none, because of an infinite or NaN gradient; waits for the device."""
        return self.checked and bool(self.device.download(self.result.address + 8, 8).view(np.float64)[0])

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries; waits for the device."""
        found = self.device.download(self.progressed.address, 16 * self.count).view(np.float64).reshape(-1, 2)
        return [int(t) for t in found[:, 0]], [float(carry) for carry in found[:, 1]]


def _reference(a: Any, died: Callable[[Any], None]) -> Any:
    """Return a weak reference that calls ``died``, or the object where there can be none."""
    try:
        return weakref.ref(a, died)
    except TypeError:
        return a


def bytes_of(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the bytes of a contiguous array."""
    return np.ascontiguousarray(a).reshape(-1).view(np.uint8)
