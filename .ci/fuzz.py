"""Random histories of optimizers: an instruction set against the reference in NumPy, all bits after every operation.

``.ci/fuzz.py SECONDS [SEED]`` draws histories until the time is up; a seed that is not given is drawn. What is found is
printed with as few operations as show it, and ``.ci/fuzz.py --history FILE`` runs that again.

tests/support/histories.py does what a history says.
"""

import argparse
import ast
import random
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from pyopt.kernels.cpu import isa
from pyopt.kernels.numerics import codecs
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.penalty import Projection
from pyopt.kernels.rules import RULES
from pyopt.optim.group import OPTIONS
from support.helpers import some_penalty, stepping
from support.histories import WRONG, Side, differs

KINDS = ("float32", "float32", "float64", "bfloat16", "float16")
SHAPES = ((), (0,), (1,), (3,), (129,), (1031,), (5, 7), (64, 3), (3, 1, 300), (4, 5, 6), (2, 0, 3), (17, 64))
LARGE = (33_000,), (700, 50)  # from which on a second thread takes part
LAYOUTS = ("C", "F", "turned", "behind")
NUMBERS = (0.0, 1e-8, 1e-3, 0.0625, 0.3, 0.9, 0.999, 1.0, 2.5)
SCHEDULES = ("lambda t: 0.125 / (t + 1)", "lambda t: 0.25 * (t % 3)", "schedules.Cosine(0.25, 5)",
             "lambda t: 0.5 if t != 2 else -1.0")  # fmt: skip
BAD = ("None", "-1.0", "float('nan')", "'x'", "True", "[0.5]", "1e400", "object")


# ---- a history is drawn


