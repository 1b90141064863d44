"""The arrays of a plan on a GPU: where they lie, and whether they still do."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .. import checks, view
from ..numerics import codecs, codecs_cuda
from ..step import SLOTS, Beside
from ..view import SIZES, View
from . import arrays

Words = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


class GradViews(NamedTuple):
    """What a step has found out about its gradients; ``views`` is None where nothing but addresses has changed."""

    views: list[View | None] | None
    addresses: Words  # 0 for one that is not there
    facts: list[Any] | None
    zeroable: bool


def native(p: View) -> str:
    """Return the type that a parameter is computed in."""
    return codecs.BY_SHORT[p.kind].real


def allowed(p: View, role: str = "grad") -> tuple[str, ...]:
    """Return the storage types of gradients, or of states: those that its compute type keeps all bits of."""
    return tuple(row.short for row in codecs.allowed(role, native(p)) if row.short in codecs_cuda.CODECS)


def _facts(grads: Sequence[Any], in_order: bool) -> list[Any] | None:
    """Return all that a step asks of tensors of PyTorch; None where one is no tensor.

    A backward pass makes new tensors in the memory of the old ones: their ids tell nothing. Addresses come first.
    Where all parameters are ``in_order``, so are gradients that have their strides, which is sooner asked.
    """
    there = [g for g in grads if g is not None]
    kind = sys.modules["torch"].Tensor
    try:  # a column at a time: half of what a tuple for each costs
        facts = [list(map(kind.data_ptr, there)), [g.dtype for g in there], [g.shape for g in there],
                 list(map(kind.is_contiguous if in_order else kind.stride, there))]  # fmt: skip
    except (AttributeError, TypeError):
        return None
    return facts if len(there) == len(grads) else [*facts, [g is None for g in grads]]


class TensorList:
    """Parameters, what stands beside them and, at each step, their gradients: every write path is checked here."""

    def __init__(self, device: Any, states: int, names: Sequence[str], params: Sequence[Any],
                 beside: Sequence[Beside]) -> None:  # fmt: skip
        self.device, self.states = device, states
        self.names, self.params, self.kept = tuple(names), tuple(params), tuple(beside)
        self.count = len(params)
        self.library = arrays.library(params[0])
        self.views = [arrays.view(p, name) for p, name in zip(params, names, strict=True)]
        for v, name in zip(self.views, names, strict=True):
            view.check(v, name)
        self.beside = [self.look_beside(i, own) for i, own in enumerate(beside)]
        self.sizes = [v.size for v in self.views]
        self.spans, self.span_names = self.apart()
        self.tensors = [p for p in self.params if arrays.is_tensor(p)]
        self.addresses = [p.data_ptr() for p in self.tensors]  # a tensor may be given other memory
        self.in_order = all(map(view.in_order, self.views))
        self.ordinal = self.tensors[0].get_device() if self.tensors else None
        self.grads: list[Any] = []  # weak references to the last ones, which would cost their memory if kept alive
        self.ids: list[int] = []  # of the last gradients, which tell while none of them has died
        self.died: list[Any] = []
        self.facts: list[Any] | None = None  # of the last gradients, where all parameters are tensors of PyTorch
        self.found: list[View | None] = []  # where they were
        self.lengths: Words = np.zeros(self.count, np.uint64)  # their bytes
        self.unaligned: Words = np.zeros(self.count, np.uint64)  # bits that no address of theirs has
        self.there = np.zeros(0, np.int64)  # the tensors that had one
        self.zeroable = False

    def look_beside(self, i: int, own: Beside) -> Beside:
        """Return the views of what stands beside a parameter, each of which goes with it."""
        checks.beside(own, self.states, self.names[i])
        states = tuple(f"state {k}" for k in range(self.states))
        slots = Beside(states, ("scale",) * len(own.scales), *SLOTS)
        return slots.map(lambda slot, a: None if a is None else self.slot(i, slot, a), own)

    def slot(self, i: int, slot: str, a: Any) -> View:
        """Return the view of an array in a slot."""
        label, p = f"{slot} of {self.names[i]}", self.views[i]
        v = arrays.view(a, label)
        view.check(v, label)
        if slot == "row_decay":
            view.agree(v, View(0, (self.rows(i) + 1,), (1,), "f64", False), label)
        else:
            view.agree(v, p, label)
        kinds = {"remainder": ("u16",), "row_decay": ("f64",)}.get(slot, allowed(p, "state"))
        if v.kind not in kinds:
            raise TypeError(f"{label} is {v.kind}: {' or '.join(kinds)} is needed")
        return v

    def apart(self) -> tuple[Words, list[str]]:
        """Return where parameters and states lie, in the order of addresses, and whose they are; none may overlap."""
        spans = []
        for p, own, name in zip(self.views, self.beside, self.names, strict=True):
            for v, what in [(p, name), *((x, f"a state of {name}") for x in own.flat() if x is not None)]:
                if v.size:
                    spans.append((v.address, v.address + v.size * SIZES[v.kind], what))
        spans.sort()
        for (_, stop, a), (start, _, b) in pairwise(spans):
            if start < stop:
                raise ValueError(f"{a} and {b} share memory: an update in place needs arrays of their own")
        return np.array([(low, high) for low, high, _ in spans], np.uint64).reshape(-1, 2), [name for *_, name in spans]

    def rows(self, i: int) -> int:
        """Return how many rows a tensor has."""
        return (*self.views[i].shape, 1)[0]

    def operands(self, i: int) -> list[int]:
        """Return the addresses of a tensor's operands but g: p, states and EMA, shadow, remainder."""
        own = self.beside[i]
        found = (self.views[i], *own.states, own.ema, own.shadow, own.remainder)
        return [v.address for v in found if v is not None]

    def row_words(self, i: int) -> list[int]:
        """Return what a table has besides for a tensor whose rows stay whole; see whole_rows.py."""
        lags, rows = self.beside[i].row_decay, self.rows(i)
        decayed = (0, 0) if lags is None else (lags.address, lags.address + 8 * rows)
        return [self.sizes[i] // max(1, rows), *decayed]

    def whole_rows(self, i: int) -> None:
        """Raise where the rows of a tensor do not lie one after another."""
        v, name = self.views[i], self.names[i]
        if not view.in_order(v):
            raise ValueError(f"{name} has strides {v.strides} for shape {v.shape}: a C-contiguous array is needed, as "
                             "np.ascontiguousarray makes")  # fmt: skip

    # ---- at each step

    def still(self) -> None:
        """Raise where a parameter is no longer where it was."""
        if self.tensors and list(map(sys.modules["torch"].Tensor.data_ptr, self.tensors)) != self.addresses:
            raise ValueError("the memory of a parameter was moved since the optimizer was made: make a new optimizer")

    def check(self, grads: tuple[Any, ...], zero: bool) -> GradViews | None:
        """Return where the gradients are, or None where they are the arrays of the last step, where they were."""
        checks.count(grads, self.count)
        self.still()
        facts = _facts(grads, self.in_order) if len(self.tensors) == self.count else None
        if self.zeroable >= zero:
            if facts is not None and self.facts is not None:
                if facts == self.facts:
                    return None
                if facts[1:] == self.facts[1:] and (addresses := self.moved(grads, facts[0])) is not None:
                    self.separate(addresses, self.lengths, zero)
                    return GradViews(None, addresses, facts, self.zeroable)
            if not self.tensors and not self.died and self.ids == list(map(id, grads)):
                return None
        found = self.look(grads, zero)
        addresses = np.array([0 if v is None else v.address for v in found], np.uint64)
        self.separate(addresses, lengths(found), zero)
        return GradViews(found, addresses, facts, zero)

    def look(self, grads: tuple[Any, ...], zero: bool) -> list[View | None]:
        """Return the views of the gradients, each of which goes with its parameter."""
        found: list[View | None] = []
        for g, p, name in zip(grads, self.views, self.names, strict=True):
            if g is None:
                found.append(None)
                continue
            v = arrays.view(g, f"the gradient of {name}")
            view.check(v if zero else v._replace(readonly=False), f"the gradient of {name}")
            view.agree(v, p, f"the gradient of {name}")
            if v.kind not in allowed(p):
                raise TypeError(
                    f"the gradient of {name} is {v.kind}, the parameter {p.kind}: {' or '.join(allowed(p))} is needed"
                )
            if arrays.is_tensor(g) and self.ordinal not in (None, g.get_device()):
                raise TypeError(f"the gradient of {name} is on {g.device}, the parameter on cuda:{self.ordinal}: they "
                                "must agree")  # fmt: skip
            if not self.tensors and not self.device.holds(v.address):
                raise TypeError(f"the gradient of {name} is not on {self.device}, where the parameter is")
            found.append(v)
        return found

    def moved(self, grads: tuple[Any, ...], addresses: list[int]) -> Words | None:
        """Return where tensors are that are as those before but for their memory; None where that takes a closer look.

        A step after a backward pass that made its gradients anew comes here.
        """
        there = [g for g in grads if g is not None]
        if list(map(sys.modules["torch"].Tensor.get_device, there)) != [self.ordinal] * len(there):
            return None
        found = np.zeros(self.count, np.uint64)
        found[self.there] = addresses
        return None if (found & self.unaligned).any() else found

    def take(self, grads: tuple[Any, ...], zero: bool) -> GradViews | None:
        """Check the gradients of a step that goes ahead, and remember them; see ``check``."""
        found = self.check(grads, zero)
        if found is None:
            return None
        if not self.tensors:
            died: list[Any] = []
            self.died = died
            self.grads = [_reference(g, died.append) for g in grads]
            self.ids = list(map(id, grads))
        if found.views is not None:
            self.found, self.lengths = found.views, lengths(found.views)
            sizes = [0 if v is None else SIZES[v.kind] for v in found.views]
            self.there = np.flatnonzero(sizes)
            self.unaligned = np.maximum(sizes, 1).astype(np.uint64) - np.uint64(1)
        self.facts, self.zeroable = found.facts, found.zeroable
        return found

    def forget(self) -> None:
        """Let the next step look at its gradients anew."""
        self.ids, self.facts = [], None

    def check_rows(self, i: int, indices: Any, values: Any) -> View:
        """Raise where a step of the rows ``indices`` cannot take ``values``; return where these are."""
        self.still()
        p, name = self.views[i], self.names[i]
        self.whole_rows(i)
        if not p.shape:
            raise ValueError(f"{name} has no rows: it is a single number")
        checks.row_indices(indices, p.shape[0], name)
        v = arrays.view(values, "values")
        view.check(v._replace(readonly=False), "values")
        if v.kind not in allowed(p):
            raise TypeError(f"values are {v.kind}, the parameter {p.kind}: {' or '.join(allowed(p))} is needed")
        if v.shape != (len(indices), *p.shape[1:]):
            raise ValueError(
                f"values have shape {v.shape}: must be {(len(indices), *p.shape[1:])}, a row for each index"
            )
        if not view.in_order(v):
            raise ValueError(f"values have strides {v.strides} for shape {v.shape}: np.ascontiguousarray is needed")
        if not self.device.holds(v.address):
            raise ValueError(f"values are not on {self.device}, where {name} is")
        addresses = np.full(self.count, v.address, np.uint64)
        self.separate(addresses, lengths([*[None] * i, v, *[None] * (self.count - i - 1)]), False)
        return v

    def separate(self, addresses: Words, lengths: Words, zero: bool) -> None:
        """Refuse a gradient that shares memory with what the step writes: with ``zero``, other gradients among it."""
        who = np.flatnonzero(lengths)
        who = who[np.argsort(addresses[who], kind="stable")]
        low, high = addresses[who], addresses[who] + lengths[who]
        clash = np.flatnonzero(low[1:] < high[:-1])
        if zero and clash.size:
            a, b = (self.names[int(who[clash[0] + k])] for k in (0, 1))
            raise ValueError(f"the gradients of {a} and {b} share memory")
        if not len(self.spans):
            return
        at = np.searchsorted(self.spans[:, 0], high).astype(np.int64) - 1  # the last that begins before one ends
        clash = np.flatnonzero((at >= 0) & (self.spans[np.maximum(at, 0), 1] > low))
        if clash.size:
            k = int(clash[0])
            raise ValueError(f"{self.span_names[int(at[k])]} and the gradient of {self.names[int(who[k])]} share "
                             "memory: an update in place needs arrays of their own")  # fmt: skip


def lengths(found: Sequence[View | None]) -> Words:
    """Return the bytes of arrays, 0 for one that is not there."""
    return np.array([0 if v is None else v.size * SIZES[v.kind] for v in found], np.uint64)


def _reference(a: Any, died: Callable[[Any], None]) -> Any:
    """Return a weak reference that calls ``died``, or the object where there can be none."""
    try:
        return weakref.ref(a, died)
    except TypeError:
        return a
