"""The other rules, from memory."""

import pytest

from pyopt import AdamW
from pyopt.optim import OPTIMIZERS

from .harness import faster
from .steps import Case, Memory, run


def hypers(rule):
    """Return a learning rate, and what turns the first state on of a rule that else has none."""
    switches = [state.when for state in rule.states]
    return {"lr": 1e-4} | ({switches[0]: 0.9} if switches and all(switches) else {})


CASES = [
    Case(f"{kind.__name__}, 1 x 32 M", [(32_000_000,)], kind.__name__, [faster("limit", 0.95)], 15, hypers(kind.rule))
    for kind in OPTIMIZERS.values()
    if kind.rule.kernel != AdamW.rule.kernel  # bench_adamw.py
]


@pytest.mark.parametrize("case", CASES, ids=str)
def bench_rule(case, benchmark):
    run(benchmark, Memory(case))
