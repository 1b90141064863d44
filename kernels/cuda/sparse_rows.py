"""Steps of some rows of a tensor: its gradient has a row for each of a list of indices.

The indices are sorted here and uploaded; five kernels at most do the rest, and nothing is waited for but, once in a
long while, the sum of what rows have missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..step import Request
from ..view import View
from . import layout
from .device import grad_norm, prologue
from .device.sparse_rows import TEAMS
from .driver import StagingRing
from .entry_points import CatchUp, Lag, Leaves, Rows, Sums
from .launches import Launches
from .layout import bytes_of
from .tables import DeviceTables
from .tensor_list import TensorList, native
from .variant import Operand

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
            kernel, rows = CatchUp(Operand("p", p.kind, "nearest" if low is None else "remainder")), self.list.rows(i)
            self.device.launch(stream, self.device.config(-(-rows // TEAMS), kernel.threads),
                               self.device.kernel(kernel), p.address, 0 if low is None else low.address, length, rows,
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
        tables = self.tables
        clip = request.groups[tables.members[i]].h.clip_value is not None
        count, real, launch = len(touched.rows), native(self.list.views[i]), self.device.launch
        given = tables.memory.address + tables.given_after
        length, decayed, last = self.list.row_words(i)
        lags = self.list.beside[i].row_decay is not None
        summed = limited or count < len(touched.places)
        leaves = layout.chunks([count], grad_norm.LEAF)
        c = self.launches.variant(i, real if summed else v.kind, clip, False)._replace(picked=True, lagging=lags)
        own = np.arange(count) if summed else touched.places[touched.firsts[:-1]]
        operands = self.list.operands(i)
        table = layout.table(c, [0], [tables.row(i)], [[*operands, length, decayed, last]])
        table[0, 0] = i
        chunks = layout.chunks([count], layout.rows_of_a_block(count, self.device.multiprocessors) or 1)
        words = {"table": table, "picks": np.stack([touched.rows, own], 1), "chunks": chunks, "leaves": leaves,
                 "given": np.zeros(4, np.uint64), "info": np.zeros(4, np.uint64), "order": touched.places,
                 "firsts": touched.firsts}  # fmt: skip
        size = 8 if real == "f64" else 4
        room = {"sums": count * length * size * summed, "terms": 8 * count, "partial": 8 * len(leaves),
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
        if summed and count:
            kernel = Sums(v.kind, real)
            blocks = -(-count // TEAMS) if length <= grad_norm.LEAF else count
            launch(stream, self.device.config(blocks, kernel.threads), self.device.kernel(kernel), at["order"],
                   at["firsts"], v.address, at["sums"], at["terms"], length, count, tables.result.address)  # fmt: skip
        if limited and count:
            terms = Leaves("f64", squared=False)
            blocks = -(-len(leaves) // (terms.threads // 8))
            launch(stream, self.device.config(blocks, terms.threads), self.device.kernel(terms), at["given"],
                   at["leaves"], len(leaves), at["info"], at["partial"], tables.result.address)  # fmt: skip
        prepare = self.launches.prologue(limited, picked=True)
        launch(stream, prepare.config, prepare.kernel, given, tables.info.address, tables.memory.address,
               tables.progress.address, tables.result.address, at["partial"], at["scratch"])  # fmt: skip
        if count and length:
            rows = Rows(c)
            launch(stream, self.device.config(len(chunks), rows.threads), self.device.kernel(rows), at["table"],
                   at["chunks"], given, at["picks"])  # fmt: skip
        if lags:
            lag = Lag()
            launch(stream, self.device.config(1, lag.threads), self.device.kernel(lag), at["picks"], count, decayed,
                   last, int(table[0, 1]), tables.memory.address)  # fmt: skip

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
