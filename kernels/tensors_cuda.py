"""The arrays of a plan on a GPU: where they lie, and whether they still do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from . import arrays_cuda, codecs
from .arrays_cuda import View

KINDS = tuple(codecs.SHORT.values())  # storage types, the widest first


def native(p: View) -> str:
    """Return the type that a parameter is computed in."""
    return "f64" if p.kind == "f64" else "f32"


def allowed(p: View) -> tuple[str, ...]:
    """Return the storage types of states and gradients: none that its numbers lose bits by."""
    return KINDS[KINDS.index(native(p)) :]


def _facts(grads: Sequence[Any]) -> list[Any] | None:
    """Return all that a step asks of tensors of PyTorch; None where one is no tensor.

    A backward pass makes new tensors in the memory of the old ones: their ids tell nothing.
    """
    there = [g for g in grads if g is not None]
    kind = sys.modules["torch"].Tensor
    try:  # a column at a time: half of what a tuple for each costs
        facts = [list(map(kind.data_ptr, there)), [g.dtype for g in there], [g.shape for g in there],
                 list(map(kind.stride, there))]  # fmt: skip
    except (AttributeError, TypeError):
        return None
    return facts if len(there) == len(grads) else [*facts, [g is None for g in grads]]


class Tensors:
    """Parameters, their states and, at each step, their gradients; all that writes to them checks them here."""

    def __init__(self, names: Sequence[str], params: Sequence[Any], states: Sequence[Sequence[Any]]) -> None:
        self.names, self.params, self.states = tuple(names), tuple(params), tuple(map(tuple, states))
        self.count = len(params)
        self.library = arrays_cuda.library(params[0])
        self.views = [arrays_cuda.view(p, name) for p, name in zip(params, names, strict=True)]
        for v, name in zip(self.views, names, strict=True):
            arrays_cuda.check(v, name)
        self.owned = [self.own(i, row) for i, row in enumerate(states)]
        self.sizes = [v.size for v in self.views]
        self.apart()
        self.tensors = [p for p in self.params if arrays_cuda.is_tensor(p)]
        self.addresses = [p.data_ptr() for p in self.tensors]  # a tensor may be given other memory
        self.ids: list[int] = []  # of the last gradients, which tell while none of them has died
        self.died: list[Any] = []
        self.facts: list[Any] | None = None  # of the last gradients, where all parameters are tensors of PyTorch
        self.zeroable = False

    def own(self, i: int, states: Sequence[Any]) -> list[View | None]:
        """Return the views of what belongs to a parameter: the states, then EMA, shadow, remainder and row_decay."""
        found: list[View | None] = []
        what = [*(f"state {k}" for k in range(len(states) - 4)), "ema", "shadow", "remainder", "row_decay"]
        for name, a in zip(what, states, strict=True):
            if a is None:
                found.append(None)
                continue
            label, p = f"{name} of {self.names[i]}", self.views[i]
            v = arrays_cuda.view(a, label)
            arrays_cuda.check(v, label)
            if name == "row_decay":
                arrays_cuda.agree(v, View(0, ((*p.shape, 1)[0] + 1,), (1,), "f64", False), label)
            else:
                arrays_cuda.agree(v, p, label)
            kinds = {"remainder": ("u16",), "row_decay": ("f64",)}.get(name, allowed(p))
            if v.kind not in kinds:
                raise TypeError(f"{label} is {v.kind}: {' or '.join(kinds)} is needed")
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

    def rows(self, i: int) -> int:
        """Return how many rows a tensor has."""
        return (*self.views[i].shape, 1)[0]

    def whole_rows(self, i: int) -> None:
        """Raise where the rows of a tensor do not lie one after another."""
        v, name = self.views[i], self.names[i]
        if not arrays_cuda.in_order(v):
            raise ValueError(f"{name} has strides {v.strides} for shape {v.shape}: a C-contiguous array is needed, as "
                             "np.ascontiguousarray makes")  # fmt: skip

    # ---- at each step

    def still(self) -> None:
        """Raise where a parameter is no longer where it was."""
        if self.tensors and list(map(sys.modules["torch"].Tensor.data_ptr, self.tensors)) != self.addresses:
            raise ValueError("the memory of a parameter was moved since the optimizer was made: make a new optimizer")

    def check(self, grads: tuple[Any, ...], zero: bool) -> list[View | None] | None:
        """Return the views of the gradients, or None where they are the arrays of the last step, where they were."""
        if len(grads) != self.count:
            raise ValueError(f"{len(grads)} gradients for {self.count} parameters: give one each, or None to skip one")
        self.still()
        facts = _facts(grads) if len(self.tensors) == self.count else None
        if self.zeroable >= zero:
            if facts is not None and facts == self.facts:
                return None
            if not self.tensors and not self.died and self.ids == list(map(id, grads)):
                return None
        found: list[View | None] = []
        for g, p, name in zip(grads, self.views, self.names, strict=True):
            if g is None:
                found.append(None)
                continue
            v = arrays_cuda.view(g, f"the gradient of {name}")
            arrays_cuda.check(v if zero else v._replace(readonly=False), f"the gradient of {name}")
            arrays_cuda.agree(v, p, f"the gradient of {name}")
            if v.kind not in allowed(p):
                raise TypeError(
                    f"the gradient of {name} is {v.kind}, the parameter {p.kind}: {' or '.join(allowed(p))} is needed"
                )
            found.append(v)
        self.separate(found, zero)
        self.zeroable, self.facts = zero, facts
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
