"""What races on a GPU: pyopt's steps and their peers', each over memory of its own kind, all by PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import pyopt
from pyopt.kernels.rules import RULES

Call = Callable[[], object]
Shapes = Sequence[tuple[int, ...]]
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


def torch_whole_step(shapes: Shapes) -> Call:
    """Return the same whole step of torch's own parts: foreach, the scaler's check, the fused AdamW."""
    params = [torch.nn.Parameter(p) for p in tensors(shapes)]
    grads, emas = tensors(shapes, 1e-2), [p.detach().clone() for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    opt = torch.optim.AdamW(params, lr=1e-3, fused=True)
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
    """Return a copy on the device that reads and writes so many bytes in all: the limit."""
    a, b = (torch.empty(max(1, bytes_moved // 2), dtype=torch.uint8, device="cuda") for _ in range(2))
    return lambda: b.copy_(a)


def peers(shapes: Shapes) -> dict[str, Call]:
    """Return the other libraries' AdamW, as far as they are installed."""
    found: dict[str, Call] = {}
    if importlib.util.find_spec("bitsandbytes"):
        import bitsandbytes

        params = [torch.nn.Parameter(p) for p in tensors(shapes)]
        for p, g in zip(params, tensors(shapes, 1e-2), strict=True):
            p.grad = g
        found["bitsandbytes 32 bit"] = bitsandbytes.optim.AdamW32bit(params, lr=1e-3).step
    if importlib.util.find_spec("cupy"):
        import cupy

        @cupy.fuse
        def adamw(p: Any, g: Any, m: Any, v: Any) -> Any:
            m[...] = m + 0.1 * (g - m)
            v[...] = 0.999 * v + 0.001 * (g * g)
            p[...] = p * (1 - 1e-5) - 1e-3 * m / (cupy.sqrt(v) + 1e-8)

        rows = [[cupy.zeros(shape, np.float32) for shape in shapes] for _ in range(4)]
        found["cupy.fuse"] = lambda: [adamw(*row) for row in zip(*rows, strict=True)]
    return found


def rules() -> list[str]:
    """Return the names of all rules."""
    return sorted(RULES)
