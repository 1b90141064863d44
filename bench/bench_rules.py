"""The other rules, from memory."""

import pytest

from .harness import faster
from .steps import Case, Memory, run

CASES = [
    Case(f"{name}, 1 x 32 M", [(32_000_000,)], name, [faster("limit", 0.95)], 15, hypers)
    for name, hypers in {
        "SGD": dict(lr=1e-4, momentum=0.9),
        "Adagrad": dict(lr=1e-4),
        "RMSprop": dict(lr=1e-4),
        "Lion": dict(lr=1e-4),
    }.items()
]


@pytest.mark.parametrize("case", CASES, ids=str)
def bench_rule(case, benchmark):
    run(benchmark, Memory(case))
