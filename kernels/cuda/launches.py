"""The launches of a plan: kernels with their static tables and configurations, made once for each need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..step import Request
from . import layout
from .device import grad_norm
from .entry_points import Leaves, Norms, Prologue, Rows, Scale, Update
from .tables import DeviceTables
from .tensor_list import TensorList
from .variant import Variant, variant_of


class Launch(NamedTuple):
    """A kernel, and what it is given that stays: ``before`` and ``after`` what a step gives it."""

    kernel: Any
    config: Any
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    memory: Any = None  # that they point to


class Launches:
    """The launches for the tensors of a list, by the layout of their gradients."""

    def __init__(self, device: Any, tensors: TensorList, tables: DeviceTables) -> None:
        self.device, self.list, self.tables = device, tensors, tables
        self.made: dict[Any, list[Launch]] = {}

    def of(self, request: Request, limited: bool) -> tuple[list[Launch], Launch, list[Launch], list[Launch]]:
        """Return the launches of a step: of the norm's leaves, the prologue, the norms of a rule, the update."""
        clips = tuple(group.h.clip_value is not None for group in request.groups)
        return (self.leaves() if limited else [], self.prologue(limited),
                self.norms(clips) if self.tables.rule.norms else [], self.update(clips, request.zero))  # fmt: skip

    def variant(self, i: int, kind: str, clip: bool, zero: bool) -> Variant:
        """Return the variant of tensor ``i``, with gradients stored as ``kind``."""
        tables, p = self.tables, self.list.views[i]
        return variant_of(tables.rule, tables.stages[i], p, self.list.beside[i], kind, clip, zero)

    def update(self, clips: tuple[bool, ...], zero: bool) -> list[Launch]:
        """Return the launches of the update, one for each variant; ``clips`` says which groups clip by value."""
        tables = self.tables
        key = (zero, clips, tables.layout)
        if key not in self.made:
            self.made[key] = [self.of_variant(c, tensors) for c, tensors in self.variants(clips, zero).items()]
        return self.made[key]

    def variants(self, clips: tuple[bool, ...], zero: bool) -> dict[Variant, list[int]]:
        """Return the tensors of each variant."""
        found: dict[Variant, list[int]] = {}
        for i, kind in enumerate(self.tables.all_kinds):
            if self.list.sizes[i]:
                found.setdefault(self.variant(i, kind, clips[self.tables.members[i]], zero), []).append(i)
        return found

    def of_variant(self, c: Variant, tensors: Sequence[int]) -> Launch:
        """Return the launch that steps some tensors of one variant."""
        rows = [self.tables.row(i) for i in tensors]
        units = [(self.list.rows(i) if c.by_row else self.list.sizes[i]) for i in tensors]
        addresses = [self.list.operands(i) + (self.list.row_words(i) if c.by_row else []) for i in tensors]
        table = layout.table(c, tensors, rows, addresses)
        share = layout.rows_of_a_block if c.by_row else layout.chunk_size
        chunks = layout.chunks(units, share(sum(units), self.device.multiprocessors))
        memory = self.tables.placed(np.concatenate([table.ravel(), chunks.ravel()]))
        kernel = Rows(c) if c.by_row else Update(c)
        return Launch(self.device.kernel(kernel), self.device.config(len(chunks), kernel.threads),
                      (memory.address, memory.address + table.nbytes), (0,) if c.by_row else (), memory)  # fmt: skip

    def norms(self, clips: tuple[bool, ...]) -> list[Launch]:
        """Return the launches that sum the squares of p and of its update, and the one that takes them from there."""
        tables = self.tables
        key = ("norms", clips, tables.layout, tables.absent)
        if key not in self.made:
            variants = self.variants(clips, False).items()
            scale, total = Scale(tables.rule, tables.absent), tables.leaves
            end = Launch(self.device.kernel(scale), self.device.config(self.list.count, scale.threads),
                         after=(tables.info.address, tables.sums.address, total))  # fmt: skip
            self.made[key] = [*(self.norms_of(c, tensors) for c, tensors in variants), end] if variants else []
        return self.made[key]

    def norms_of(self, c: Variant, tensors: Sequence[int]) -> Launch:
        """Return the launch that sums the squares of some tensors of one variant."""
        tables = self.tables
        c = c._replace(ema=None, shadow=None, proxes=(), shrink=None, scalar_prox_step=True)  # all that is not read
        read = [(self.list.views[i], *self.list.beside[i].states, self.list.beside[i].remainder) for i in tensors]
        addresses = [[v.address for v in row if v is not None] for row in read]
        table = layout.table(c, tensors, [tables.row(i) for i in tensors], addresses)
        leaves = layout.chunks([self.list.sizes[i] for i in tensors], grad_norm.LEAF)
        memory, kernel = tables.placed(np.concatenate([table.ravel(), leaves.ravel()])), Norms(c)
        blocks = -(-len(leaves) // grad_norm.LEAVES)
        return Launch(self.device.kernel(kernel), self.device.config(blocks, kernel.threads),
                      (memory.address, memory.address + table.nbytes),
                      (len(leaves), tables.info.address, tables.sums.address, tables.leaves), memory)  # fmt: skip

    def leaves(self) -> list[Launch]:
        """Return the launches that read the gradients for their norm, one for each storage type."""
        kinds, sizes = self.tables.all_kinds, self.list.sizes
        key = ("leaves", self.tables.layout)
        if key not in self.made:
            self.made[key] = []
            for kind in sorted(set(kinds)):
                of_kind = [n if k == kind else 0 for n, k in zip(sizes, kinds, strict=True)]
                leaves = layout.chunks(of_kind, grad_norm.LEAF)
                if len(leaves):
                    kernel, memory = Leaves(kind), self.tables.placed(leaves)
                    blocks = -(-len(leaves) // (kernel.threads // 8))
                    self.made[key].append(Launch(self.device.kernel(kernel), self.device.config(blocks, kernel.threads),
                                                 after=(memory.address, len(leaves)), memory=memory))  # fmt: skip
        return self.made[key]

    def prologue(self, limited: bool, by_index: bool = False) -> Launch:
        """Return the launch that prepares a step."""
        key = ("prepare", limited, self.tables.absent, by_index)
        if key not in self.made:
            kernel = Prologue(self.tables.rule, limited, self.tables.absent, by_index)
            blocks = 1 if limited else -(-self.list.count // kernel.threads)
            self.made[key] = [Launch(self.device.kernel(kernel), self.device.config(blocks, kernel.threads))]
        return self.made[key][0]
