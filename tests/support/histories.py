"""A history of an optimizer, done by one engine: ``Side`` has a method for each operation, and compares all bits.

A history is a list of tuples, the name of a method and its arguments: literals, so that it can be printed. The first
one is what a ``Side`` is made of. Positions are taken modulo what there is, so that any operation can be left out.
"""

import functools
import math
import random
import re

import numpy as np

import pyopt
from pyopt.kernels import checks
from pyopt.kernels.numerics import codecs
from pyopt.kernels.rules import RULES
from support.helpers import make, outcome, stepping, tame, wild


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
        grads = [like(p, how, seed + i, rng.choice(checks.gradients_of(p))) for i, p in enumerate(self.params)]
        given = [None if holes and rng.random() < 0.4 else g for g in grads]
        self.opt.step(given, grad_scale=self.scale(scale), zero_grads=zero)
        return {f"g[{i}]": g for i, g in enumerate(grads)}

    def step_rows(self, which, seed, count, how, scale):
        params = self.params
        p = params[which % len(params)]
        rows = p.shape[0] if p.ndim else 1
        rng = np.random.default_rng(seed)
        indices = rng.integers(0, rows, count if rows else 0)
        kind = checks.gradients_of(p)[seed % len(checks.gradients_of(p))]
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
