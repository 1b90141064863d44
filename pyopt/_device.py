"""Arrays that NumPy does not hold: tensors of PyTorch on the CPU by view, arrays on GPUs by address."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .kernels import arrays_cuda

on_gpu = arrays_cuda.on_gpu


def adopt(a: Any) -> Any:
    """Return the NumPy view of a tensor in this process's memory, and anything else as it is."""
    if isinstance(a, np.ndarray) or not arrays_cuda.is_tensor(a) or a.is_cuda:
        return a
    return a.detach().numpy()


def adopted(a: Any) -> bool:
    """Whether ``a`` is such a view."""
    return isinstance(a, np.ndarray) and arrays_cuda.is_tensor(a.base)


def gpu_of(a: Any) -> Any:
    """Return the GPU that holds ``a``; the error of the driver, or of what it needs, where none can be used."""
    from .kernels import device_cuda

    if isinstance(a, arrays_cuda.Array):
        return a.device
    if arrays_cuda.is_tensor(a):
        return device_cuda.find(a.device.index or 0)
    address = arrays_cuda.view(a, "an array").address
    return device_cuda.find(device_cuda.of(address) if address else 0)


def beside(p: Any, start: Any) -> Any:
    """Return a new array on the GPU of ``p`` that holds ``start``: a number, or an array there or of NumPy."""
    values = arrays_cuda.view(start, "a start value") if on_gpu(start) else start
    return arrays_cuda.beside(gpu_of(p), arrays_cuda.view(p, "a parameter"), values)


def described(a: Any) -> tuple[tuple[int, ...], Any]:
    """Return shape and dtype in NumPy's terms."""
    if isinstance(a, np.ndarray) or not on_gpu(a):
        return getattr(a, "shape", ()), getattr(a, "dtype", None)
    v = arrays_cuda.view(a, "an array")
    return v.shape, arrays_cuda.dtype_of(v.kind)


def swap(p: Any, ema: Any) -> None:
    """Exchange the contents of two arrays on one GPU."""
    gpu, v = gpu_of(p), arrays_cuda.view(p, "a parameter")
    kept = arrays_cuda.beside(gpu, v, v)
    gpu.copy(v.address, ema.view.address, ema.nbytes)
    ema.set(kept)


def check_parameters(names: Sequence[str], params: Sequence[Any]) -> None:
    """Raise where an array on a GPU cannot be updated in place."""
    for name, p in zip(names, params, strict=True):
        if on_gpu(p):
            v = arrays_cuda.view(p, name)
            arrays_cuda.check(v, name)
            if v.kind not in ("f32", "f64"):
                raise TypeError(f"{name} is {v.kind}: float32 or float64 is needed")


class Mixed:
    """Plans on several devices as one. See ``engine.Plan``; a norm over several devices is refused."""

    norm = None
    skipped = False

    def __init__(self, parts: Sequence[tuple[Any, list[int], bool]]) -> None:
        self.parts = parts  # (plan, its tensors, whether it is on a GPU)

    def step(self, grads: Sequence[Any], work: Any, zero: bool = False, max_norm: float = math.inf,
             skip: bool = False) -> None:  # fmt: skip
        """Step every part, when all gradients on GPUs have been checked; the CPU engine checks its own first."""
        if max_norm != math.inf or skip:
            raise ValueError("max_grad_norm, skip_nonfinite and a DynamicLossScale need all parameters on one device")
        hold, count = tuple(grads), sum(len(indices) for _, indices, _ in self.parts)
        if len(hold) != count:
            raise ValueError(f"{len(hold)} gradients for {count} parameters: give one each, or None to skip one")
        shares = [(plan, [hold[i] for i in indices], gpu) for plan, indices, gpu in self.parts]
        for plan, share, gpu in shares:
            if gpu:
                plan.check(tuple(share), zero)
        for plan, share, _ in sorted(shares, key=lambda part: part[2]):
            plan.step(share, work, zero)

    def progress(self) -> tuple[list[int], list[float]]:
        """Return the step counts and the carries."""
        count = sum(len(indices) for _, indices, _ in self.parts)
        steps, carries = [0] * count, [0.0] * count
        for plan, indices, _ in self.parts:
            for i, t, carry in zip(indices, *plan.progress(), strict=True):
                steps[i], carries[i] = t, carry
        return steps, carries

    def refresh(self, work: Any) -> None:
        """See ``engine_cuda.Plan.refresh``."""
        for plan, _, gpu in self.parts:
            if gpu:
                plan.refresh(work)


def make_plan(on_cpu: Any, rule: str, names: Sequence[str], params: Sequence[Any], states: Sequence[Any],
              groups: Sequence[int], stages: Sequence[Any], steps: Sequence[int], carries: Sequence[float]) -> Any:  # fmt: skip
    """Return the plan for arrays of which some are on GPUs; ``on_cpu`` makes that of the rest."""
    from .kernels import engine_cuda

    places: dict[Any, list[int]] = {}
    for i, p in enumerate(params):
        places.setdefault(gpu_of(p) if on_gpu(p) else None, []).append(i)
    parts = []
    for gpu, indices in places.items():
        rows: Any = ([x[i] for i in indices] for x in (names, params, states, groups))
        rest = ([steps[i] for i in indices], [carries[i] for i in indices])
        args: Any = (rule, *rows, stages, *rest)
        parts.append((on_cpu(*args) if gpu is None else engine_cuda.Plan(gpu, *args), indices, gpu is not None))
    return parts[0][0] if len(parts) == 1 else Mixed(parts)
