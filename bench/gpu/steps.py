"""What races on a GPU: pyopt's steps and their peers', each over memory of its own kind, all by PyTorch."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import pyopt

Call = Callable[[], object]
Shapes = Sequence[tuple[int, ...]]
PIECE = 1 << 30  # bytes that a copy takes at a time
CLASSES = {cls.rule.name: cls for cls in vars(pyopt).values() if isinstance(cls, type) and hasattr(cls, "rule")}


def tensors(shapes: Shapes, scale: float = 1.0) -> list[torch.Tensor]:
    """Return normal random numbers on the GPU."""
    return [torch.randn(shape, device="cuda") * scale for shape in shapes]


def steps(rule: str, shapes: Shapes, **options: Any) -> Call:
    """Return a step of a rule."""
    params, grads = tensors(shapes), tensors(shapes, 1e-2)
    opt = CLASSES[rule](params, **options)
    return lambda: opt.step(grads)


def whole_step(shapes: Shapes) -> Call:
    """Return a step with check, unscaling, clipping, L1, AdamW, EMA and zeroing."""
    params, grads = tensors(shapes), tensors(shapes, 1e-2)
    opt = pyopt.AdamW(params, lr=1e-3, penalty=pyopt.L1(1e-5), max_grad_norm=1.0, ema_decay=0.999, skip_nonfinite=True)
    return lambda: opt.step(grads, grad_scale=128.0, zero_grads=True)


def torch_adamw(shapes: Shapes, **how: bool) -> Call:
    """Return torch's AdamW."""
    params = [torch.nn.Parameter(p) for p in tensors(shapes)]
    for p, g in zip(params, tensors(shapes, 1e-2), strict=True):
        p.grad = g
    return torch.optim.AdamW(params, lr=1e-3, **how).step


def torch_compiled(shapes: Shapes) -> Call:
    """Return torch's AdamW under torch.compile."""
    step = torch_adamw(shapes, foreach=True, capturable=True)
    return torch.compile(step, fullgraph=False)


def torch_whole_step(shapes: Shapes, **how: bool) -> Call:
    """Return the same whole step of torch's own parts: foreach, the scaler's check, the fused AdamW."""
    params = [torch.nn.Parameter(p) for p in tensors(shapes)]
    grads, emas = tensors(shapes, 1e-2), [p.detach().clone() for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    opt = torch.optim.AdamW(params, lr=1e-3, fused=True, **how)
    found, inverse = torch.zeros(1, device="cuda"), torch.full((1,), 1 / 128.0, device="cuda")
    opt.found_inf = found

    def call() -> None:
        with torch.no_grad():
            torch._amp_foreach_non_finite_check_and_unscale_(grads, found.zero_(), inverse)
            torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
            torch._foreach_add_(grads, torch._foreach_sign([p.detach() for p in params]), alpha=1e-5)
            opt.step()
            torch._foreach_lerp_(emas, [p.detach() for p in params], 1e-3)
            torch._foreach_zero_(grads)

    return call


def copy(bytes_moved: int) -> Call:
    """Return copies on the device that read and write so many bytes in all: the limit. Large ones go piece by piece."""
    size = max(1, bytes_moved // 2)
    pieces = -(-size // PIECE)
    a, b = (torch.empty(-(-size // pieces), dtype=torch.uint8, device="cuda") for _ in range(2))

    def call() -> None:
        for _ in range(pieces):
            b.copy_(a)

    return call


def peers() -> dict[str, Callable[[Shapes], Call]]:
    """Return what makes the other libraries' AdamW, as far as they are installed."""
    found: dict[str, Callable[[Shapes], Call]] = {}
    if importlib.util.find_spec("bitsandbytes"):
        found["bitsandbytes 32 bit"] = bitsandbytes_adamw
    if importlib.util.find_spec("cupy"):
        found["cupy.fuse"] = cupy_adamw
    return found


def bitsandbytes_adamw(shapes: Shapes) -> Call:
    """Return bitsandbytes' AdamW."""
    import bitsandbytes

    params = [torch.nn.Parameter(p) for p in tensors(shapes)]
    for p, g in zip(params, tensors(shapes, 1e-2), strict=True):
        p.grad = g
    return bitsandbytes.optim.AdamW32bit(params, lr=1e-3).step  # type: ignore[no-any-return]


def cupy_adamw(shapes: Shapes) -> Call:
    """Return AdamW as CuPy fuses it, on the default stream, which is also PyTorch's."""
    import cupy

    @cupy.fuse
    def adamw(p: Any, g: Any, m: Any, v: Any) -> Any:
        m[...] = m + 0.1 * (g - m)
        v[...] = 0.999 * v + 0.001 * (g * g)
        p[...] = p * (1 - 1e-5) - 1e-3 * m / (cupy.sqrt(v) + 1e-8)

    rows = [[cupy.zeros(shape, np.float32) for shape in shapes] for _ in range(4)]
    return lambda: [adamw(*row) for row in zip(*rows, strict=True)]


def tidy() -> None:
    """Give all memory back that nobody uses."""
    gc.collect()
    torch.cuda.empty_cache()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
