"""PyTorch's optimizers, on the memory of the case: parameters, gradients and states are views of the same arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .harness import Contender

try:
    import torch
except ImportError as error:
    torch, MISSING = None, f"no torch contenders: {error}"
else:
    MISSING = None

if TYPE_CHECKING:
    from .steps import Memory


def contenders(memory: Memory) -> list[Contender]:
    """Return the fused, foreach and for-loop forms, as far as torch has them for this optimizer."""
    kind = getattr(torch and torch.optim, memory.case.optimizer, None)
    if kind is None:
        return []
    can = inspect.signature(kind).parameters
    forms = {"fused": dict(fused=True), "foreach": dict(foreach=True), "loop": dict(foreach=False)}
    return [
        Contender(f"torch {name}", _step(memory, kind, how), _bytes(memory, name))
        for name, how in forms.items()
        if set(how) <= set(can)
    ]


def bare(memory: Memory) -> list[Contender]:
    """Return torch's fused AdamW operator without the optimizer around it; it repeats the first step."""
    if torch is None:
        return []
    params, grads, m, v = (
        [torch.from_numpy(a) for a in arrays]
        for arrays in (memory.params, memory.grads, *zip(*(own.values() for own in memory.states), strict=True))
    )
    steps = [torch.tensor(1.0) for _ in params]
    h = memory.opt.param_groups[0]
    beta1, beta2 = h["betas"]

    def call() -> None:
        torch._fused_adamw_(
            params, grads, m, v, [], steps, lr=h["lr"], beta1=beta1, beta2=beta2, weight_decay=h["weight_decay"],
            eps=h["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip

    return [Contender("torch bare operator", call, 28)]


def _step(memory: Memory, kind: Any, how: dict[str, bool]) -> Callable[[], object]:
    case = memory.case
    params = [torch.nn.Parameter(torch.from_numpy(p)) for p in memory.params]
    grads = [torch.from_numpy(g) for g in memory.grads]
    opt = kind(params, **case.hypers, **how)
    for p, g, own in zip(params, grads, memory.states, strict=True):
        p.grad = g
        opt.state[p] = {name: torch.from_numpy(a) for name, a in own.items()} | {"step": torch.tensor(0.0)}
    if not case.l1:
        return opt.step
    scratch = [(torch.empty_like(g), torch.empty_like(g)) for g in grads]

    def step() -> None:  # the gradient stays as it was, for the others
        for p, g, (work, sign) in zip(params, grads, scratch, strict=True):
            torch.mul(g, 1 / case.grad_scale, out=work)
            torch.sign(p.detach(), out=sign)
            p.grad = work.add_(sign, alpha=case.l1)
        opt.step()

    return step


def _bytes(memory: Memory, form: str) -> float | None:
    """Return what the algorithm moves for each parameter: known for one fused pass, and for no other form."""
    if form != "fused" or memory.case.l1:
        return None
    return 4 * (2 * len(memory.written[0]) + 1)
