"""Arrays on a GPU: what those of other libraries say about themselves, and arrays of pyopt's own.

CuPy's, Numba's and this module's arrays come by ``__cuda_array_interface__``, PyTorch's tensors by their own methods:
none of these libraries is imported. An address keeps nothing alive: whoever enqueues work holds the array until then.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from .. import checks
from ..numerics import codecs
from ..view import KINDS, SIZES, View, contiguous

LIBRARIES = ("torch", "cupy")  # that have a current stream of their own


def library(a: Any) -> str:
    """Return the name of the library that an array is of; its class may be derived from the library's elsewhere."""
    names = [kind.__module__.partition(".")[0] for kind in type(a).__mro__]
    return next((name for name in names if name in LIBRARIES), names[0])


def is_tensor(a: Any) -> bool:
    """Whether ``a`` is a tensor of PyTorch, or of a class derived from it."""
    kind: Any = type(a)
    return _of_torch(kind)


@cache
def _of_torch(kind: Any) -> bool:
    return any(c.__module__.partition(".")[0] == "torch" and c.__name__ == "Tensor" for c in kind.__mro__)


def on_gpu(a: Any) -> bool:
    """Whether ``a`` is an array in the memory of an NVIDIA GPU."""
    if isinstance(a, np.ndarray):
        return False
    return bool(a.is_cuda) if is_tensor(a) else hasattr(type(a), "__cuda_array_interface__")


def view(a: Any, name: str) -> View:
    """Return where ``a`` lies; TypeError where it is no array on a GPU or of another dtype."""
    if isinstance(a, View):
        return a
    if isinstance(a, Array):
        return a.view
    if is_tensor(a):
        if not a.is_cuda:
            raise TypeError(f"{name} is a tensor on {a.device}: the parameter is on a GPU, and they must agree")
        kind = KINDS.get(str(a.dtype).removeprefix("torch."))
        if kind is None:
            raise TypeError(f"{name} has dtype {a.dtype}: {checks.either(checks.STORED)} is needed")
        return View(a.data_ptr(), tuple(a.shape), tuple(a.stride()), kind, False)
    given = None if isinstance(a, np.ndarray) else getattr(a, "__cuda_array_interface__", None)
    if given is None:  # JAX's class has it, but not its arrays in the host's memory
        raise TypeError(f"{name} is {type(a).__name__}: an array on a GPU is needed, as the parameter is one, or for "
                        "both an array of NumPy or a tensor of PyTorch")  # fmt: skip
    dtype = str(getattr(a, "dtype", np.dtype(given["typestr"])))
    kind = KINDS.get(dtype)
    if kind is None or given["typestr"][0] == ">":
        needed = checks.either(checks.STORED)
        raise TypeError(f"{name} has dtype {dtype} ({given['typestr']}): native {needed} is needed")
    if given.get("mask") is not None:
        raise TypeError(f"{name} is masked: fill it first")
    address, readonly = given["data"]
    shape, size = tuple(given["shape"]), SIZES[kind]
    strides = given.get("strides")
    if strides is not None and any(s % size for s in strides):
        raise ValueError(f"{name} has strides {strides} in bytes: multiples of the element size {size} are needed")
    steps = contiguous(shape) if strides is None else tuple(s // size for s in strides)
    return View(address or 0, shape, steps, kind, bool(readonly))


def dtype_of(kind: str) -> np.dtype[Any]:
    """Return NumPy's dtype of a storage type; bfloat16 needs ml_dtypes."""
    return codecs.BY_SHORT[kind].dtype


def fetched(device: Any, v: View) -> np.ndarray[Any, Any]:
    """Return the values of an array in a NumPy array of the same strides, after all work on the device."""
    dtype, size = dtype_of(v.kind), SIZES[v.kind]
    if not v.size:
        return np.empty(v.shape, dtype)
    raw = device.download(v.address, v.size * size).view(dtype)
    return np.ndarray(v.shape, dtype, raw, 0, tuple(s * size for s in v.strides))


class Array:
    """An array in the memory of a GPU that pyopt made: a state. Other libraries take it by its CUDA interface."""

    def __init__(self, device: Any, shape: tuple[int, ...], strides: tuple[int, ...], kind: str, offset: int = 0):
        self.device, self.kind, self.shape = device, kind, shape
        self.itemsize = SIZES[kind]
        self.size = math.prod(shape)
        self.nbytes = self.size * self.itemsize
        self.memory = device.allocate(self.nbytes + 256)
        self.view = View(self.memory.address + offset, shape, strides, kind, False)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in NumPy's terms; bfloat16 needs ml_dtypes."""
        return dtype_of(self.kind)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The CUDA array interface, version 3, without a stream: pyopt's work is on the caller's current one."""
        strides = tuple(s * self.itemsize for s in self.view.strides)
        return {"shape": self.shape, "typestr": codecs.BY_SHORT[self.kind].typestr, "data": (self.view.address, False),
                "version": 3, "strides": strides, "stream": None}  # fmt: skip

    def get(self) -> np.ndarray[Any, Any]:
        """Return the values in a NumPy array of the same strides, after all work on the device."""
        return fetched(self.device, self.view)

    def set(self, values: Any) -> None:
        """Take the values of a NumPy array, of a number or of another array on the same device."""
        if isinstance(values, (Array, View)):
            source = values.view if isinstance(values, Array) else values
            self.device.copy(self.view.address, source.address, self.nbytes)
            return
        self.device.wait()  # a step may be under way that uses it
        if isinstance(values, (int, float)) and values == 0 and math.copysign(1, values) > 0:
            self.device.clear(self.view.address, self.nbytes)
            return
        own = np.empty(self.size, self.dtype)
        steps = tuple(s * self.itemsize for s in self.view.strides)
        if self.size:
            np.ndarray(self.shape, self.dtype, own, 0, steps)[...] = values
        self.device.place(self.view.address, own.view(np.uint8))

    def copy(self, order: str = "K") -> Array:
        """Return a copy on the same device."""
        other = Array(self.device, self.shape, self.view.strides, self.kind, self.view.address % 256)
        other.set(self)
        return other

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return self.get() if dtype is None else self.get().astype(dtype)

    def __repr__(self) -> str:
        return f"<{self.kind} array of shape {self.shape} on {self.device}>"


def placed_like(device: Any, p: View, start: Any, kind: str | None = None) -> Array:
    """Return a new array of p's shape and strides that holds ``start``, of p's type or of ``kind``.

    It is aligned to 16 bytes at the element where p is, so that vectors serve both.
    """
    kind = kind or p.kind
    ahead = -p.address % 16 // SIZES[p.kind]
    a = Array(device, p.shape, p.strides, kind, -ahead * SIZES[kind] % 16)
    a.set(start)
    return a
