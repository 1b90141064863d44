"""Copies of lists of arrays, kept beside the weights and written back to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..arrays.gpu import as_numpy, is_array, written
from ..kernels import checks
from ..kernels.native import write


class Weights:
    """The weights as they were given, of which tensors of PyTorch are looked at where they are at the time."""

    def __init__(self, params: Any, name: str = "params") -> None:
        if isinstance(params, (str, Mapping)) or is_array(params):
            raise TypeError(f"{name} is {type(params).__name__}: a list of arrays is needed, such as [w, b]")
        self.given = list(params)
        for i, p in enumerate(self.arrays):
            if not isinstance(p, np.ndarray):
                raise TypeError(
                    f"{name}[{i}] is {type(p).__name__}: a NumPy array, or a tensor of PyTorch on the CPU, is needed"
                )
            if checks.masked(p):
                raise TypeError(f"{name}[{i}] is a masked array: fill it first, with a.filled(value)")

    @property
    def arrays(self) -> list[Array]:
        """The memory that the weights have now."""
        return [as_numpy(p) for p in self.given]

    def put(self, values: Iterable[Array], *notes: tuple[Any, ...]) -> None:
        """Write values of the same shapes and dtypes into the weights, and update dicts, each by its changes."""
        write(zip(self.arrays, values, strict=True), *notes)
        written(self.given)


def array_list(params: Any, name: str = "params") -> list[Array]:
    """Return the weights as a list; TypeError where one is no array."""
    return Weights(params, name).arrays


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
