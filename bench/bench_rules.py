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


def least(rule):
    """Return the share of the limit to reach: a rule that needs norms reads p, g and its states once more."""
    count = len(rule.states)
    return 0.95 * (12 + 8 * count) / (20 + 12 * count) if rule.norms else 0.95


CASES = [
    Case(f"{name}, 1 x 32 M", [(32_000_000,)], name, [faster("limit", least(kind.rule))], 15, hypers(kind.rule))
    for name, kind in ((kind.__name__, kind) for kind in OPTIMIZERS.values())
    if kind.rule.kernel != AdamW.rule.kernel  # bench_adamw.py
]


@pytest.mark.parametrize("case", CASES, ids=str)
def bench_rule(case, benchmark):
    run(benchmark, Memory(case))
