"""Random histories of optimizers: an instruction set against the reference in NumPy, all bits after every operation.

``.ci/fuzz.py SECONDS [SEED]`` draws histories until the time is up; a seed that is not given is drawn. What is found is
printed with as few operations as show it, and ``.ci/fuzz.py --history FILE`` runs that again.

A history is a list of tuples, the name of a method of ``Side`` and its arguments: literals, so that it can be printed.
Positions are taken modulo what there is, so that any operation can be left out.
"""

import argparse
import ast
import functools
import math
import random
import re
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import pyopt
from pyopt.kernels.cpu import isa
from pyopt.kernels.numerics import codecs
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.penalty import Projection
from pyopt.kernels.rules import RULES
from pyopt.optim.group import OPTIONS
from support.helpers import make, outcome, some_penalty, stepping, tame, wild

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


# ---- and done


@functools.cache  # both sides are given the same function
def evaluated(expression):
    """Return the value of an expression of a history."""
    return eval(expression, vars(pyopt).copy())


def laid(shape, kind, layout, how, seed):
    """Return an array of random numbers: tame ones or wild ones, in one of the layouts."""
    n, dtype = math.prod(shape), codecs.dtype(kind)
    flat = codecs.encode(tame(n, np.float32, seed), dtype) if how == "t" else wild(n, dtype, seed)
    if layout == "behind":
        return np.concatenate([flat[:0], np.zeros(1, dtype), flat])[1:].reshape(shape)
    if layout == "turned" and len(shape) > 1:
        return flat.reshape(*shape[1:], shape[0]).transpose(len(shape) - 1, *range(len(shape) - 1))
    return flat.reshape(shape, order="F" if layout == "F" else "C")


def like(p, how, seed, kind=None):
    """Return random numbers that lie as ``p`` does."""
    a = np.empty_like(p, dtype=kind and codecs.dtype(kind))
    a[...] = laid(p.shape, a.dtype.name, "C", how, seed)
    return a


def grads_of(p):
    """Return the types that a gradient of ``p`` may have."""
    return [row.name for row in codecs.allowed("grad", codecs.BY_NAME[p.dtype.name].real)]


WRONG = {  # of one gradient and its parameter
    "count": lambda g, _: g,
    "text": lambda g, _: g,
    "shape": lambda _, p: np.zeros((*p.shape, 2), p.dtype),
    "integers": lambda _, p: np.zeros(p.shape, np.int32),
    "swapped": lambda _, p: np.zeros(p.shape, p.dtype.newbyteorder()),
    "masked": lambda g, p: np.ma.array(g, mask=np.zeros(p.shape, bool)),
    "nested": lambda g, _: g.tolist(),
    "gaps": lambda _, p: np.zeros((*p.shape, 2), p.dtype)[..., 0],
    "itself": lambda _, p: p,
}