class Draw:
    """Random histories."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.chance = lambda share: self.random.random() < share
        self.some = self.random.choice
        self.rule = RULES[self.some(sorted(RULES))]

    def history(self):
        """Return one: what the optimizer is made of, then operations."""
        groups = tuple(self.group(large=self.chance(0.04)) for _ in range(self.some((1, 1, 2, 3))))
        start = (self.rule.name, self.some(isa.available()), self.some((1, 2, 3)), groups)
        names = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=self.some((4, 12, 24)))
        return [start, *((name, *getattr(self, name)()) for name in names)]

    def seed(self):
        """Return where random data starts from."""
        return self.random.randrange(1000)

    def group(self, large=False):
        """Return arrays, and what is written differently from the defaults."""
        arrays = tuple(
            (self.some(LARGE if large else SHAPES), self.some(KINDS), self.some(LAYOUTS), self.some("twt"), self.seed())
            for _ in range(self.some((1, 2, 4)))
        )
        average = (("ema_decay", self.some(("0.9", "0.5", "0.0"))),) if self.chance(0.5) else ()
        return arrays, (*average, *(self.setting() for _ in range(self.some((0, 1, 3, 6)))))

    def setting(self):
        """Return a hyper-parameter or an option, and a value as an expression."""
        if self.chance(0.4):
            return (name := self.some(list(OPTIONS))), self.option(name)
        hyper = self.some(self.rule.all_hypers)
        return hyper.name, self.some(BAD) if self.chance(0.04) else self.value(hyper)

    def value(self, hyper):
        """Return an expression for a hyper-parameter, mostly in range."""
        if isinstance(hyper.default, bool):
            return self.some(("True", "False"))
        if isinstance(hyper.default, tuple):
            return f"({self.number(hyper)}, {self.number(hyper)})"
        return "None" if hyper.default is None and self.chance(0.25) else self.number(hyper)

    def number(self, hyper):
        """Return a number or a function of the steps taken."""
        starts = [state.start for state in self.rule.states]
        if self.chance(0.12) and hyper.name not in starts:
            return self.some(SCHEDULES)
        return repr(self.some([x for x in NUMBERS if hyper.low <= x < hyper.high]))

    def option(self, name):
        """Return an expression for an option."""
        kinds = [repr(kind) for kind in (*codecs.NAMES, None)]
        return {
            "penalty": lambda: self.penalties(name),
            "prox": lambda: self.penalties(name),
            "metric": lambda: self.some(("None", "'lr'", "'lr'")),
            "rounding": lambda: repr(self.some(codecs.ROUNDINGS)),
            "seed": lambda: self.some(("0", "2**64 - 1", "12345", "7", "2**63 + 5", "-1")),
            "state_dtype": lambda: self.some([*kinds, f"{{{self.rule.states[0].name!r}: 'bfloat16'}}"])
                           if self.rule.states else self.some(kinds),
            "shadow_dtype": lambda: self.some(("None", *["'bfloat16'", "'float16'"] * 4, "'float64'")),
        }[name]()  # fmt: skip

    def penalties(self, name):
        """Return an expression for None, a penalty or several."""
        kinds = [kind for kind in PENALTIES.values() if name == "prox" or not issubclass(kind, Projection)]
        found = [repr(some_penalty(self.some(kinds), self.seed() % 5)) for _ in range(2)]
        return self.some(("None", *found, f"[{', '.join(found)}]", "[L1(0.0625), NonNegative()]"))

    def step(self):
        return self.seed(), self.some(("t", "t", "w")), self.chance(0.2), self.scale(), self.chance(0.2)

    def scale(self):
        return self.some((*["1.0"] * 8, *["3.0", "1024"] * 3, *["scaler"] * 5, "0.0"))

    def step_rows(self):
        return self.seed(), self.seed(), self.some((0, 1, 5, 40)), self.some(("t", "w")), self.scale()

    def wrong_step(self):
        return self.some(list(WRONG)), self.seed(), self.seed()

    def write(self):
        return self.seed(), *self.setting()

    def limit(self):
        if self.chance(0.5):
            return "max_grad_norm", self.some(("None", "0.5", "1e30", "-1"))
        return "skip_nonfinite", self.some(("True", "False"))

    def add(self):
        return (self.group(),)

    def load(self):
        return (self.seed(),)

    def damage(self):
        return self.seed(), self.some(("version", "rule", "step", "carry", "shape", "group", "name"))

    def poke(self):
        return self.seed(), self.seed(), self.some("tw")

    def swap(self):
        return self.some(("", "write", "step", "raise")), self.seed()

    def save(self):
        return ()

    renew = move = catch_up = read = update_scaler = save


WEIGHTS = {
    "step": 12,
    "write": 5,
    "step_rows": 4,
    "save": 2,
    "load": 2,
    "swap": 2,
    "update_scaler": 2,
    **dict.fromkeys(("wrong_step", "limit", "add", "damage", "poke", "renew", "move", "catch_up", "read"), 1),
}


# ---- and is judged


def finding(history):
    """Return what is wrong with a history, and after how many operations; ("", 0) where nothing is."""
    (rule, by, threads, groups), *operations = history
    sides = []
    for engine in ("reference", by):
        with stepping(engine, threads):
            try:
                sides.append(Side(engine, threads, rule, groups))
            except (TypeError, ValueError) as error:
                sides.append(f"{type(error).__name__}: {error}")
    refused = [side if isinstance(side, str) else "no error" for side in sides]
    if refused[0] != refused[1]:
        return f"made: {refused[1]}, not {refused[0]}", 1
    if isinstance(sides[0], str):
        return "", 0
    for i, operation in enumerate(operations, 2):
        try:
            want, got = (side.attempt(operation) for side in sides)
        except AssertionError as error:
            return f"{operation}: {error}", i
        if got[0] != want[0]:
            return f"{operation}: {got[0] or 'no error'}, not {want[0] or 'no error'}", i
        if wrong := differs(got[1] or {}, want[1] or {}) or differs(got[2], want[2]):
            return f"{operation}: {wrong}", i
    return "", 0


def shrunk(history):
    """Return the history without what the finding does not need: operations first, then groups, arrays, settings."""
    history = history[: finding(history)[1]]
    again = True
    while again:
        again = False
        for shorter in smaller(history):
            if finding(shorter)[0]:
                history, again = shorter, True
                break
    return history


def smaller(history):
    """Yield the history with one thing less, each in turn."""
    (rule, by, threads, groups), *operations = history
    for i in range(len(operations)):
        yield [history[0], *operations[:i], *operations[i + 1 :]]
    for i, (arrays, settings) in enumerate(groups):
        fewer = [(arrays[:k] + arrays[k + 1 :], settings) for k in range(len(arrays)) if len(arrays) > 1]
        fewer += [(arrays, settings[:k] + settings[k + 1 :]) for k in range(len(settings))]
        for rest in [*([()] if len(groups) > 1 else []), *((group,) for group in fewer)]:
            yield [(rule, by, threads, groups[:i] + rest + groups[i + 1 :]), *operations]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    parser.add_argument("seed", type=int, nargs="?", default=time.time_ns() % 10**6)
    parser.add_argument("--history", type=Path)
    given = parser.parse_args()
    np.seterr(all="ignore")
    if given.history:
        text, _ = finding(ast.literal_eval(given.history.read_text()))
        sys.exit(text or None)
    print(f"seed {given.seed}, {', '.join(isa.available())}", flush=True)
    end, count, operations = time.monotonic() + given.seconds, 0, 0
    while time.monotonic() < end:
        history = Draw(f"{given.seed} {count}").history()
        count, operations = count + 1, operations + len(history)
        if finding(history)[0]:
            history = shrunk(history)
            print("[", *(f"    {operation!r}," for operation in history), "]", sep="\n")
            sys.exit(f"history {count - 1} of seed {given.seed}: {finding(history)[0]}")
    print(f"{count} histories, {operations} operations: nothing found")


if __name__ == "__main__":
    main()
