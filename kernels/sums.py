"""Sums of arrays outside of a step, one pass each: gradients of several batches, weights of several steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import checks
from .cpu import engine, isa
from .numerics import codecs

Array = np.ndarray[Any, np.dtype[Any]]


def accumulate(totals: Sequence[Array], grads: Sequence[Array | None]) -> None:
    """Add gradients of several batches up, in the precision of ``totals``, before they are stepped with.

    Parameters
    ----------
    totals : sequence of arrays
        float32 or float64, dense, updated in place; zeros before the first batch (``zero_grads=True`` leaves them so).
    grads : sequence of arrays or None
        One for each total, of its shape and memory order and of its dtype, float32, bfloat16 or float16; None adds
        nothing. Sums of 16 bits would lose what is smaller than 1/256 of them.

    Raises
    ------
    TypeError, ValueError
        Before anything is touched.
    """
    names = [f"totals[{i}]" for i in range(len(totals))]
    if len(grads) != len(totals):
        raise ValueError(f"{len(grads)} gradients for {len(totals)} totals: give one each, or None to add nothing")
    for i, (total, g) in enumerate(zip(totals, grads, strict=True)):
        checks.dense_array(total, names[i])
        if not total.flags.writeable:
            raise ValueError(f"{names[i]} is read-only: it is updated in place")
        if g is not None:
            kept = codecs.allowed("grad", codecs.BY_NAME[total.dtype.name].short)
            checks.like(g, total, f"grads[{i}]", [row.name for row in kept])
            if np.may_share_memory(g, total):
                raise ValueError(f"grads[{i}] and {names[i]} share memory: an update in place needs arrays of its own")
    calls = []
    for total, g in zip(totals, grads, strict=True):
        if g is not None:
            row = codecs.BY_NAME[g.dtype.name]
            raw = g if row.native else g.view(f"u{row.size}")  # which the tile itself decodes
            calls.append((f"codecs.add_{row.short}", (total, raw), (total.itemsize, g.itemsize), (total.size,)))
    engine.sweeps(isa.tiles(), calls)


def absorb(means: Sequence[Array], arrays: Sequence[Array], count: int, *notes: tuple[Any, ...]) -> None:
    """Take arrays into means of ``count`` before them, in place, then update dicts, each given with its changes.

    An array lies in memory in the order of its mean.
    """
    calls = [
        ("step.ema", (mean, x), (mean.itemsize,) * 2, (mean.size,), (1.0 / (count + 1),))
        for mean, x in zip(means, arrays, strict=True)
    ]
    engine.sweeps(isa.tiles(), calls, *notes)
