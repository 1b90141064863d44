"""The GPU engine: a plan with the face of ``engine.Plan``, over arrays in the memory of one GPU.

A step of some rows sorts the indices here and uploads them; five kernels at most do the rest, and nothing is waited for
but, once in a long while, the sum of what rows have missed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..native import write
from . import arrays, layout
from .arrays import View
from .device import grad_norm, prologue
from .device.operands import Column
from .device.sparse_rows import TEAMS
from .driver import Ring
from .entry_points import CatchUp, Lag, Leaves, Rows, Sums
from .plan import WholePlan, bytes_of
from .tensor_list import allowed, lengths, native

LEAST = 1e-200  # rows catch up before what they missed is too small for a number


class Touched(NamedTuple):
    """The rows of a step, in their order: ``places`` and ``firsts`` say which gradients belong to each."""

    rows: np.ndarray[Any, Any]
    places: np.ndarray[Any, Any]
    firsts: np.ndarray[Any, Any]

    @staticmethod
    def of(indices: np.ndarray[Any, Any]) -> Touched:
        """Return the rows that a list of indices touches."""
        places = np.argsort(indices, kind="stable")
        given = indices[places]
        starts = np.flatnonzero(np.diff(given, prepend=-1))
        return Touched(given[starts], places, np.append(starts, len(given)))


class Plan(WholePlan):
    """All tensors of an optimizer on one GPU, ready to step as a whole or by rows."""

    def __init__(self, device: Any, *args: Any) -> None:
        super().__init__(device, *args)
        self.lagging = {i for i, own in enumerate(self.owned) if own[-1] is not None}  # tensors with rows that may lag
        self.missed: dict[int, float] = {}  # what each tensor's rows have missed at most
        self.room: Any = None  # of the steps of rows: memory, a ring for uploads, the size of the memory

    # ---- rows that lag

    def enqueue(self, stream: Any, *args: Any) -> None:
        """Upload what changed, and launch, when the rows of all tensors that are stepped have caught up."""
        if late := {i for i in self.lagging if self.kinds[i]}:
            if self.device.capturing(stream):
                raise RuntimeError("rows lag behind after step_rows: call catch_up_rows before a step is captured")
            self.catch_up_on(stream, late)
        super().enqueue(stream, *args)

    def catch_up(self) -> None:
        """Decay all rows by what they missed in ``step_rows``."""
        before = self.device.enter()
        try:
            self.still()
            self.catch_up_on(self.device.stream(self.library), self.lagging)
        finally:
            self.device.leave(before)

    def catch_up_on(self, stream: Any, late: set[int]) -> None:
        """Enqueue ``catch_up`` for some tensors."""
        for i in late:
            p, (*_, low, _) = self.views[i], self.owned[i]
            if not p.size:
                continue
            length, decayed, last = self.row_words(i)
            kernel = CatchUp(Column("p", p.kind, "nearest" if low is None else "remainder"))
            blocks = -(-self.rows(i) // TEAMS)
            rest = 0 if low is None else low.address
            self.device.launch(stream, self.device.config(blocks, kernel.threads), self.device.kernel(kernel),
                               p.address, rest, length, self.rows(i), decayed, last)  # fmt: skip
            self.device.set_ones(stream, decayed, self.rows(i) + 1)
            self.missed[i] = 1.0
        self.lagging = self.lagging - late

    def note(self, i: int, lazy: float, stream: Any) -> None:
        """Let all rows catch up where they have missed too much, which the device knows better than we do."""
        at = self.row_words(i)[2]
        before = self.missed[i] * lazy if i in self.missed else LEAST
        if not before > LEAST:
            before = float(self.device.download(at, 8).view(np.float64)[0])
        self.missed[i] = before
        self.lagging.add(i)
        if not before > LEAST:
            self.catch_up_on(stream, self.lagging)

    # ---- the step

    def check_rows(self, i: int, indices: Any, values: Any) -> View:
        """Raise where ``step_rows`` cannot take these; return where the values are."""
        self.still()
        p, name = self.views[i], self.names[i]
        self.whole_rows(i)
        if not p.shape:
            raise ValueError(f"{name} has no rows: it is a single number")
        checks.row_indices(indices, p.shape[0], name)
        v = arrays.view(values, "values")
        arrays.check(v._replace(readonly=False), "values")
        if v.kind not in allowed(p):
            raise TypeError(f"values are {v.kind}, the parameter {p.kind}: {' or '.join(allowed(p))} is needed")
        if v.shape != (len(indices), *p.shape[1:]):
            raise ValueError(
                f"values have shape {v.shape}: must be {(len(indices), *p.shape[1:])}, a row for each index"
            )
        if not arrays.in_order(v):
            raise ValueError(f"values have strides {v.strides} for shape {v.shape}: np.ascontiguousarray is needed")
        if not self.device.holds(v.address):
            raise ValueError(f"values are not on {self.device}, where {name} is")
        addresses = np.full(self.count, v.address, np.uint64)
        self.separate(addresses, lengths([*[None] * i, v, *[None] * (self.count - i - 1)]), False)
        return v

    def step_rows(self, i: int, indices: Any, values: Any, work: Any, lazy: float, max_norm: float = math.inf,
                  skip: bool = False, news: tuple[Any, ...] = ()) -> None:  # fmt: skip
        """Enqueue a step of the rows ``indices`` of tensor ``i``; see ``engine.Plan.step_rows``."""
        before = self.device.enter()
        try:
            if not self.ready:
                self.prepare(work)
            self.assign(work)  # first: a schedule may do anything to arrays
            v = self.check_rows(i, indices, values)
            stream = self.device.stream(self.library)
            if self.device.capturing(stream):
                raise RuntimeError("step_rows takes its indices from the host: a CUDA graph cannot hold it")
            group = work.groups[self.groups[i]]
            self.ids, self.facts = [], None  # of no gradients: the next step looks at them anew
            self.limited = skip or max_norm != math.inf or group.h.max_tensor_norm is not None
            self.checked = skip
            touched = Touched.of(indices)
            write(*news or ((),))
            self.enqueue_rows(stream, i, v, touched, work, lazy, max_norm)
            if self.scheduled:
                self.taken[i] += 1
            self.certain &= self.scheduled and not skip
            if self.owned[i][-1] is not None:
                self.note(i, lazy, stream)
        finally:
            self.device.leave(before)

    def enqueue_rows(self, stream: Any, i: int, v: View, touched: Touched, work: Any, lazy: float,
                     max_norm: float) -> None:  # fmt: skip
        """Upload what the rows need, and launch."""
        count, real, launch = len(touched.rows), native(self.views[i]), self.device.launch
        given = self.memory.address + self.given_after
        length, decayed, last = self.row_words(i)
        summed = self.limited or count < len(touched.places)
        leaves = layout.chunks([count], grad_norm.LEAF)
        c = self.combination(i, real if summed else v.kind, work.groups[self.groups[i]].h.clip_value is not None, False)
        c = c._replace(picked=True, lagging=self.owned[i][-1] is not None)
        own = np.arange(count) if summed else touched.places[touched.firsts[:-1]]
        table = layout.table(c, [0], [self.rows_at.address + self.stride * i],
                                  [[*self.column_addresses(i), length, decayed, last]])  # fmt: skip
        table[0, 0] = i
        chunks = layout.chunks([count], layout.rows_of_a_block(count, self.device.multiprocessors) or 1)
        words = {"table": table, "picks": np.stack([touched.rows, own], 1), "chunks": chunks, "leaves": leaves,
                 "given": np.zeros(4, np.uint64), "info": np.zeros(4, np.uint64), "order": touched.places,
                 "firsts": touched.firsts}  # fmt: skip
        size = 8 if real == "f64" else 4
        room = {"sums": count * length * size * summed, "terms": 8 * count, "partial": 8 * len(leaves),
                "scratch": prologue.room(self.count, len(leaves))}  # fmt: skip
        at, pieces = self.make_room(words, room)
        words["given"][:2] = at["terms"], 1
        self.given[:, :3] = 0
        g = at["sums"] if summed else v.address
        self.given[i, :3] = g, 1, 0 if 0 in layout.heads(c, self.column_addresses(i), g) else self.sizes[i]
        self.stale_given = True
        self.set_call(max_norm, float(self.checked), 1.0 / work.grad_scale, float(self.count), float(len(leaves)), lazy)
        self.upload(stream)
        self.room[1].upload(stream, [(at["table"], pieces(words))])
        if summed and count:
            kernel = Sums(v.kind, real)
            blocks = -(-count // TEAMS) if length <= grad_norm.LEAF else count
            launch(stream, self.device.config(blocks, kernel.threads), self.device.kernel(kernel), at["order"],
                   at["firsts"], v.address, at["sums"], at["terms"], length, count, self.result.address)  # fmt: skip
        if self.limited and count:
            terms = Leaves("f64", squared=False)
            blocks = -(-len(leaves) // (terms.threads // 8))
            launch(stream, self.device.config(blocks, terms.threads), self.device.kernel(terms), at["given"],
                   at["leaves"], len(leaves), at["info"], at["partial"], self.result.address)  # fmt: skip
        kernel, config = self.prepared(self.limited, True)
        launch(stream, config, kernel, given, self.info.address, self.memory.address, self.progressed.address,
               self.result.address, at["partial"], at["scratch"])  # fmt: skip
        if count and length:
            rows = Rows(c)
            launch(stream, self.device.config(len(chunks), rows.threads), self.device.kernel(rows), at["table"],
                   at["chunks"], given, at["picks"])  # fmt: skip
        if self.owned[i][-1] is not None:
            lag = Lag()
            launch(stream, self.device.config(1, lag.threads), self.device.kernel(lag), at["picks"], count, decayed,
                   last, int(table[0, 1]), self.memory.address)  # fmt: skip

    def make_room(self, words: dict[str, Any], room: dict[str, int]) -> tuple[dict[str, int], Any]:
        """Return the address of each piece in the memory of a step of rows, and what puts the words in a row."""
        starts, end = {}, 0
        sizes = {**{name: 8 * a.size for name, a in words.items()}, **room}
        for name, size in sizes.items():
            starts[name] = end
            end += -(-size // 256) * 256
        uploaded = starts[next(iter(room))]
        if self.room is None or self.room[2] < end or self.room[1].size < uploaded:
            self.device.wait()  # what is replaced may still be read
            self.room = (self.device.allocate(2 * end), Ring(self.device, 2 * uploaded), 2 * end)

        def pieces(words: dict[str, Any]) -> np.ndarray[Any, Any]:
            found = np.zeros(uploaded // 8, np.uint64)
            for name, a in words.items():
                found[starts[name] // 8 :][: a.size] = a.ravel().astype(np.uint64)
            return bytes_of(found)

        return {name: self.room[0].address + start for name, start in starts.items()}, pieces
