"""The GPU engine: a plan with the face of ``engine.Plan``, over arrays in the memory of one GPU.

A step enqueues up to three kernels for each combination of stages on the caller's current stream and waits for none of
them. What changed since the last step is uploaded before: addresses of gradients, hyper-parameters. Step counts,
carries, norm and scalars live on the device, so that a CUDA graph may hold a step: it replays with the hyper-parameters
that ``refresh`` wrote last.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from . import arrays_cuda, norms_cuda, prepare_cuda, step, step_cuda, tables_cuda
from .arrays_cuda import View
from .columns_cuda import Column, Combination
from .device_cuda import Ring
from .kernels_cuda import Leaves, Prepare, Update
from .penalties import PENALTIES

CALL = 8  # words of the call's numbers
GIVEN = 4  # words of a tensor in the table of gradients


class Plan:
    """All tensors of an optimizer on one GPU, ready to step.

    ``device`` is a ``device_cuda.GPU``; see ``engine.Plan`` for the other arguments. ``low`` holds the cut-off 16 bits
    of each bf16 parameter where ``rounding`` is "remainder", ``shadows`` an array or None that gets a copy of each new
    parameter; ``seed`` belongs to "stochastic".
    """

    def __init__(self, device: Any, rule: str, names: Sequence[str], params: Sequence[Any],
                 states: Sequence[Sequence[Any]], groups: Sequence[int], stages: Sequence[Sequence[str]],
                 steps: Sequence[int], carries: Sequence[float], rounding: str = "nearest",
                 low: Sequence[Any] = (), shadows: Sequence[Any] = (), seed: int = 0) -> None:  # fmt: skip
        self.device, self.kernel, self.names = device, rule.rpartition(".")[2], tuple(names)
        self.rounding, self.seed = rounding, seed
        self.groups = list(groups)
        self.penalties = [[n.removeprefix("penalties.").removesuffix("_gradient") for n in row] for row in stages]
        self.library = arrays_cuda.library(params[0])
        self.count = len(params)
        self.params = tuple(params)
        self.views = [arrays_cuda.view(p, name) for p, name in zip(params, names, strict=True)]
        for v, name in zip(self.views, names, strict=True):
            arrays_cuda.check(v, name)
        self.owned = [self.own(i, states[i], low, shadows) for i in range(self.count)]
        self.kept = (tuple(map(tuple, states)), tuple(low), tuple(shadows))
        self.apart()
        self.sizes = [v.size for v in self.views]
        self.leaves = tables_cuda.leaves(self.sizes)
        self.tensors = [(i, p) for i, p in enumerate(self.params) if arrays_cuda.is_tensor(p)]
        self.addresses = [p.data_ptr() for _, p in self.tensors]
        self.progressed = device.allocate(16 * self.count)
        device.upload(None, self.progressed.address, _bytes(np.array([steps, carries], np.float64).T))
        self.result = device.allocate(32)
        device.upload(None, self.result.address, np.zeros(32, np.uint8))
        self.taken = list(steps)  # for schedules: counted here, and read back where the device may know better
        self.certain, self.scheduled = True, False
        self.grads: list[Any] = []  # weak references to the last ones, which would cost their memory if kept alive
        self.ids: list[int] = []  # of the last ones, which tell while none of them has died
        self.died: list[Any] = []
        self.pointers: list[Any] = []
        self.kinds: tuple[str, ...] = ()  # of the gradients, empty for one that is not there
        self.all_kinds: tuple[str, ...] = ()  # the parameter's there
        self.seen: tuple[Any, ...] = ()
        self.absent: tuple[str, ...] = ()
        self.call: tuple[float, ...] = ()
        self.cuts: dict[Any, list[Any]] = {}
        self.layouts: dict[tuple[str, ...], int] = {}
        self.ready = self.stale_given = self.stale_numbers = False  # stale: not as on the device
        self.limited = self.checked = self.zeroable = False

    # ---- what is made once

    def own(self, i: int, states: Sequence[Any], low: Sequence[Any], shadows: Sequence[Any]) -> list[View | None]:
        """Return the views of what belongs to a parameter: the states, the EMA, the shadow and the remainder."""
        found: list[View | None] = []
        extra = [shadows[i] if shadows else None, low[i] if low else None]
        for what, a in zip([*(f"state {k}" for k in range(len(states))), "shadow", "remainder"], [*states, *extra],
                           strict=True):  # fmt: skip
            if a is None:
                found.append(None)
                continue
            name = f"{what} of {self.names[i]}"
            v = arrays_cuda.view(a, name)
            arrays_cuda.check(v, name)
            arrays_cuda.agree(v, self.views[i], name)
            found.append(v)
        return found

    def apart(self) -> None:
        """Refuse parameters and states that share memory."""
        spans = []
        for p, own, name in zip(self.views, self.owned, self.names, strict=True):
            for v, what in [(p, name), *((x, f"a state of {name}") for x in own if x is not None)]:
                if v.size:
                    spans.append((v.address, v.address + v.size * arrays_cuda.SIZES[v.kind], what))
        spans.sort()
        for (_, stop, a), (start, _, b) in pairwise(spans):
            if start < stop:
                raise ValueError(f"{a} and {b} share memory: an update in place needs arrays of their own")
        self.spans = np.array([(low, high) for low, high, _ in spans], np.uint64).reshape(-1, 2)
        self.span_names = [name for *_, name in spans]

    def prepare(self, work: Any) -> None:
        """Lay out the device memory, when the first step says which rule and hyper-parameters there are."""
        self.rule = work.groups[0].rule
        first = work.groups[0].work(1.0, 1, 0.0)
        self.scalars = len(first.rule)
        self.real = "f64" if self.views[0].kind == "f64" else "f32"
        coefficients = max(sum(self.coefficients(stem) for stem in row) for row in self.penalties)
        self.stride = (
            -(-(16 + arrays_cuda.SIZES[self.real] * (step_cuda.FIRST + self.scalars + coefficients)) // 16) * 16
        )
        self.block = prepare_cuda.BLOCK + sum(n for _, n in prepare_cuda.fields(self.rule)) + coefficients
        self.block += self.block % 2
        self.rows = self.device.allocate(self.stride * self.count)
        self.partial = self.device.allocate(8 * self.leaves)
        self.scratch = self.device.allocate(prepare_cuda.room(self.count, self.leaves))
        info = np.zeros((self.count, 4), np.uint64)
        info[:, 0] = self.rows.address + self.stride * np.arange(self.count)
        counts = [tables_cuda.leaves([n]) for n in self.sizes]
        info[:, 1] = np.cumsum([0, *counts[:-1]])
        info[:, 2] = counts
        info[:, 3] = [sum(map(self.coefficients, self.penalties[k])) for k in self.groups]
        self.info = self.device.allocate(info.nbytes)
        self.device.upload(None, self.info.address, _bytes(info))
        # what a step may change: the call's numbers and the groups' blocks, then the table of gradients
        words = CALL + self.block * self.count
        words += words % 2
        self.mirror = np.zeros(words + GIVEN * self.count, np.uint64)
        self.numbers = self.mirror[:words].view(np.float64)
        self.given = self.mirror[words:].reshape(-1, GIVEN)
        self.memory = self.device.allocate(self.mirror.nbytes)
        self.given_at = self.memory.address + 8 * words
        self.ring = Ring(self.device, self.mirror.nbytes)
        self.where = np.zeros(self.count, np.int64)  # the block of each tensor
        self.ready = True

    def coefficients(self, stem: str) -> int:
        """Return how many coefficients a penalty's gradient takes."""
        return PENALTIES[stem].gradient.__code__.co_argcount - 2

    # ---- what is checked at each step

    def check(self, grads: tuple[Any, ...], zero: bool) -> list[View | None] | None:
        """Return the views of the gradients, or None where they are the arrays of the last step, where they were."""
        if len(grads) != self.count:
            raise ValueError(f"{len(grads)} gradients for {self.count} parameters: give one each, or None to skip one")
        if [p.data_ptr() for _, p in self.tensors] != self.addresses:
            raise ValueError("the memory of a parameter was moved since the optimizer was made: make a new optimizer")
        if not self.died and self.zeroable >= zero and self.ids == list(map(id, grads)):
            if not self.tensors or self.pointers == [None if g is None else g.data_ptr() for g in grads]:
                return None
        found: list[View | None] = []
        for g, p, name in zip(grads, self.views, self.names, strict=True):
            if g is None:
                found.append(None)
                continue
            v = arrays_cuda.view(g, f"the gradient of {name}")
            arrays_cuda.check(v if zero else v._replace(readonly=False), f"the gradient of {name}")
            arrays_cuda.agree(v, p, f"the gradient of {name}")
            if v.kind not in (p.kind, "f32", "bf16") or (v.kind == "u16"):
                raise TypeError(f"the gradient of {name} is {v.kind}, the parameter {p.kind}: f32, bf16 or {p.kind} "
                                "is needed")  # fmt: skip
            found.append(v)
        self.separate(found, zero)
        self.zeroable = zero
        return found

    def separate(self, found: Sequence[View | None], zero: bool) -> None:
        """Refuse a gradient that shares memory with what the step writes: with ``zero``, other gradients among it."""
        spans = [(v.address, v.address + v.size * arrays_cuda.SIZES[v.kind], i)
                 for i, v in enumerate(found) if v is not None and v.size]  # fmt: skip
        if not spans:
            return
        x = np.array(spans, np.uint64)
        x = x[np.argsort(x[:, 0], kind="stable")]
        clash = np.flatnonzero(x[1:, 0] < x[:-1, 1])
        if zero and clash.size:
            a, b = (self.names[int(x[clash[0] + k, 2])] for k in (0, 1))
            raise ValueError(f"the gradients of {a} and {b} share memory")
        if not len(self.spans):
            return
        at = np.searchsorted(self.spans[:, 0], x[:, 1]).astype(np.int64) - 1  # the last that begins before x ends
        clash = np.flatnonzero((at >= 0) & (self.spans[np.maximum(at, 0), 1] > x[:, 0]))
        if clash.size:
            k = int(clash[0])
            raise ValueError(f"{self.span_names[int(at[k])]} and the gradient of {self.names[int(x[k, 2])]} share "
                             "memory: an update in place needs arrays of their own")  # fmt: skip

    # ---- what is uploaded when it changed

    def fill_given(self, grads: tuple[Any, ...], found: list[View | None]) -> None:
        """Write the table of gradients."""
        self.kinds = tuple("" if v is None else v.kind for v in found)
        self.all_kinds = tuple(k or p.kind for k, p in zip(self.kinds, self.views, strict=True))
        for i, v in enumerate(found):
            if v is None:
                self.given[i, :3] = 0, 0, 0
            else:
                c = self.combination(i, self.all_kinds[i], False, False)
                choices = tables_cuda.heads(c, self.column_addresses(i), v.address)
                self.given[i, :3] = v.address, 1, choices[0] if choices else v.size
        self.died = []
        died = self.died
        self.grads = [_reference(g, died.append) for g in grads]
        self.ids = list(map(id, grads))
        self.layout = self.layouts.setdefault(self.all_kinds, len(self.layouts))
        self.pointers = [None if g is None else g.data_ptr() for g in grads] if self.tensors else []
        self.stale_given = True

    def assign(self, work: Any) -> None:
        """Write the blocks of hyper-parameters, where one changed."""
        self.scheduled = scheduled = any(callable(group.h.lr) for group in work.groups)
        seen = (work.grad_scale, *((group.h, group.penalties) for group in work.groups))
        same = len(seen) == len(self.seen) and seen[0] == self.seen[0] and all(
            a is c and b is d for (a, b), (c, d) in zip(seen[1:], self.seen[1:], strict=True)
        )  # fmt: skip
        if same and not scheduled:
            return
        if scheduled and not self.certain:
            self.taken, self.certain = self.progress()[0], True
        used: dict[tuple[int, int], int] = {}
        for i, k in enumerate(self.groups):
            key = (k, self.taken[i] if scheduled else 0)
            if key not in used:
                used[key] = len(used)
                self.fill_block(used[key], work, k, self.taken[i] + 1 if scheduled else 1)
            self.where[i] = used[key]
        self.blocks = len(used)
        self.given[:, 3] = self.memory.address + 8 * (CALL + self.block * self.where)
        self.seen = seen
        self.stale_given = self.stale_numbers = True

    def fill_block(self, at: int, work: Any, k: int, t: int) -> None:
        """Write the numbers of one group."""
        group, h = work.groups[k], work.hypers(k, t)
        w = step.work(group.rule, h, group.penalties, work.grad_scale, 1, 0.0)
        corrected = float(getattr(h, "ema_correction", False))
        share = 0.0 if h.ema_decay is None else (h.ema_decay if corrected else w.ema)
        values = [w.scale, w.max_norm, w.clip_value, w.decay, share, corrected, 0.0, 0.0,
                  *prepare_cuda.numbers(group.rule, h), *(x for row in w.penalties for x in row)]  # fmt: skip
        first = CALL + self.block * at
        self.numbers[first : first + len(values)] = values
        self.mirror[first + 6] = self.seed
        absent = tuple(x.name for x in group.rule.hypers if getattr(h, x.name) is None)
        if k and absent != self.absent:
            raise ValueError(f"the hyper-parameters {sorted({*absent, *self.absent})} are None in one group and not in "
                             "another: on a GPU they must be None in all or in none")  # fmt: skip
        self.absent = absent

    # ---- kernels and their tables

    def column_addresses(self, i: int) -> list[int]:
        """Return the addresses of a tensor's columns but g: p, states and EMA, shadow, remainder."""
        return [self.views[i].address, *(v.address for v in self.owned[i] if v is not None)]

    def combination(self, i: int, kind: str, clip: bool, zero: bool) -> Combination:
        """Return what the kernel of tensor ``i`` is made for, with gradients stored as ``kind``."""
        *states, ema, shadow, low = self.owned[i]
        names = [state.name for state in self.rule.states]
        return Combination(
            self.kernel,
            Column("p", self.views[i].kind, self.rounding if self.views[i].kind == "bf16" else "nearest"),
            Column("g", kind),
            tuple(None if v is None else Column(name, v.kind) for name, v in zip(names, states, strict=True)),
            None if ema is None else Column("ema", ema.kind),
            None if shadow is None else Column("shadow", shadow.kind),
            tuple((stem, self.coefficients(stem)) for stem in self.penalties[self.groups[i]]),
            self.scalars, self.rule.decay == "decoupled", clip, zero,
        )  # fmt: skip

    def cut(self, work: Any, zero: bool, stream: Any) -> list[Any]:
        """Return the launches of the update: (kernel, config, table, chunks, memory), one for each combination."""
        clips = tuple(group.h.clip_value is not None for group in work.groups)
        key = (zero, clips, self.layout)
        if key not in self.cuts:
            members: dict[Combination, list[int]] = {}
            for i, kind in enumerate(self.all_kinds):
                if self.sizes[i]:
                    members.setdefault(self.combination(i, kind, clips[self.groups[i]], zero), []).append(i)
            self.cuts[key] = [self.launches(c, tensors, stream) for c, tensors in members.items()]
        return self.cuts[key]

    def launches(self, c: Combination, tensors: list[int], stream: Any) -> Any:
        """Return the launch of one combination, with its tables on the device."""
        sizes = [self.sizes[i] for i in tensors]
        rows = [self.rows.address + self.stride * i for i in tensors]
        table = tables_cuda.table(c, tensors, rows, [self.column_addresses(i) for i in tensors])
        chunks = tables_cuda.chunks(sizes, tables_cuda.chunk_size(sum(sizes), self.device.multiprocessors))
        both = np.concatenate([table.ravel(), chunks.ravel()])
        memory = self.device.allocate(both.nbytes)
        self.device.upload(stream, memory.address, _bytes(both))
        kernel = Update(c)
        return (self.device.kernel(kernel), self.device.config(len(chunks), kernel.threads), memory.address,
                memory.address + table.nbytes, (memory, both))  # fmt: skip

    def leaf_launches(self, stream: Any) -> list[Any]:
        """Return the launches that read the gradients for their norm, one for each storage type."""
        key = ("leaves", self.layout)
        if key not in self.cuts:
            self.cuts[key] = []
            for kind in sorted(set(self.all_kinds)):
                of_kind = [n if k == kind else 0 for n, k in zip(self.sizes, self.all_kinds, strict=True)]
                leaves = tables_cuda.chunks(of_kind, norms_cuda.LEAF)
                if len(leaves):
                    memory, kernel = self.device.allocate(leaves.nbytes), Leaves(kind)
                    self.device.upload(stream, memory.address, _bytes(leaves))
                    blocks = -(-len(leaves) // (kernel.threads // 8))
                    self.cuts[key].append((self.device.kernel(kernel), self.device.config(blocks, kernel.threads),
                                           memory.address, len(leaves), (memory, leaves)))  # fmt: skip
        return self.cuts[key]

    # ---- the step

    def step(self, grads: Sequence[Any], work: Any, zero: bool = False, max_norm: float = math.inf,
             skip: bool = False) -> None:  # fmt: skip
        """Enqueue a step of every tensor whose gradient is not None; see ``engine.Plan.step``.

        ``work`` is a ``Given``: besides what the CPU engine calls, it has the groups and the scale of the gradients.
        """
        before = self.device.enter()
        try:
            hold = tuple(grads)  # until everything is enqueued
            found = self.check(hold, zero)
            if not self.ready:
                self.prepare(work)
            stream = self.device.stream(self.library)
            if found is not None:
                self.fill_given(hold, found)
            self.enqueue(stream, work, zero, max_norm, skip)
            if self.scheduled:
                self.taken = [t + (kind != "") for t, kind in zip(self.taken, self.kinds, strict=True)]
            self.certain &= self.scheduled and not skip
        finally:
            self.device.leave(before)

    def enqueue(self, stream: Any, work: Any, zero: bool, max_norm: float, skip: bool) -> None:
        """Upload what changed, and launch."""
        self.assign(work)
        call = (max_norm, float(skip), 1.0 / work.grad_scale, float(self.count), float(self.leaves))
        if call != self.call:
            self.numbers[: len(call)], self.call, self.stale_numbers = call, call, True
        self.upload(stream)
        launch, given = self.device.launch, self.given_at
        self.limited = skip or max_norm != math.inf or any(g.h.max_tensor_norm is not None for g in work.groups)
        self.checked = skip
        update = self.cut(work, zero, stream)
        result, partial = self.result.address, self.partial.address
        prepare = self.prepared(self.limited)
        if self.limited:
            for kernel, config, leaves, count, _ in self.leaf_launches(stream):
                launch(stream, config, kernel, given, leaves, count, self.info.address, partial, result)
        launch(stream, prepare[1], prepare[0], given, self.info.address, self.memory.address, self.progressed.address,
               result, partial, self.scratch.address)  # fmt: skip
        for kernel, config, table, chunks, _ in update:
            launch(stream, config, kernel, table, chunks, given)

    def prepared(self, limited: bool) -> Any:
        """Return the kernel that prepares a step, and its launch configuration."""
        key = ("prepare", limited, self.absent)
        if key not in self.cuts:
            kernel = Prepare(self.rule.name, self.real, self.scalars, limited, self.absent)
            blocks = 1 if limited else -(-self.count // kernel.threads)
            self.cuts[key] = [self.device.kernel(kernel), self.device.config(blocks, kernel.threads)]
        return self.cuts[key]

    def upload(self, stream: Any) -> None:
        """Bring what changed to the device."""
        pieces = []
        if self.stale_numbers:
            pieces.append((self.memory.address, _bytes(self.mirror[: CALL + self.block * self.blocks])))
        if self.stale_given:
            pieces.append((self.given_at, _bytes(self.given)))
        if pieces:
            self.ring.upload(stream, pieces)
            self.stale_given = self.stale_numbers = False

    def refresh(self, work: Any) -> None:
        """Bring changed hyper-parameters to the device without a step: the next replay of a CUDA graph uses them."""
        before = self.device.enter()
        try:
            if self.ready:
                self.assign(work)
                self.upload(self.device.stream(self.library))
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


def _bytes(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the bytes of a contiguous array."""
    return np.ascontiguousarray(a).reshape(-1).view(np.uint8)
