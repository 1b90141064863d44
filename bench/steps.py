"""A step of an optimizer as a case: its memory, its contenders, and the proof that they do the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

import pyopt
from pyopt.arrays.backend import reference as by_reference
from pyopt.kernels.cpu import isa

from . import numpy_steps, torch_steps
from .harness import Bar, Contender, race
from .limit import limits

Array = np.ndarray[Any, np.dtype[Any]]

TOLERANCE = 4.0  # units of float32's eps, of the larger of 1 and the value itself
SAMPLE = 1 << 21  # elements of all that the float64 reference looks at


@dataclass(frozen=True)
class Case:
    """One step of ``optimizer`` on parameters of these shapes."""

    title: str
    shapes: Sequence[tuple[int, ...]]
    optimizer: str = "AdamW"
    bar: Sequence[Bar] = ()
    rounds: int = 21
    hypers: dict[str, Any] = field(default_factory=dict)
    l1: float = 0.0
    grad_scale: float = 1.0

    def __str__(self) -> str:
        return self.title

    @property
    def elements(self) -> int:
        """How many parameters there are in all."""
        return sum(map(prod, self.shapes))

    def make(self, params: Sequence[Array]) -> pyopt.Optimizer:
        """Return pyopt's optimizer over ``params``."""
        penalty = pyopt.L1(self.l1) if self.l1 else None
        made: pyopt.Optimizer = getattr(pyopt, self.optimizer)(params, penalty=penalty, **self.hypers)
        return made


def live(opt: pyopt.Optimizer) -> list[dict[str, Array]]:
    """Return the arrays of an optimizer's states, by parameter."""
    return [{k: v for k, v in state.items() if isinstance(v, np.ndarray)} for state in opt.state]


class Memory:
    """The arrays that all contenders of a case work on: parameters, gradients, and the states that pyopt made."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(0)
        block = rng.standard_normal(1_000_003, dtype=np.float32)

        def some(shape: tuple[int, ...]) -> Array:
            start = rng.integers(block.size // 2)
            return np.resize(block[start:], shape).copy()  # else a view of the whole block, on pages of its own

        self.case = case
        self.params = [some(shape) for shape in case.shapes]
        self.grads = [some(shape) for shape in case.shapes]
        self.opt = case.make(self.params)
        self.states = live(self.opt)
        for own in self.states:
            for state in own.values():
                state[...] = np.abs(some(state.shape))

    @property
    def written(self) -> list[list[Array]]:
        """Parameter and states, by parameter."""
        return [[p, *own.values()] for p, own in zip(self.params, self.states, strict=True)]

    def limits(self) -> list[Contender]:
        """Return the loops that make the same trip through memory."""
        return limits(self.written, [[g] for g in self.grads])

    def pyopt(self, name: str = "pyopt") -> Contender:
        """Return the step that is the subject."""
        opt, grads, scale = self.opt, self.grads, self.case.grad_scale
        bytes = 4 * (2 * len(self.written[0]) + 1)
        return Contender(name, lambda: opt.step(grads, grad_scale=scale), bytes, result="bits")

    def reference(self) -> Contender:
        """Return the step of kernels/reference, through the functional form: it works on the same states."""
        case, rule = self.case, self.opt.rule
        columns = [[own.get(state.name) for own in self.states] for state in rule.states]
        steps = np.zeros(len(self.params))
        step = getattr(pyopt.functional, rule.name)
        hypers = dict(case.hypers, penalty=pyopt.L1(case.l1) if case.l1 else None, grad_scale=case.grad_scale)

        def call() -> None:
            with by_reference():
                step(self.params, self.grads, *columns, steps, **hypers)

        return Contender("reference", call, result="bits")

    def check(self, contenders: Sequence[Contender]) -> dict[str, float]:
        """Let each take one step from the same start; return the largest errors, and raise where one is too large."""
        arrays = [a for own in self.written for a in own]
        start = [a.copy() for a in arrays]
        exact = self._exact(start)
        want: list[Array] = []
        errors = {}
        for c in sorted(contenders, key=lambda c: c.name != "reference"):  # the reference first
            for a, before in zip(arrays, start, strict=True):
                a[...] = before
            c.call()
            if c.result == "untouched":
                assert all(map(same_bits, arrays, start)), f"{c.name} changed its arrays"
                continue
            if c.name == "reference":
                want = [a.copy() for a in arrays]
            if c.result == "bits":
                assert all(map(same_bits, arrays, want)), f"{c.name} differs from the reference"
            errors[c.name] = max(error(self._thin(a), b) for a, b in zip(arrays, exact, strict=True))
            assert errors[c.name] <= TOLERANCE, f"{c.name} is off by {errors[c.name]:.3g} eps"
        return errors

    def _thin(self, a: Array) -> Array:
        return a.reshape(-1)[:: self.case.elements // SAMPLE | 1]

    def _exact(self, start: Sequence[Array]) -> list[Array]:
        """Return what a step from ``start`` leaves behind in float64."""
        width = len(self.written[0])
        wide = [self._thin(a).astype(np.float64) for a in start]
        with by_reference():
            opt = self.case.make(wide[::width])
            for own, states in zip(live(opt), range(0, len(wide), width), strict=True):
                for state, value in zip(own.values(), wide[states + 1 : states + width], strict=True):
                    state[...] = value
            opt.step([self._thin(g).astype(np.float64) for g in self.grads], grad_scale=self.case.grad_scale)
        return [a for p, own in zip(wide[::width], live(opt), strict=True) for a in (p, *own.values())]


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same bits; nothing here is NaN."""
    return np.array_equal(a.reshape(-1).view(np.uint32), b.reshape(-1).view(np.uint32))


def error(a: Array, exact: Array) -> float:
    """Return the largest difference in units of float32's eps, of the larger of 1 and the value."""
    eps = float(np.finfo(np.float32).eps)
    return float(np.max(np.abs(a - exact) / np.maximum(1, np.abs(exact)), initial=0)) / eps


def views(flat: Memory, case: Case) -> Memory:
    """Return the one tensor of ``flat``, and its states, cut into the tensors of ``case``."""
    ends = np.cumsum([prod(shape) for shape in case.shapes])[:-1]

    def cut(a: Array) -> list[Array]:
        return [part.reshape(shape) for part, shape in zip(np.split(a, ends), case.shapes, strict=True)]

    made = copy(flat)
    made.case, made.params, made.grads = case, cut(flat.params[0]), cut(flat.grads[0])
    made.opt = case.make(made.params)
    columns = {name: cut(a) for name, a in flat.states[0].items()}
    made.states = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    # an optimizer allocates its states; only here are they to be someone else's
    had = made.opt._assembly
    names = [state.name for state in made.opt.rule.states]
    made.opt._assembly = had.over([
        beside._replace(states=tuple(map(own.get, names))) for beside, own in zip(had.beside, made.states, strict=True)
    ])  # fmt: skip
    return made


def run(benchmark: Any, memory: Memory, more: Callable[[Memory], Sequence[Contender]] = lambda memory: ()) -> None:
    """Check all contenders of a case against the reference, then let them race."""
    case = memory.case
    contenders = [
        memory.pyopt(), *memory.limits(), *numpy_steps.contenders(memory), *torch_steps.contenders(memory),
        *more(memory), memory.reference(),
    ]  # fmt: skip
    errors = memory.check(contenders)
    race(benchmark, case.title, contenders, case.bar, case.rounds, case.elements, errors,
         isa=isa.active(), threads=pyopt.get_num_threads(), tensors=len(case.shapes))  # fmt: skip
