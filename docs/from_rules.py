"""Write all that follows from the rules: ``python docs/from_rules.py`` after adding one, or changing its hypers.

The tables in README.md and bytes.md, and the stubs that tell editors and mypy the arguments of each rule: in Python
these come from its declaration, at run time.
"""

import re
from pathlib import Path

from pyopt.functional.lists import argument_lists, defaults
from pyopt.kernels.rules import RULES
from pyopt.optim import OPTIMIZERS
from pyopt.optim.signature import NAMED_ONLY

ROOT = Path(__file__).resolve().parents[1]
MARKS = "<!-- {}: written by docs/from_rules.py -->", "<!-- end of {} -->"
TYPES = {  # of what no rule knows of
    "penalty": "Penalties",
    "prox": "Penalties",
    "metric": 'Literal["lr"] | None',
    "rounding": 'Literal["nearest", "stochastic", "remainder"]',
    "seed": "int",
    "state_dtype": "DTypeLike | Mapping[str, DTypeLike] | None",
    "shadow_dtype": "DTypeLike | None",
    "max_grad_norm": "float | None",
    "skip_nonfinite": "bool",
    "grad_scale": "float",
    "zero_grads": "bool",
}
HEAD = """# Written by docs/from_rules.py.
from collections.abc import {abstract}
from typing import {typing}

{imports}

Number: TypeAlias = float | Callable[[int], float]
Penalties: TypeAlias = Penalty | Sequence[Penalty] | None

__all__ = {names}

"""


# ---- tables


def row(kind):
    """Return the line of one class in README.md."""
    rule = kind.rule
    always = 4 * sum(state.when is None for state in rule.states)
    states = [f"`{s.name}`" + (f" (with `{s.when}`)" if s.when else "") for s in rule.states]
    more = [f"+ 4 with `{s.when}`" for s in rule.states if s.when]
    paper = re.search(r"https?://[^\s;]+", rule.doc.partition("Source:")[2])
    cells = [
        f"[`{rule.name}`](kernels/rules/{rule.name}.py)",
        f"`pyopt.{kind.__name__}`",
        rule.decay,
        ", ".join(states) or "none",
        " ".join([str(always), *more]),
        f"[paper](<{paper.group()}>)" if paper else "",
    ]
    return f"| {' | '.join(cells)} |"


def rules_table():
    """Return the table in README.md."""
    head = ["| rule | class | weight decay | states | bytes per fp32 parameter | source |", "|---|---|---|---|---|---|"]
    return [*head, *(row(kind) for _, kind in sorted(OPTIMIZERS.items()))]


def bytes_table():
    """Return the table in bytes.md: what a step of a rule reads and writes, with each number of states.

    A rule that needs norms reads p, g and the states once more.
    """
    found = {}
    for _, cls in sorted(OPTIMIZERS.items()):
        kind, states, again = cls.__name__, cls.rule.states, bool(cls.rule.norms)
        count = sum(state.when is None for state in states)
        found.setdefault((count, again), []).append(kind)
        switches = [state.when for state in states if state.when]
        for more in range(1, len(switches) + 1):
            found.setdefault((count + more, again), []).append(
                f"{kind} with {(' and ' if more == len(switches) else ' or ').join(switches)}"
            )
    head = ["| rule | states | bytes |", "|---|---|---|"]
    rows = ((names, n, 12 + 8 * n + (8 + 4 * n) * again) for (n, again), names in sorted(found.items()))
    return [*head, *(f"| {', '.join(names)} | {n} | {size} |" for names, n, size in rows)]


def between(text, name, lines):
    """Return ``text`` with ``lines`` between the two marks of ``name``."""
    begin, end = (mark.format(name) for mark in MARKS)
    return re.sub(
        f"{re.escape(begin)}.*{re.escape(end)}", lambda _: "\n".join([begin, *lines, end]), text, flags=re.DOTALL
    )


# ---- stubs


def kind_of(hyper, fixed=()):
    """Return the type of a hyper-parameter; those in ``fixed`` take no function of the steps."""
    if isinstance(hyper.default, bool):
        return "bool"
    if isinstance(hyper.default, tuple):
        return "tuple[Number, Number]"
    return ("float" if hyper.name in fixed else "Number") + (" | None" if hyper.default is None else "")


def call(indent, name, arguments):
    """Return a signature, one argument a line, as ruff formats it."""
    return "\n".join([f"{indent}def {name}(", *(f"{indent}    {a}," for a in arguments), f"{indent}) -> None: ..."])


def head(names, **parts):
    """Return what a stub starts with."""
    return HEAD.format(names="[\n" + "".join(f'    "{name}",\n' for name in names) + "]", **parts)


def optim_stub():
    """Return the stub of pyopt.optim."""
    text = head(
        ["Optimizer", *(kind.__name__ for kind in OPTIMIZERS.values())],
        abstract="Callable, Mapping, Sequence",
        typing="Literal, TypeAlias",
        imports="from numpy.typing import DTypeLike\n\n"
        "from ..kernels.penalty import Penalty\nfrom .optimizer import Optimizer, Params",
    )
    text += "OPTIMIZERS: dict[str, type[Optimizer]]\n"
    for name, kind in OPTIMIZERS.items():
        fixed = [state.start for state in kind.rule.states]
        arguments = ["self", "params: Params"]
        arguments += [f"{h.name}: {kind_of(h, fixed)} = {h.default!r}" for h in kind.rule.all_hypers]
        arguments += ["*", *(f"{option}: {TYPES[option]} = {x!r}" for option, x in NAMED_ONLY.items())]
        text += f'\nclass {kind.__name__}(Optimizer, rule="{name}"):\n{call("    ", "__init__", arguments)}\n'
    return text.replace("'", '"')


def functional_stub():
    """Return the stub of pyopt.functional."""
    text = head(
        ["accumulate", *RULES],
        abstract="Callable, Iterable, Sequence",
        typing="Any, Literal, TypeAlias",
        imports="from ..kernels.penalty import Penalty\nfrom ..kernels.sums import accumulate",
    )
    for name, rule in RULES.items():
        known = {h.name: kind_of(h) for h in rule.all_hypers} | TYPES
        arguments = [f"{lists}: Iterable[Any]" for lists in argument_lists(rule)]
        arguments += ["*", *(f"{key}: {known.get(key, 'Number')} = {x!r}" for key, x in defaults(rule).items())]
        text += f"{call('', name, arguments)}\n"
    return text.replace("'", '"').replace(', "remainder"]', "]")


WRITTEN = {
    "README.md": lambda text: between(text, "rules", rules_table()),
    "docs/bytes.md": lambda text: between(text, "bytes", bytes_table()),
    "pyopt/optim/__init__.pyi": lambda _: optim_stub(),
    "pyopt/functional/__init__.pyi": lambda _: functional_stub(),
}

if __name__ == "__main__":
    for name, made in WRITTEN.items():
        path = ROOT / name
        path.write_text(made(path.read_text() if path.exists() else ""))
