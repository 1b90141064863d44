"""Arrays that NumPy does not hold: tensors of PyTorch on the CPU by view, arrays on GPUs by address."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..kernels import checks
from ..kernels.cuda import arrays as gpu_arrays
from ..kernels.numerics import codecs

on_gpu = gpu_arrays.on_gpu
is_tensor = gpu_arrays.is_tensor


def adopt(a: Any) -> Any:
    """Return the NumPy view of a tensor in this process's memory, and anything else as it is."""
    if isinstance(a, np.ndarray) or not gpu_arrays.is_tensor(a) or a.is_cuda:
        return a
    a = a.detach()
    row = codecs.BY_NAME.get(str(a.dtype).removeprefix("torch."))
    if row is None or row.package is None:
        return a.numpy()
    return a.view(getattr(sys.modules["torch"], f"uint{8 * row.size}")).numpy().view(row.dtype)


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


def beside(p: Any, start: Any, dtype: np.dtype[Any]) -> Any:
    """Return a new array of ``dtype`` on the GPU of ``p`` that holds ``start``: a number or an array of NumPy."""
    return gpu_arrays.beside(gpu_of(p), gpu_arrays.view(p, "a parameter"), start, gpu_arrays.KINDS[dtype.name])


def near(p: Any, values: np.ndarray[Any, Any]) -> Any:
    """Return a copy of an array of NumPy's on the GPU of ``p``."""
    strides = gpu_arrays.contiguous(values.shape)
    found = gpu_arrays.Array(gpu_of(p), values.shape, strides, gpu_arrays.KINDS[values.dtype.name])
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
    return gpu_arrays.beside(gpu_of(p), v, v)


def stored(a: Any, p: Any) -> Any:
    """Return what of the numbers of ``a`` the dtype of ``p`` can hold, on the GPU of both."""
    v = gpu_arrays.view(p, "a parameter")
    if a.kind == v.kind:
        return a
    dtype = gpu_arrays.dtype_of(v.kind)
    values = codecs.encode(codecs.decode(a.get(), codecs.compute(dtype)), dtype)
    return gpu_arrays.beside(gpu_of(p), v, values)


def put(p: Any, value: Any) -> None:
    """Write an array of pyopt's on the GPU of ``p`` into ``p``, which has its shape and dtype."""
    v = gpu_arrays.view(p, "a parameter")
    gpu_arrays.agree(v, value.view, "a parameter")
    if v.kind != value.kind:
        raise TypeError(f"a parameter is {v.kind} now: must be {value.kind}, as it was")
    gpu_of(p).copy(v.address, value.view.address, value.nbytes)


def check_parameters(names: Sequence[str], params: Sequence[Any]) -> None:
    """Raise where an array on a GPU cannot be updated in place."""
    for name, p in zip(names, params, strict=True):
        if on_gpu(p):
            v = gpu_arrays.view(p, name)
            gpu_arrays.check(v, name)
            if "param" not in codecs.BY_SHORT[v.kind].holds:
                raise TypeError(f"{name} is {v.kind}: {checks.either(checks.STORED)} is needed")


class Mixed:
    """Plans on several devices as one. See ``engine.Plan``; a norm over several devices is refused."""

    def __init__(self, parts: Sequence[tuple[Any, list[int], bool]]) -> None:
        self.parts = parts  # (plan, its tensors, whether it is on a GPU)
        self.last: Any = None  # that stepped rows, where that was the last step

    @property
    def norm(self) -> float | None:
        """The norm of the gradients of the last step, where it was one of rows."""
        return None if self.last is None else self.last.norm

    @property
    def skipped(self) -> bool:
        """Whether the last step was none."""
        return self.last is not None and bool(self.last.skipped)

    def step(self, grads: Sequence[Any], work: Any, zero: bool = False, max_norm: float = math.inf,
             skip: bool = False, news: tuple[Any, ...] = ()) -> None:  # fmt: skip
        """Step every part, when all gradients on GPUs have been checked; the CPU engine checks its own first."""
        if max_norm != math.inf or skip:
            raise ValueError("max_grad_norm, skip_nonfinite and a DynamicLossScale need all parameters on one device")
        hold, count = tuple(grads), sum(len(indices) for _, indices, _ in self.parts)
        if len(hold) != count:
            raise ValueError(f"{len(hold)} gradients for {count} parameters: give one each, or None to skip one")
        shares = [(plan, tuple(hold[i] for i in indices), gpu) for plan, indices, gpu in self.parts]
        for plan, share, gpu in shares:
            if gpu:
                plan.take(share, work, zero)
        self.last = None
        for plan, share, _ in sorted(shares, key=lambda part: part[2]):
            plan.step(share, work, zero, news=news)
            news = ()

    def part_of(self, i: int) -> tuple[Any, int]:
        """Return the plan that has tensor ``i``, and its place there."""
        return next((plan, indices.index(i)) for plan, indices, _ in self.parts if i in indices)

    def check_rows(self, i: int, indices: Any, values: Any) -> None:
        """See ``engine.Plan.check_rows``."""
        plan, k = self.part_of(i)
        plan.check_rows(k, indices, values)

    def step_rows(self, i: int, *args: Any) -> None:
        """See ``engine.Plan.step_rows``."""
        plan, k = self.part_of(i)
        self.last = plan
        plan.step_rows(k, *args)

    def catch_up(self) -> None:
        """See ``engine.Plan.catch_up``."""
        for plan, _, _ in self.parts:
            plan.catch_up()

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries."""
        count = sum(len(indices) for _, indices, _ in self.parts)
        steps, carries = [0] * count, [0.0] * count
        for plan, indices, _ in self.parts:
            for i, t, carry in zip(indices, *plan.progress(), strict=True):
                steps[i], carries[i] = t, carry
        return steps, carries

    def refresh(self, work: Any) -> None:
        """See ``gpu_engine.Plan.refresh``."""
        for plan, _, gpu in self.parts:
            if gpu:
                plan.refresh(work)


def make_plan(
    on_cpu: Any, rule: str, names: Sequence[str], params: Sequence[Any], states: Sequence[Any], groups: Sequence[int],
    stages: Sequence[Any], steps: Sequence[int], carries: Sequence[float],
) -> Any:  # fmt: skip
    """Return the plan for arrays of which some are on GPUs; ``on_cpu`` makes that of the rest."""
    from ..kernels.cuda import sparse_rows as gpu_engine

    places: dict[Any, list[int]] = {}
    for i, p in enumerate(params):
        places.setdefault(gpu_of(p) if on_gpu(p) else None, []).append(i)
    parts = []
    for gpu, indices in places.items():
        rows: Any = ([x[i] for i in indices] for x in (names, params, states, groups))
        rest = ([steps[i] for i in indices], [carries[i] for i in indices])
        args: Any = (rule, *rows, stages, *rest)
        parts.append((on_cpu(*args) if gpu is None else gpu_engine.Plan(gpu, *args), indices, gpu is not None))
    return parts[0][0] if len(parts) == 1 else Mixed(parts)
