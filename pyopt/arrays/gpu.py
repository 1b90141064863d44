"""Arrays that NumPy does not hold: tensors of PyTorch on the CPU by view, arrays on GPUs by address."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..kernels import checks, view
from ..kernels.cuda import arrays as gpu_arrays
from ..kernels.numerics import codecs

Function = TypeVar("Function", bound=Callable[..., Any])

on_gpu = gpu_arrays.on_gpu
is_tensor = gpu_arrays.is_tensor


def as_numpy(a: Any) -> Any:
    """Return the NumPy view of a tensor in this process's memory, and anything else as it is."""
    if isinstance(a, np.ndarray) or not gpu_arrays.is_tensor(a) or a.is_cuda:
        return a
    a = a.detach()
    row = codecs.BY_NAME.get(str(a.dtype).removeprefix("torch."))
    if row is None or row.package is None:
        return a.numpy()
    return a.view(getattr(sys.modules["torch"], f"uint{8 * row.size}")).numpy().view(row.dtype)


def by_view(*writes: str) -> Callable[[Function], Function]:
    """Let a function of NumPy's arrays take tensors in this process's memory, too, and give tensors back for them.

    ``writes`` are the names of the arguments that it may write to; with ``zero_grads`` it writes to ``grads``.
    """

    def taking(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if "torch" not in sys.modules:  # then nothing is a tensor; to look at each argument is half of a small call
                return function(*args, **kwargs)
            args = tuple(map(_listed, args))
            kwargs = {name: _listed(a) for name, a in kwargs.items()}
            if not any(map(_has_tensors, args)) and not any(map(_has_tensors, kwargs.values())):
                return function(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            views = {
                name: [*map(as_numpy, a)] if type(a) in (list, tuple) else as_numpy(a) for name, a in given.items()
            }
            result = function(**views)
            for name in (*writes, *(("grads",) if given.get("zero_grads") else ())):
                a = given.get(name, ())
                written(a if isinstance(a, (list, tuple)) else (a,))
            owners = {id(view): given[name] for name, view in views.items()}
            return tuple(_tensor(x, owners) for x in result) if isinstance(result, tuple) else _tensor(result, owners)

        return called  # type: ignore[return-value]

    return taking


def _listed(a: Any) -> Any:
    """Return an iterator, such as ``model.parameters()``, as a list: it can be gone through once only."""
    return list(a) if hasattr(type(a), "__next__") else a


def _has_tensors(a: Any) -> bool:
    return any(map(gpu_arrays.is_tensor, a)) if type(a) in (list, tuple) else gpu_arrays.is_tensor(a)


def _tensor(a: Any, owners: Mapping[int, Any]) -> Any:
    """Return an array as a tensor: the one whose view it is, or a new one of the same memory."""
    if not isinstance(a, np.ndarray):
        return a
    if id(a) in owners:
        return owners[id(a)]
    torch, row = sys.modules["torch"], codecs.BY_NAME.get(a.dtype.name)
    if row is None or row.package is None:
        return torch.from_numpy(a)
    return torch.from_numpy(a.view(f"u{row.size}")).view(getattr(torch, row.name))


def facts(tensors: Sequence[Any]) -> list[Any]:
    """Return where tensors of PyTorch are, and what: a tensor may be given other memory, and another dtype with it."""
    return [(t.data_ptr(), t.device, t.dtype, t.shape, t.stride()) for t in tensors]


def written(arrays: Iterable[Any]) -> None:
    """Let autograd know that tensors were written to: what it has kept of them for a backward pass is no longer so."""
    for a in arrays:
        if gpu_arrays.is_tensor(a) and not a.is_inference():
            sys.modules["torch"].autograd.graph.increment_version(a)


def is_array(a: Any) -> bool:
    """Whether ``a`` is one array, of whatever library, and no list of them."""
    return isinstance(a, np.ndarray) or gpu_arrays.is_tensor(a) or on_gpu(a) or hasattr(type(a), "__dlpack__")


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


def placed_like(p: Any, start: Any, dtype: np.dtype[Any]) -> Any:
    """Return a new array of ``dtype`` on the GPU of ``p`` that holds ``start``: a number or an array of NumPy."""
    return gpu_arrays.placed_like(gpu_of(p), gpu_arrays.view(p, "a parameter"), start, view.KINDS[dtype.name])


def copy_like(p: Any, values: np.ndarray[Any, Any]) -> Any:
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


def kept(p: Any) -> Any:
    """Return a copy of an array on its GPU."""
    v = gpu_arrays.view(p, "a parameter")
    return gpu_arrays.placed_like(gpu_of(p), v, v)


def stored(a: Any, p: Any) -> Any:
    """Return what of the numbers of ``a`` the dtype of ``p`` can hold, on the GPU of both."""
    v = gpu_arrays.view(p, "a parameter")
    if a.kind == v.kind:
        return a
    dtype = gpu_arrays.dtype_of(v.kind)
    values = codecs.encode(codecs.decode(a.get(), codecs.compute(dtype)), dtype)
    return gpu_arrays.placed_like(gpu_of(p), v, values)


def put(p: Any, value: Any) -> None:
    """Write an array of pyopt's on the GPU of ``p`` into ``p``, which has its shape and dtype."""
    v = gpu_arrays.view(p, "a parameter")
    view.agree(v, value.view, "a parameter")
    if v.kind != value.kind:
        raise TypeError(f"a parameter is {v.kind} now: must be {value.kind}, as it was")
    gpu_of(p).copy(v.address, value.view.address, value.nbytes)


def check_parameters(names: Sequence[str], params: Sequence[Any]) -> None:
    """Raise where an array on a GPU cannot be updated in place."""
    for name, p in zip(names, params, strict=True):
        if on_gpu(p):
            v = gpu_arrays.view(p, name)
            view.check(v, name)
            if "param" not in codecs.BY_SHORT[v.kind].holds:
                raise TypeError(f"{name} is {v.kind}: {checks.either(checks.STORED)} is needed")
