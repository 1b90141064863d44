"""Dead rows: states full of subnormal numbers must not slow a step down, on any instruction set."""

import numpy as np
import pytest

from pyopt.kernels.cpu import isa

from .harness import Contender, race, within
from .steps import Case, Memory
from .torch_steps import bare

DEAD = 1e-40
SIZES = {"64 k": 64_000, "32 M": 32_000_000}
GRADIENTS = {"zero": 0.0, "tiny": 1e-30, "subnormal": DEAD}
BAR = {"zero": [within("normal numbers", 1.1)]}  # the others underflow anew in g * g, which no state can help


@pytest.mark.parametrize("instructions", isa.available())
@pytest.mark.parametrize(("size", "gradient"), [("64 k", g) for g in GRADIENTS] + [("32 M", "zero")])
def bench_dead(size, gradient, instructions, benchmark):
    """The second and later steps on dead states, beside a step on the same arrays with normal numbers in them."""
    with isa.use(instructions):
        memory = Memory(Case(f"AdamW, 1 x {size}, dead states, {gradient} gradients, {instructions}", [(SIZES[size],)]))
    (g,), states = memory.grads, memory.states[0].values()
    normal = [a.copy() for a in (g, *states)]

    def alive():
        for a, value in zip((g, *states), normal, strict=True):
            np.copyto(a, value)

    def dead():
        g[...] = GRADIENTS[gradient]
        for state in states:
            state[...] = DEAD

    step = memory.pyopt()
    contenders = [
        Contender("pyopt", step.call, step.bytes, dead),
        Contender("normal numbers", step.call, step.bytes, alive),
        *(Contender(c.name, c.call, c.bytes, dead) for c in bare(memory)),
    ]
    race(benchmark, memory.case.title, contenders, BAR.get(gradient, []), 9, g.size, isa=instructions)
