"""Read functions on one element, ``X_element.py``, and take them apart for loops.py.

Such a function is plain Python. Before the slash of its signature stand elements of arrays, behind it the scalars that
all elements share. ``x is None`` asks whether an optional array is there; a scalar annotated ``bool`` is a flag.
``Element`` is a signature, checked; ``cases`` are its bodies without ``if``, one for each set of optional arrays and
flags that makes a difference. Of a select ``a if c else b`` both sides are computed, so that a loop has no branch and
vectorises. What cannot be compiled raises ``ElementError``, which names file and line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

Known = dict[str, bool]  # of an optional array, whether it is there; of a flag, whether it is set

FAMILIES = ("rules", "penalties", "losses")  # the folders that may hold X_element.py
CONSTANTS = {"zero": "0", "one": "1", "half": "0.5"}  # of the type of their argument
CALLS = {
    **dict.fromkeys(CONSTANTS, 1), "double": 1, "exp": 1, "exp_any": 1, "flush": 1, "gate": 2, "log": 1, "log1p": 1,
    "magnitude": 1, "maximum": 2, "relu": 1, "sign": 1, "soft": 2, "sqrt": 1, "weighted": 2,
}  # fmt: skip
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
RESERVED = {"i", "arrays", "scalars", "sizes", "bits", "bits2"}  # variables of the loops


class ElementError(ValueError):
    """A function on one element that cannot be compiled."""


class UndecidedError(Exception):
    """A case has to know of an optional array whether it is there, or of a flag whether it is set."""


class Element:
    """A function on one element: ``taken`` are the arrays it reads, ``returned`` those it writes."""

    def __init__(self, path: Path, node: ast.FunctionDef) -> None:
        self.path, self.node, self.name, self.family = path, node, node.name, path.parent.name
        args = node.args
        self.taken, self.scalars = [x.arg for x in args.posonlyargs], [x.arg for x in args.args]
        if node.decorator_list or args.vararg or args.kwarg or args.kwonlyargs or args.defaults:
            raise self.error(node, f"def {self.name}: no decorator, default, * or ** is allowed")
        if not self.taken:
            raise self.error(node, f"def {self.name}: no slash behind the elements of arrays")
        for x in [*args.posonlyargs, *args.args]:
            if x.arg in RESERVED:
                raise self.error(node, f"{x.arg}: no argument may have this name")
            if x.annotation and (x in args.posonlyargs or ast.unparse(x.annotation) != "bool"):
                raise self.error(node, f"{ast.unparse(x)}: only a scalar may be annotated, as bool")
        self.flags = [x.arg for x in args.args if x.annotation]
        asked = [x for x in ast.walk(node) if isinstance(x, ast.Compare) and isinstance(x.ops[0], (ast.Is, ast.IsNot))]
        self.optional = [x for x in self.taken if x in {ast.unparse(test.left) for test in asked}]
        self.returned, self.arrays = self.results()

    @property
    def is_update(self) -> bool:
        """Whether it is the update of a rule, which is compiled for arrays in bfloat16 as well."""
        return self.family == "rules" and self.name == self.path.stem.removesuffix("_element")

    def results(self) -> tuple[list[str], list[str]]:
        """Return the names of the arrays written, as returned, and those of all arrays as the table has them."""
        stem, taken = self.path.stem.removesuffix("_element"), self.taken
        allowed = {
            "rules": {stem: ["p", *taken[2:]], f"{stem}_steps": ["steps"], f"{stem}_direction": ["direction"]},
            "penalties": {f"{stem}_value": ["terms"], f"{stem}_gradient": ["g"], f"{stem}_prox": ["p"]},
            "losses": {stem: ["terms", "gradient"]},
        }[self.family]
        if self.name not in allowed:
            raise self.error(self.node, f"def {self.name}: must be called {' or '.join(allowed)}")
        returned = allowed[self.name]
        new = [x for x in reversed(returned) if x not in taken]
        return returned, new + taken if new == ["steps"] else taken + new

    def error(self, node: ast.AST, message: str) -> ElementError:
        """Return the error that names the line."""
        return ElementError(f"{self.path}:{getattr(node, 'lineno', self.node.lineno)}: {message}")


def elements(path: Path) -> Iterator[Element]:
    """Yield the functions of an ``X_element.py``."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield Element(path, node)
        elif not isinstance(node, ast.ImportFrom) and not (isinstance(node, ast.Expr) and is_text(node.value)):
            raise ElementError(f"{path}:{node.lineno}: only `from ... import` and functions are allowed here")