class Side:
    """An optimizer that one engine steps, and what belongs to it."""

    def __init__(self, by, threads, rule, groups):
        self.by, self.threads, self.rule = by, threads, RULES[rule]
        self.saved, self.written, self.grads = [], [], []
        self.scaler = pyopt.DynamicLossScale(1024.0, growth_interval=2)
        self.opt = make(self.rule, [self.group_of(*group) for group in groups])

    @staticmethod
    def group_of(arrays, settings):
        return {"params": [laid(*array) for array in arrays]} | {name: evaluated(text) for name, text in settings}

    @property
    def params(self):
        return [p for group in self.opt.param_groups for p in group["params"]]

    def attempt(self, operation):
        """Return the error of an operation, if it was refused, what it returned, and all that there is after it."""
        before, found, error = self.facts(), None, None
        name, *arguments = operation
        with stepping(self.by, self.threads):
            try:
                found = getattr(self, name)(*arguments)
                self.written = self.written if name == "write" else []
            except Exception as raised:  # noqa: BLE001  both engines must raise the same, whatever it is
                error = f"{type(raised).__name__}: {re.sub(r'0x[0-9a-f]+|[0-9]{9,}', 'ADDRESS', str(raised))}"
        after = self.facts()
        if error is not None:
            if wrong := differs(bits(after), bits(before)):
                raise AssertionError(f"{self.by} refused ({error}), and changed {wrong}")
            for group, key, value in reversed(self.written):
                group[key] = value
            self.written = []
        return error, found, after

    def facts(self):
        """Return copies of all that an operation may change."""
        found = {**outcome(self.opt), **{f"g[{i}]": np.array(g) for i, g in enumerate(self.grads)}}
        for i, group in enumerate(self.opt.param_groups):
            found |= {f"group {i} {key}": repr(x) for key, x in group.items() if key != "params"}
        numbers = self.opt.grad_norm, self.opt.skipped, self.opt.max_grad_norm, self.opt.skip_nonfinite
        return found | {"norm": repr(numbers), "scaler": repr(vars(self.scaler)), "saved": len(self.saved)}

    def scale(self, text):
        return self.scaler if text == "scaler" else evaluated(text)

    def step(self, seed, how, holes, scale, zero):
        rng = random.Random(seed)
        grads = [like(p, how, seed + i, rng.choice(grads_of(p))) for i, p in enumerate(self.params)]
        given = [None if holes and rng.random() < 0.4 else g for g in grads]
        self.opt.step(given, grad_scale=self.scale(scale), zero_grads=zero)
        return {f"g[{i}]": g for i, g in enumerate(grads)}

    def step_rows(self, which, seed, count, how, scale):
        params = self.params
        p = params[which % len(params)]
        rows = p.shape[0] if p.ndim else 1
        rng = np.random.default_rng(seed)
        indices = rng.integers(0, rows, count if rows else 0)
        kind = grads_of(p)[seed % len(grads_of(p))]
        values = laid((len(indices), *p.shape[1:]), kind, "C", how, seed)
        self.opt.step_rows(indices, values, which % len(params), grad_scale=self.scale(scale))

    def wrong_step(self, wrong, which, seed):
        params = self.params
        grads = [like(p, "t", seed + i) for i, p in enumerate(params)]
        which %= len(grads)
        grads[which] = WRONG[wrong](grads[which], params[which])
        self.opt.step({"count": grads[1:], "text": "grads"}.get(wrong, grads))

    def write(self, which, key, text):
        group = self.opt.param_groups[which % len(self.opt.param_groups)]
        self.written.append((group, key, group[key]))
        group[key] = evaluated(text)

    def limit(self, name, text):
        before = getattr(self.opt, name)
        setattr(self.opt, name, evaluated(text))
        try:
            self.opt.step([None] * len(self.params))
        except Exception:
            setattr(self.opt, name, before)
            raise

    def add(self, group):
        self.opt.add_param_group(self.group_of(*group))

    def save(self):
        self.saved.append(self.opt.state_dict())

    def load(self, which):
        if self.saved:
            self.opt.load_state_dict(self.saved[which % len(self.saved)])

    def damage(self, which, what):
        state = self.opt.state_dict()
        entry = state["state"][which % len(state["state"])]
        arrays = [key for key, value in entry.items() if isinstance(value, np.ndarray)]
        if what in ("version", "rule"):
            state[what] = "other"
        elif what in ("step", "carry"):
            entry[what] = -1 if what == "step" else math.nan
        elif what == "group":
            state["param_groups"][0]["lr"] = -1.0
        elif what == "name":
            entry["other"] = 1
        elif arrays:
            entry[arrays[0]] = np.zeros((*entry[arrays[0]].shape, 2), np.float32)
        else:
            return
        self.opt.load_state_dict(state)

    def poke(self, which, seed, how):
        p = self.params[which % len(self.params)]
        p[...] = like(p, how, seed)
        state = self.opt.state[which % len(self.params)]
        for name in [s.name for s in self.rule.states if s.name in state][:1]:
            state[name][...] = np.abs(like(state[name], "t", seed + 1))

    def swap(self, inside, seed):
        with self.opt.swapped_ema():
            seen = {f"average {i}": p.copy() for i, p in enumerate(self.params)}
            if inside == "write":
                self.params[0][...] = like(self.params[0], "w", seed)
            elif inside == "step":
                self.opt.step([None] * len(self.params))
            elif inside == "raise":
                raise KeyError(inside)
        return seen

    def renew(self):
        state = self.opt.state_dict()
        groups = [dict(group) for group in self.opt.param_groups]
        for group in groups:
            group["params"] = list(zip(group.pop("param_names"), group["params"], strict=True))
        opt = make(self.rule, groups, max_grad_norm=self.opt.max_grad_norm, skip_nonfinite=self.opt.skip_nonfinite)
        opt.load_state_dict(state)
        self.opt = opt

    def move(self):
        self.opt.to([p.copy(order="K") for p in self.params])

    def catch_up(self):
        self.opt.catch_up_rows()

    def read(self):
        return {f"ema {i}": a for i, a in enumerate(self.opt.ema_params())}

    def update_scaler(self):
        self.scaler.update()


def bits(facts):
    """Return all but what stands in the groups: what was written there is put into its usual form when it is read."""
    return {key: value for key, value in facts.items() if not key.startswith("group")}


def differs(got, want):
    """Return the name of what two tables of facts have not in common, to the bit but for the inside of NaNs."""
    if list(got) != list(want):
        return f"names {sorted(set(got) ^ set(want))}"
    wrong = next((key for key in want if not same(got[key], want[key])), None)
    return "" if wrong is None else f"{wrong}: {got[wrong]!s:.300}, not {want[wrong]!s:.300}"


def same(a, b):
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return type(a) is type(b) and a == b
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    if a.dtype.kind in "biu":
        return np.array_equal(a, b)
    a, b = np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1)
    words = np.dtype(f"u{a.itemsize}")
    return bool(((a.view(words) == b.view(words)) | ((a != a) & (b != b))).all())


# ---- and judged


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
