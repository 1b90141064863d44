"""The best that NumPy can do: ufuncs that write in place, every argument bound before the first step.

Recipes are written one ufunc a line, with constants folded so that as few passes as possible are left.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .harness import Contender

if TYPE_CHECKING:
    from .steps import Memory

BLOCK = 16384  # elements: six arrays of them stay in L2
OPERATORS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}

PENALTY = """
    c = g * scale
    b = sign p
    b = b * l1
    c = c + b
"""
DECAY = """
    p = p * decay
"""
RECIPES = {  # by the kernel of the rule
    "adam": """
        a = g - exp_avg
        a = a * one_minus_beta1
        exp_avg = exp_avg + a
        a = g * g
        a = a * one_minus_beta2
        exp_avg_sq = exp_avg_sq * beta2
        exp_avg_sq = exp_avg_sq + a
        a = sqrt exp_avg_sq
        a = a * correction
        a = a + eps
        a = exp_avg / a
        p = p - a
    """,
    "sgd": """
        momentum_buffer = momentum_buffer * momentum
        momentum_buffer = momentum_buffer + g
        a = momentum_buffer * lr
        p = p - a
    """,
    "adagrad": """
        a = g * g
        sum = sum + a
        a = sqrt sum
        a = a + eps
        a = g / a
        a = a * lr
        p = p - a
    """,
    "rmsprop": """
        a = g * g
        a = a * one_minus_alpha
        square_avg = square_avg * alpha
        square_avg = square_avg + a
        a = sqrt square_avg
        a = a + eps
        a = g / a
        a = a * lr
        p = p - a
    """,
    "lion": """
        a = g - exp_avg
        b = a * one_minus_beta1
        b = b + exp_avg
        b = sign b
        b = b * lr
        p = p - b
        a = a * one_minus_beta2
        exp_avg = exp_avg + a
    """,
}


def _scalars(h: Any, t: int) -> dict[str, float]:
    """Return the constants of the recipes for step ``t``."""
    k = {name: float(getattr(h, name)) for name in ("lr", "momentum", "eps", "alpha") if hasattr(h, name)}
    if hasattr(h, "alpha"):
        k["one_minus_alpha"] = 1 - h.alpha
    if hasattr(h, "betas"):
        beta1, beta2 = h.betas
        k |= dict(one_minus_beta1=1 - beta1, beta2=beta2, one_minus_beta2=1 - beta2)
    if hasattr(h, "betas") and hasattr(h, "eps"):  # Adam: the step size goes into the divisor
        size = h.lr / (1 - beta1**t)
        k |= dict(correction=1 / math.sqrt(1 - beta2**t) / size, eps=h.eps / size)
    k["decay"] = 1 - h.lr * h.weight_decay
    return k


def _recipe(memory: Memory) -> list[list[str]]:
    """Return the words of each line: the result, "=", and an expression of two or three words."""
    parts = [RECIPES[memory.opt.rule.kernel]]
    if memory.opt.rule.decay == "decoupled" and memory.opt.param_groups[0]["weight_decay"]:
        parts.insert(0, DECAY)
    if memory.case.l1:  # looks at the p before the decay
        parts = [PENALTY, *(re.sub(r"\bg\b", "c", part) for part in parts)]
    return [line.split() for part in parts for line in part.strip().splitlines()]


def contenders(memory: Memory) -> list[Contender]:
    """Return the recipe on whole tensors, and in blocks that stay in L2 where tensors are larger.

    Where nobody has written one, the reference is NumPy's only contender.
    """
    if memory.opt.rule.kernel not in RECIPES:
        return []
    largest = max(p.size for p in memory.params)
    made = [_contender("numpy", memory, largest)]
    return [*made, _contender("numpy blocked", memory, BLOCK)] if largest > BLOCK else made


def _contender(name: str, memory: Memory, block: int) -> Contender:
    case = memory.case
    h = memory.opt.rule.Values(**{key: memory.opt.param_groups[0][key] for key in memory.opt.rule.Values._fields})
    names = {"scale": 1 / case.grad_scale, "l1": case.l1, **_scalars(h, 1)}
    scalars = {key: np.array(value, np.float32) for key, value in names.items()}
    scratch = {key: np.empty(block, np.float32) for key in "abc"}
    recipe = _recipe(memory)
    bound: list[tuple[Any, ...]] = []
    for p, g, own in zip(memory.params, memory.grads, memory.states, strict=True):
        for start in range(0, p.size, block):
            arrays = {key: a.reshape(-1)[start : start + block] for key, a in {"p": p, "g": g, **own}.items()}
            arrays |= {key: a[: arrays["p"].size] for key, a in scratch.items()}
            bound += [_bind(line, arrays | scalars) for line in recipe]
    t = 0

    def call() -> None:
        nonlocal t
        t += 1
        for key, value in _scalars(h, t).items():
            scalars[key][...] = value
        for ufunc, arguments, out in bound:
            ufunc(*arguments, out=out)

    words = sum(word in arrays for line in recipe for word in line)
    return Contender(name, call, 4 * words if block > BLOCK else None)


def _bind(line: list[str], values: dict[str, np.ndarray]) -> tuple[Any, ...]:
    out, _, *rest = line
    if len(rest) == 2:
        return getattr(np, rest[0]), (values[rest[1]],), values[out]
    left, operator, right = rest
    return OPERATORS[operator], (values[left], values[right]), values[out]
