"""Schedules of pyopt.schedules from text, such as ``Cosine(1e-3, 1000)`` or ``Cosine(lr, steps)``; it is never run."""

from __future__ import annotations

import ast
import inspect
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import schedules

KINDS: dict[str, Any] = {
    name: kind
    for name in schedules.__all__
    if name not in ("Schedule", "MomentumOf", "ReduceOnPlateau") and (kind := getattr(schedules, name))
}
SHORT = {
    "cosine": "Cosine(lr, steps)",
    "linear": "Polynomial(lr, steps)",
    "one-cycle": "OneCycle(lr, steps)",
    "inverse-time": "InverseTime(lr, 9, steps)",
    "exponential": "Exponential(lr, 0.01, steps)",
    "step": "Step(lr, 1 + steps // 3)",
    "warmup-cosine": "LinearWarmup(Cosine(lr, 1 + steps * 9 // 10), 1 + steps // 10)",
}
SIGNS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}  # fmt: skip


@dataclass(frozen=True)
class Scheduled:
    """The schedule of a text, or of one of the short names, for a learning rate and the number of all steps."""

    text: str

    def __call__(self, lr: float, steps: int) -> schedules.Schedule:
        """Return the schedule; ValueError or TypeError where it is none, or a number is out of range."""
        if "(" not in self.text and self.text not in SHORT:
            raise ValueError(f"schedule={self.text!r}: must be one of {', '.join(SHORT)}, or as 'Cosine(lr, steps)'")
        return parse(SHORT.get(self.text, self.text), {"lr": lr, "steps": steps})[0]


def parse(text: str, names: Mapping[str, float] = {}) -> tuple[schedules.Schedule, str]:
    """Return the schedule that ``text`` describes, and how it is usually written.

    Names of schedules, literals, lists, + - * / // and ``.momentum`` are all there is, and the numbers in ``names``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange literals, which are refused anyway
            tree = ast.parse(text.strip(), mode="eval")
        found, usual = _built(tree.body, names), ast.unparse(tree)
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{_short(text)} cannot be read: an example is Cosine(1e-3, 1000)") from None
    if not isinstance(found, schedules.Schedule):
        raise ValueError(f"{_short(text)} is no schedule: must be one of {', '.join(KINDS)}, with its arguments")
    return found, usual


def _built(node: ast.expr, names: Mapping[str, float]) -> Any:
    """Return what a part of the text stands for."""
    match node:
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.BinOp(op=sign) if type(sign) in SIGNS:
            return _calculated(node, [_built(part, names) for part in (node.left, node.right)])
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as value)):
            return -value if isinstance(sign, ast.USub) else value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_built(part, names) for part in parts]
        case ast.Call(func=ast.Name(id=name)) if name in KINDS:
            return _called(name, node, names)
        case ast.Attribute(value=ast.Call() as inner, attr="momentum"):
            owner = _built(inner, names)
            if not isinstance(owner, (schedules.OneCycle, schedules.Cyclic)):
                raise ValueError(f"{_short(ast.unparse(node))}: only OneCycle and Cyclic have a momentum")
            return owner.momentum
        case ast.Call(func=func):
            raise ValueError(f"{_short(ast.unparse(func))} is no schedule: must be one of {', '.join(KINDS)}")
    raise ValueError(f"{_short(ast.unparse(node))} is not allowed: must be a number, text, list or schedule")


def _calculated(node: ast.BinOp, pair: list[Any]) -> Any:
    if not all(isinstance(x, (int, float)) and abs(x) < 2**63 for x in pair):
        raise ValueError(f"{_short(ast.unparse(node))} is not allowed: its parts must be numbers")
    try:
        return SIGNS[type(node.op)](*pair)
    except ZeroDivisionError:
        raise ValueError(f"{_short(ast.unparse(node))} divides by 0") from None


def _called(name: str, node: ast.Call, names: Mapping[str, float]) -> Any:
    kind = KINDS[name]
    arguments = [_built(argument, names) for argument in node.args]
    named = {keyword.arg: _built(keyword.value, names) for keyword in node.keywords if keyword.arg is not None}
    if len(named) < len(node.keywords):
        raise ValueError(f"{_short(ast.unparse(node))}: ** is not allowed")
    signature = inspect.signature(kind)
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        usage = ", ".join(str(p).partition(":")[0] + _default(p) for p in signature.parameters.values())
        raise ValueError(f"{_short(ast.unparse(node))}: {error}: must be {name}({usage})") from None
    return kind(*arguments, **named)


def _default(parameter: inspect.Parameter) -> str:
    return "" if parameter.default is parameter.empty else f"={parameter.default!r}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
