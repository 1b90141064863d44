"""Steps of some rows of a tensor: its gradient has a row for each of a list of indices.

The indices are sorted here and uploaded; five kernels at most do the rest, and nothing is waited for but, once in a
long while, the sum of what rows have missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..step import Request
from ..view import SIZES, View
from . import layout
from .device import grad_norm, prologue
from .device.sparse_rows import TEAMS
from .driver import StagingRing
from .entry_points import CatchUp, Lag, Leaves, Rows, Sums
from .launches import Launches
from .layout import bytes_of
from .tables import DeviceTables
from .tensor_list import TensorList, native
from .variant import Operand, Variant

LEAST = 1e-200  # rows catch up before what they missed is too small for a number


class SparseRows(NamedTuple):
    """The rows of a step, in their order: ``places`` and ``firsts`` say which gradients belong to each."""

    rows: np.ndarray[Any, Any]
    places: np.ndarray[Any, Any]
    firsts: np.ndarray[Any, Any]

    @staticmethod
    def of(indices: np.ndarray[Any, Any]) -> SparseRows:
        """Return the rows that a list of indices touches."""
        places = np.argsort(indices, kind="stable")
        given = indices[places]
        starts = np.flatnonzero(np.diff(given, prepend=-1))
        return SparseRows(given[starts], places, np.append(starts, len(given)))


class RowSteps:
    """Steps of rows over the tensors of a list, and what their other rows have missed."""

    def __init__(self, device: Any, tensors: TensorList, tables: DeviceTables, launches: Launches) -> None:
        self.device, self.list, self.tables, self.launches = device, tensors, tables, launches
        self.lagging = {i for i, own in enumerate(tensors.beside) if own.row_decay is not None}  # rows that may lag
        self.missed: dict[int, float] = {}  # what each tensor's rows have missed at most
        self.room: Any = None  # memory, a ring for uploads, the size of the memory

    # ---- rows that lag

    def late(self, stream: Any, grads: Sequence[Any]) -> set[int]:
        """Return which tensors have rows that lag, and a gradient; no step of theirs can be captured."""
        late = {i for i in self.lagging if grads[i] is not None}
        if late and self.device.capturing(stream):
            raise RuntimeError("rows lag behind after step_rows: call catch_up_rows before a step is captured")
        return late

    def catch_up(self, stream: Any, late: set[int]) -> None:
        """Decay all rows of some tensors by what they missed."""
        for i in late:
            p, low = self.list.views[i], self.list.beside[i].remainder
            if not p.size:
                continue
            length, decayed, last = self.list.row_words(i)
            rows = self.list.rows(i)
            kernel = CatchUp(Operand("p", p.kind, "nearest" if low is None else "remainder"))
            self.launch(stream, kernel, -(-rows // TEAMS), p.address, 0 if low is None else low.address, length, rows,
                        decayed, last)  # fmt: skip
            self.device.set_ones(stream, decayed, rows + 1)
            self.missed[i] = 1.0
        self.lagging = self.lagging - late

    def note(self, i: int, lazy: float, stream: Any) -> None:
        """Let all rows catch up where they have missed too much, which the device knows better than we do."""
        at = self.list.row_words(i)[2]
        before = self.missed[i] * lazy if i in self.missed else LEAST
        if not before > LEAST:
            before = float(self.device.download(at, 8).view(np.float64)[0])
        self.missed[i] = before
        self.lagging.add(i)
        if not before > LEAST:
            self.catch_up(stream, self.lagging)

    # ---- the step

    def enqueue(self, stream: Any, i: int, touched: SparseRows, v: View, request: Request, lazy: float,
                limited: bool) -> None:  # fmt: skip
        """Upload what the rows need, and launch; ``limited``: the norm of their gradients is needed."""
        tables, result = self.tables, self.tables.result.address
        count, real = len(touched.rows), native(self.list.views[i])
        length, decayed, last = self.list.row_words(i)
        summed = limited or count < len(touched.places)
        c, at, chunks, leaves = self.put(stream, i, touched, v, request, lazy, summed)
        if summed and count:
            blocks = -(-count // TEAMS) if length <= grad_norm.LEAF else count
            self.launch(stream, Sums(v.kind, real), blocks, at["order"], at["firsts"], v.address, at["sums"],
                        at["terms"], length, count, result)  # fmt: skip
        if limited and count:
            terms = Leaves("f64", squared=False)
            self.launch(stream, terms, -(-leaves // (terms.threads // 8)), at["given"], at["leaves"], leaves,
                        at["info"], at["partial"], result)  # fmt: skip
        given, prepare = tables.memory.address + tables.given_after, self.launches.prologue(limited, by_index=True)
        self.device.launch(stream, prepare.config, prepare.kernel, given, tables.info.address, tables.memory.address,
                           tables.progress.address, result, at["partial"], at["scratch"])  # fmt: skip
        if count and length:
            self.launch(stream, Rows(c), chunks, at["table"], at["chunks"], given, at["picks"])
        if c.lagging:
            self.launch(stream, Lag(), 1, at["picks"], count, decayed, last, tables.row(i), tables.memory.address)

    def launch(self, stream: Any, kernel: Any, blocks: int, *arguments: int) -> None:
        """Launch a kernel of so many blocks."""
        config = self.device.config(blocks, kernel.threads)
        self.device.launch(stream, config, self.device.kernel(kernel), *arguments)

    def put(self, stream: Any, i: int, touched: SparseRows, v: View, request: Request, lazy: float,
            summed: bool) -> tuple[Variant, dict[str, int], int, int]:  # fmt: skip
        """Upload what the rows need; return their variant, the address of each piece, the chunks and the leaves."""
        tables, count, real = self.tables, len(touched.rows), native(self.list.views[i])
        clip = request.groups[tables.members[i]].h.clip_value is not None
        c = self.launches.variant(i, real if summed else v.kind, clip, False)
        c = c._replace(by_index=True, lagging=self.list.beside[i].row_decay is not None)
        operands, row_words = self.list.operands(i), self.list.row_words(i)
        table = layout.table(c, [i], [tables.row(i)], [[*operands, *row_words]])
        own = np.arange(count) if summed else touched.places[touched.firsts[:-1]]
        chunks = layout.chunks([count], layout.rows_of_a_block(count, self.device.multiprocessors) or 1)
        leaves = layout.chunks([count], grad_norm.LEAF)
        words = {"table": table, "picks": np.stack([touched.rows, own], 1), "chunks": chunks, "leaves": leaves,
                 "given": np.zeros(4, np.uint64), "info": np.zeros(4, np.uint64), "order": touched.places,
                 "firsts": touched.firsts}  # fmt: skip
        room = {"sums": count * row_words[0] * SIZES[real] * summed, "terms": 8 * count, "partial": 8 * len(leaves),
                "scratch": prologue.room(self.list.count, len(leaves))}  # fmt: skip
        at, pieces = self.make_room(words, room)
        words["given"][:2] = at["terms"], 1
        tables.given[:, :3] = 0
        g = at["sums"] if summed else v.address
        tables.given[i, :3] = g, 1, 0 if 0 in layout.heads(c, operands, g) else self.list.sizes[i]
        tables.stale_given = True
        tables.put_call(request, len(leaves), lazy)
        tables.upload(stream)
        self.room[1].upload(stream, [(at["table"], pieces(words))])
        return c, at, len(chunks), len(leaves)

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
            self.room = (self.device.allocate(2 * end), StagingRing(self.device, 2 * uploaded), 2 * end)

        def pieces(words: dict[str, Any]) -> np.ndarray[Any, Any]:
            found = np.zeros(uploaded // 8, np.uint64)
            for name, a in words.items():
                found[starts[name] // 8 :][: a.size] = a.ravel().astype(np.uint64)
            return bytes_of(found)

        return {name: self.room[0].address + start for name, start in starts.items()}, pieces