def is_text(node: ast.AST) -> bool:
    """Whether this is a docstring."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


class Case:
    """A function on one element of which is known what is there and set: ``lines``, then ``results``.

    The kind of a value is "real", which is float or double as the loop computes; "double" in every loop; or "none".
    """

    def __init__(self, element: Element, known: Known) -> None:
        self.element, self.known = element, known
        given = [*element.taken, *(x for x in element.scalars if x not in element.flags)]
        self.taken = [x for x in element.taken if x not in element.optional or known.get(x)]
        self.kinds = dict.fromkeys((x for x in given if known.get(x, x not in element.optional)), "real")
        self.kinds |= {x: "none" for x, there in known.items() if not there and x in element.optional}
        self.lines: list[str] = []
        self.results: dict[str, tuple[str, str]] = {}  # of each array that is written: the value and its kind
        if not self.statements(element.node.body):
            raise element.error(element.node, f"def {element.name}: it must end with one return")

    def statements(self, body: list[ast.stmt]) -> bool:
        """Take the statements in order; return whether one of them was the return."""
        for number, node in enumerate(body):
            if isinstance(node, ast.If):
                test = self.truth(node.test)
                if not isinstance(test, bool):
                    raise self.element.error(node, f"if {ast.unparse(node.test)}: only `x is None` and flags choose"
                                            " statements; for numbers write `a if c else b`")  # fmt: skip
                if self.statements(node.body if test else node.orelse):
                    return True
            elif isinstance(node, ast.Assign) and len(node.targets) == 1:
                self.assign(node, node.targets[0], node.value)
            elif isinstance(node, ast.Return) and node.value is not None:
                if body[number + 1 :]:
                    raise self.element.error(body[number + 1], "nothing may stand behind a return")
                self.finish(node, node.value)
                return True
            elif not (isinstance(node, ast.Expr) and is_text(node.value)):
                what = ast.unparse(node).splitlines()[0].rstrip(":")
                raise self.element.error(node, f"{what}: only `x = ...`, `if x is None` and return are allowed")
        return False

    def assign(self, node: ast.AST, target: ast.expr, value: ast.expr) -> None:
        """Take an assignment, of one name or of as many as there are values."""
        names, values = parts(target), parts(value)
        if len(names) != len(values) or not all(isinstance(x, ast.Name) for x in names):
            raise self.element.error(node, f"{ast.unparse(node)}: names to the left, as many values to the right")
        found = [(name.id, *self.value(x)) for name, x in zip(names, values, strict=True)]  # type: ignore[attr-defined]
        new = {name for name, _, kind in found if kind != "none" and self.kinds.get(name, "none") == "none"}
        for name, _, kind in found:
            if name in self.element.flags:
                raise self.element.error(node, f"{name} is a flag: nothing may be assigned to it")
            if name not in new and kind != self.kinds.get(name, kind):
                raise self.element.error(node, f"{name} is {self.kinds[name]} before and {kind} here")
            self.kinds[name] = kind
        kept = [(name, ast.unparse(text), kind) for name, text, kind in found if kind != "none"]
        if new.issuperset(name for name, _, _ in kept):
            self.lines += [f"cdef {kind} {name} = {text}" for name, text, kind in kept]
        else:
            self.lines += [f"cdef {kind} {name}" for name, _, kind in kept if name in new]
            self.lines.append(f"{', '.join(name for name, _, _ in kept)} = {', '.join(text for _, text, _ in kept)}")

    def finish(self, node: ast.AST, value: ast.expr) -> None:
        """Take the return, which has a value for each array that is written."""
        values, returned = parts(value), self.element.returned
        if len(values) != len(returned):
            raise self.element.error(
                node, f"it returns {len(values)} values, not one for each of {', '.join(returned)}"
            )
        for name, x in zip(returned, values, strict=True):
            if name in self.element.optional and name not in self.known:
                raise UndecidedError(name)
            text, kind = self.value(x)
            want = "none" if self.known.get(name) is False else "double" if name == "terms" else "real"
            if kind != want:
                raise self.element.error(
                    node, f"{ast.unparse(x)} is {kind}: what is returned for {name} must be {want} here"
                )
            if kind != "none":
                self.results[name] = ast.unparse(text), kind

    def value(self, node: ast.expr) -> tuple[ast.expr, str]:
        """Return what a number is in Cython, and its kind."""
        match node:
            case ast.Name():
                return self.named(node)
            case ast.Constant(value=None):
                return node, "none"
            case ast.Constant():
                raise self.element.error(node, f"the literal {ast.unparse(node)}: a constant is a scalar, or zero(x),"
                                               " one(x) or half(x)")  # fmt: skip
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner, kind = self.number(operand)
                return ast.UnaryOp(ast.USub(), inner), kind
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op, right=right):
                (a, kind), (b, other) = self.number(left), self.number(right)
                return ast.BinOp(a, op, b), kind if kind == other else "double"
            case ast.IfExp(test=test, body=body, orelse=orelse):
                which = self.truth(test)
                if isinstance(which, bool):
                    return self.value(body if which else orelse)
                (a, b), kind = self.alike(node, [body, orelse])
                return call("select", which, a, b), kind
            case ast.Call():
                return self.called(node)
        raise self.element.error(node, f"{ast.unparse(node)}: only names, + - * /, `a if c else b` and calls make a"
                                       " number")  # fmt: skip

    def named(self, node: ast.Name) -> tuple[ast.expr, str]:
        """Return what a name stands for, and its kind."""
        if node.id in self.kinds:
            return (ast.Constant(None) if self.kinds[node.id] == "none" else node), self.kinds[node.id]
        if node.id in self.element.optional:
            raise UndecidedError(node.id)
        raise self.element.error(node, f"{node.id} is no number that is known here")

    def called(self, node: ast.Call) -> tuple[ast.expr, str]:
        """Return the call of a function, and the kind of its value."""
        name = ast.unparse(node.func)
        if name in self.kinds or CALLS.get(name) != len(node.args) or node.keywords:
            allowed = ", ".join(f"{x}({', '.join('xy'[:count])})" for x, count in CALLS.items())
            raise self.element.error(node, f"{ast.unparse(node)}: only these may be called: {allowed}")
        values, kind = self.alike(node, node.args)
        if name in CONSTANTS:
            return call(f"<{kind}>", ast.Name(CONSTANTS[name])), kind
        if name == "double":
            return (values[0] if kind == "double" else call("<double>", *values)), "double"
        if name == "log" and kind != "double":
            raise self.element.error(node, f"{ast.unparse(node)}: log is there for a double(x) only")
        return call(name, *values), kind

    def number(self, node: ast.expr) -> tuple[ast.expr, str]:
        """Return a value that must be there."""
        text, kind = self.value(node)
        if kind == "none":
            raise self.element.error(node, f"{ast.unparse(node)} may be None here")
        return text, kind

    def alike(self, node: ast.expr, given: list[ast.expr]) -> tuple[list[ast.expr], str]:
        """Return numbers that must be of one kind."""
        found = [self.number(x) for x in given]
        if len({kind for _, kind in found}) > 1:
            raise self.element.error(node, f"{ast.unparse(node)}: real and double() mixed")
        return [text for text, _ in found], found[0][1]

    def truth(self, node: ast.expr) -> bool | ast.expr:
        """Return a condition: True or False where this case knows it."""
        match node:
            case ast.Name(id=name) if name in self.element.flags:
                if name not in self.known:
                    raise UndecidedError(name)
                return self.known[name]
            case ast.Compare(left=ast.Name(id=name), ops=[(ast.Is() | ast.IsNot()) as op], comparators=[right]):
                if not (isinstance(right, ast.Constant) and right.value is None) or name in self.element.scalars:
                    raise self.element.error(
                        node, f"{ast.unparse(node)}: an array before the slash may be None, no scalar"
                    )
                return (self.value(ast.copy_location(ast.Name(name), node))[1] == "none") == isinstance(op, ast.Is)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if isinstance(op, COMPARISONS):
                (a, b), _ = self.alike(node, [left, right])
                return ast.Compare(a, [op], [b])
            case ast.Compare(ops=[_, _, *_]):
                raise self.element.error(node, f"{ast.unparse(node)}: one comparison at a time")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                test = self.truth(operand)
                return not test if isinstance(test, bool) else ast.UnaryOp(ast.Not(), test)
            case ast.BoolOp(op=op, values=values):
                return joined(isinstance(op, ast.Or), [self.truth(x) for x in values])
        raise self.element.error(node, f"{ast.unparse(node)}: a condition compares numbers, or asks for None or a flag")


def joined(either: bool, tests: list[bool | ast.expr]) -> bool | ast.expr:
    """Return conditions joined by ``or`` or ``and``; by bits, so that there is no jump."""
    if either in tests:
        return either
    result: bool | ast.expr = not either
    for test in tests:
        if not isinstance(test, bool):
            op = ast.BitOr() if either else ast.BitAnd()
            result = test if isinstance(result, bool) else ast.BinOp(result, op, test)
    return result


def parts(node: ast.expr) -> list[ast.expr]:
    """Return the elements of a tuple, or the one expression that stands alone."""
    return node.elts if isinstance(node, ast.Tuple) else [node]


def call(name: str, *args: ast.expr) -> ast.expr:
    """Return the call of a function, or the cast that is written like one."""
    return ast.Call(ast.Name(name), list(args), [])


def cases(element: Element, known: Known | None = None) -> list[Case]:
    """Return a case for each answer to what the function asks of optional arrays and flags."""
    known = known or {}
    try:
        return [Case(element, known)]
    except UndecidedError as asked:
        name = str(asked)
        order = (True, False) if name in element.flags else (False, True)
        return [case for answer in order for case in cases(element, {**known, name: answer})]
