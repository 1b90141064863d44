"""Copies of lists of arrays, kept beside the weights and written back to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..kernels import checks


def array_list(params: Any, name: str = "params") -> list[Array]:
    """Return the weights as a list; TypeError where one is no array."""
    if isinstance(params, (np.ndarray, str, Mapping)):
        raise TypeError(f"{name} is {type(params).__name__}: a list of arrays is needed, such as [w, b]")
    arrays = list(params)
    for i, p in enumerate(arrays):
        if not isinstance(p, np.ndarray):
            raise TypeError(f"{name}[{i}] is {type(p).__name__}: a NumPy array is needed")
        if checks.masked(p):
            raise TypeError(f"{name}[{i}] is a masked array: fill it first, with a.filled(value)")
    return arrays


def copied(arrays: Sequence[Array]) -> list[Array]:
    """Return copies."""
    return [a.copy(order="K") for a in arrays]


def fits(params: Sequence[Array], values: Sequence[Array]) -> None:
    """Raise ValueError where ``values`` cannot be written into ``params``."""
    if _shapes(params) != _shapes(values):
        raise ValueError(f"params are {_words(params)}: must be {_words(values)}, as the weights that were kept")
    for i, p in enumerate(params):
        if not p.flags.writeable:
            raise ValueError(f"params[{i}] is read-only: it is updated in place")


def _shapes(arrays: Sequence[Array]) -> list[Any]:
    return [(a.shape, a.dtype) for a in arrays]


def _words(arrays: Sequence[Array]) -> str:
    return ", ".join(f"{a.dtype}{list(a.shape)}" for a in arrays) or "none"
