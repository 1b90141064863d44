"""The slots beside a parameter: which arrays an optimizer keeps there, in which types, and what they start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arrays.backend import Array, copied, copy_like, described, placed_like
from ..kernels.numerics import codecs
from ..kernels.step import Beside
from .group import ParamGroup


class Slot(NamedTuple):
    """An array that may stand beside a parameter.

    ``start`` is a number, or a function of the parameter and the dtype; None for one that is made where it is first
    needed.
    """

    name: str
    on: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: Any


def slots(group: ParamGroup, p: Array) -> Beside:
    """Return the slots beside ``p``."""
    key = described(p)
    if key not in group.slots:  # of 100000 tensors most have the shape of another
        group.slots[key] = _slots(group, *key)
    return group.slots[key]  # type: ignore[no-any-return]


def _slots(group: ParamGroup, shape: tuple[int, ...], stored: np.dtype[Any]) -> Beside:
    given = group.options["state_dtype"] or {}
    real = codecs.compute(stored)
    flags, ema, *_ = group.structure
    states = []
    for state, on in zip(group.rule.states, flags, strict=True):
        start = getattr(group.h, state.start) if isinstance(state.start, str) else state.start
        states.append(Slot(state.name, on, shape, _storage(given, state.name, real), start))
    shadow, remainder = group.options["shadow_dtype"], group.options["rounding"] == "remainder"
    row = codecs.BY_NAME[stored.name]
    if remainder and not (row.native or row.remainder):
        raise ValueError(f"rounding='remainder' for a {row.name} parameter: must be bfloat16, or float32 and float64")
    cut_off = codecs.BY_SHORT[row.remainder or "u16"].dtype
    kind, rows = codecs.dtype(shadow or "float16"), (shape[0] + 1,) if shape else (2,)
    return Beside(
        tuple(states),
        ema=Slot("ema", ema, shape, _storage(given, "ema", real), _copy if ema else None),
        shadow=Slot("shadow", shadow is not None, shape, kind, None if shadow is None else _copy),
        remainder=Slot("remainder", remainder and row.remainder is not None, shape, cut_off, 0),
        row_decay=Slot("row_decay", True, rows, np.dtype(np.float64), None),
    )


def filled(group: ParamGroup, p: Array, have: Beside) -> Beside:
    """Return ``have``, in the dtypes wanted now, and new arrays where a slot is on that was empty."""

    def fill(slot: Slot, array: Array | None) -> Array | None:
        if array is None and slot.on and slot.start is not None:
            return placed_like(p, slot.start(p, slot.dtype) if callable(slot.start) else slot.start, slot.dtype)
        if array is None or array.dtype == slot.dtype or (slot.name == "shadow" and not slot.on):
            return array
        return placed_like(p, _copy(array, slot.dtype, codecs.compute(described(p)[1])), slot.dtype)

    return slots(group, p).map(fill, have)


def in_use(group: ParamGroup, p: Array, have: Beside) -> Beside:
    """Return ``have`` without what is kept of slots that are off."""
    return slots(group, p).map(lambda slot, array: array if slot.on else None, have)


def moved(p: Any, had: Beside) -> Beside:
    """Return copies of what stands beside a parameter, beside ``p``, which is the same one on another device."""
    return placed(p, had.map(copied))


def placed(p: Any, arrays: Beside) -> Beside:
    """Return copies of arrays in the memory of this process, where p is."""
    lag = None if arrays.row_decay is None else copy_like(p, arrays.row_decay)
    rest = arrays._replace(row_decay=None)
    return rest.map(lambda a: None if a is None else placed_like(p, a, a.dtype))._replace(row_decay=lag)


def _copy(a: Any, dtype: np.dtype[Any], real: type[Any] | None = None) -> Array:
    """Return the numbers of an array in another storage type, in memory of this process."""
    values = copied(a)
    return codecs.encode(codecs.decode(values, real or codecs.compute(values.dtype)), dtype)


def _storage(given: Mapping[str, str], name: str, real: type[Any]) -> np.dtype[Any]:
    """Return how a state is stored: never in more bits than it is computed in."""
    wanted = codecs.dtype(given.get(name, real))
    return np.dtype(real) if wanted.itemsize > np.dtype(real).itemsize else wanted
