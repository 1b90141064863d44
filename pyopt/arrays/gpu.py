"""Arrays that NumPy does not hold: tensors of PyTorch on the CPU by view, arrays on GPUs by address."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kernels import checks, view
from ..kernels.cuda import arrays as gpu_arrays
from ..kernels.numerics import codecs

on_gpu = gpu_arrays.on_gpu


def adopt(a: Any) -> Any:
    """Return the NumPy view of a tensor in this process's memory, and anything else as it is."""
    if isinstance(a, np.ndarray) or not gpu_arrays.is_tensor(a) or a.is_cuda:
        return a
    a = a.detach()
    if str(a.dtype) == "torch.bfloat16":  # which NumPy has by another package
        return a.view(sys.modules["torch"].uint16).numpy().view(codecs.dtype("bfloat16"))
    return a.numpy()


def adopted(a: Any) -> bool:
    """Whether ``a`` is such a view."""
    if not isinstance(a, np.ndarray):
        return False
    base = a.base.base if isinstance(a.base, np.ndarray) else a.base
    return gpu_arrays.is_tensor(base)


def integers(a: Any) -> Any:
    """Return a copy of indices, of int64 where they are integers that fit; waits for those that a GPU holds.

    A copy, because a schedule or another thread may write to theirs after they have been checked.
    """
    if gpu_arrays.is_tensor(a):
        a = a.detach().cpu()
    elif on_gpu(a):
        a = a.get() if hasattr(a, "get") else a.copy_to_host()
    if checks.masked(a):
        raise TypeError("indices are a masked array: fill it first, with a.filled(value)")
    found = np.asarray(a)
    fits = found.dtype.kind == "i" or not found.size or (found.dtype.kind == "u" and found.max() < 1 << 63)
    return np.array(found, np.int64, order="C") if fits else found


def gpu_of(a: Any) -> Any:
    """Return the GPU that holds ``a``; the error of the driver, or of what it needs, where none can be used."""
    from ..kernels.cuda import driver

    if isinstance(a, gpu_arrays.Array):
        return a.device
    if gpu_arrays.is_tensor(a):
        return driver.find(a.device.index or 0)
    address = gpu_arrays.view(a, "an array").address
    return driver.find(driver.of(address) if address else 0)


def beside(p: Any, start: Any, dtype: np.dtype[Any]) -> Any:
    """Return a new array of ``dtype`` on the GPU of ``p`` that holds ``start``: a number or an array of NumPy."""
    return gpu_arrays.beside(gpu_of(p), gpu_arrays.view(p, "a parameter"), start, view.KINDS[dtype.name])


def near(p: Any, values: np.ndarray[Any, Any]) -> Any:
    """Return a copy of an array of NumPy's on the GPU of ``p``."""
    strides = view.contiguous(values.shape)
    found = gpu_arrays.Array(gpu_of(p), values.shape, strides, view.KINDS[values.dtype.name])
    found.set(values)
    return found


def fetched(a: Any) -> np.ndarray[Any, Any]:
    """Return the values of an array on a GPU, after all work there."""
    return gpu_arrays.fetched(gpu_of(a), gpu_arrays.view(a, "an array"))


def described(a: Any) -> tuple[tuple[int, ...], Any]:
    """Return shape and dtype of an array on a GPU in NumPy's terms."""
    v = gpu_arrays.view(a, "an array")
    return v.shape, gpu_arrays.dtype_of(v.kind)


def swap(p: Any, ema: Any) -> None:
    """Exchange the contents of two arrays on one GPU."""
    gpu, v = gpu_of(p), gpu_arrays.view(p, "a parameter")
    kept = gpu_arrays.beside(gpu, v, v)
    gpu.copy(v.address, ema.view.address, ema.nbytes)
    ema.set(kept)


def check_parameters(names: Sequence[str], params: Sequence[Any]) -> None:
    """Raise where an array on a GPU cannot be updated in place."""
    for name, p in zip(names, params, strict=True):
        if on_gpu(p):
            v = gpu_arrays.view(p, name)
            view.check(v, name)
            if v.kind not in codecs.SHORT.values():
                raise TypeError(f"{name} is {v.kind}: float64, float32, bfloat16 or float16 is needed")
