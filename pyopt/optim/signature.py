"""What the class of a rule shows: its arguments, and the documentation of each."""

from __future__ import annotations

import inspect

from ..kernels.hyper import Hyper
from ..kernels.spec import Rule
from .group import OPTIONS

NAMED_ONLY = {**OPTIONS, "max_grad_norm": None, "skip_nonfinite": False}
SCHEDULES = """
A number may also be a function of the number of steps taken, such as one of ``pyopt.schedules``, unless it is the first
value of a state.
"""


def signature(rule: Rule) -> inspect.Signature:
    """Return params, the hyper-parameters in their order, and by name what no rule knows of."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [
            inspect.Parameter("params", kind),
            *(inspect.Parameter(h.name, kind, default=h.default) for h in rule.all_hypers),
            *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=x) for name, x in NAMED_ONLY.items()),
        ]
    )


def documentation(rule: Rule, shared: str | None) -> str | None:
    """Return the documentation of ``rule`` with its arguments before the example.

    ``shared`` is the docstring of all optimizers, in which what the rule has of its own is called ``**hypers``. None
    where Python has thrown docstrings away.
    """
    if shared is None:
        return None
    text, _, example = (rule.doc or "").partition("\n>>> ")
    before, _, after = inspect.cleandoc(shared).partition("**hypers\n")
    params = before[before.index("params : ") :]
    stages = after[after.index("\nmaximize : ") + 1 :]
    own = "".join(map(_entry, rule.hypers))
    return (
        f"{text.rstrip()}\n{SCHEDULES}\nParameters\n----------\n{params}{own}{stages}\n\n"
        f"Examples\n--------\n>>> {example}"
    )


def _entry(hyper: Hyper) -> str:
    """Return name, type, default and range in the form of numpydoc."""
    if isinstance(hyper.default, bool):
        return f"{hyper.name} : bool, default {hyper.default}\n"
    kind = "(float, float)" if isinstance(hyper.default, tuple) else "float"
    rest = "optional" if hyper.default is None else f"default {hyper.default!r}"
    return f"{hyper.name} : {kind}, {rest}\n    {hyper.range[0].upper()}{hyper.range[1:]}.\n"
