"""What several tests need: data, variants of rules, a run of steps, and the comparison of bits."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
from dataclasses import fields

import numpy as np
import pytest

import pyopt
from pyopt.arrays import backend as arrays
from pyopt.kernels.cpu import isa
from pyopt.kernels.numerics import codecs
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.penalty import Projection
from pyopt.kernels.rules import RULES
from pyopt.optim import OPTIMIZERS
from support import device

GRADIENTS = {stem: kind for stem, kind in PENALTIES.items() if not issubclass(kind, Projection) and not kind.by_row}
BY_ROWS = [rule for rule in RULES.values() if not rule.norms]  # what step_rows takes
EDGES = (0, 1, 3, 127, 128, 129, 1009, 1023, 1024, 1025)  # around both tile sizes, and a prime
DEVICES = ("gpu", "emulated", "compiled")  # see device.py
LARGE = 70_001  # a prime above the size from which a second thread is used


# ---- data


def tame(shape, dtype, seed=0):
    """Return normal random numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def wild(n, dtype, seed=0):
    """Return random numbers of all kinds: mostly normal ones, and every kind of special one among them."""
    return (kept_wild if n < 2000 else fresh_wild)(n, np.dtype(dtype), seed).copy()


def fresh_wild(n, dtype, seed):
    """Make random numbers of all kinds."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).itemsize == 2:
        some = rng.integers(0, 1 << 16, n, dtype=np.uint16).view(dtype)  # subnormal float16 numbers, too
        return np.where(rng.random(n) < 0.1, some, codecs.encode(wild(n, np.float32, seed), dtype))
    info, word = np.finfo(dtype), {4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]
    specials = [0.0, -0.0, np.inf, -np.inf, np.nan, info.tiny, -info.tiny, info.max, -info.max, info.eps, 1.0, -1.0]
    with np.errstate(over="ignore"):
        kinds = [
            rng.normal(size=n),
            rng.normal(size=n) * 10.0 ** rng.integers(-30, 30, n),
            rng.integers(0, np.iinfo(word).max, n, dtype=word, endpoint=True).view(dtype),
            rng.normal(size=n) * float(info.tiny) / 4,
            rng.choice(specials, n),
        ]
        kinds = [kind.astype(dtype) for kind in kinds]
    return np.choose(rng.choice(len(kinds), n, p=[0.6, 0.16, 0.08, 0.08, 0.08]), kinds)


kept_wild = functools.lru_cache(4096)(fresh_wild)  # each instruction set asks for the same


def gradients(params, steps, seed=100, make=wild):
    """Return a list of gradients for each of some steps."""
    return [
        [make(p.size, p.dtype, seed + 1000 * t + i).reshape(p.shape) for i, p in enumerate(params)]
        for t in range(steps)
    ]


def like(p, values):
    """Return ``values`` in an array that lies in memory as ``p`` does."""
    a = np.empty_like(p)
    a[...] = values
    return a


# ---- hyper-parameters


def unusual(hyper, place=0):
    """Return a value that is not the default, in range, and another one at another ``place``."""
    if isinstance(hyper.default, bool):
        return True
    if isinstance(hyper.default, tuple):
        return tuple(x * (0.9 - 0.07 * i) for i, x in enumerate(hyper.default))
    if hyper.default is None:
        return 0.5
    if hyper.default >= 0.5:
        return hyper.default * 0.875
    return hyper.default * 3.5 if hyper.default > 1e-4 else 0.05 * (place + 3)  # an eps of 1e-8 would not be seen


def variants(rule):
    """Return dicts of non-default hyper-parameters: all combinations of flags, and of what is off by default."""
    choices = []
    for place, hyper in enumerate(rule.all_hypers):
        if (
            hyper.default is None or hyper.name == "ema_bias_correction"
        ):  # a stage that is off: its own tests turn it on
            choices.append([hyper.default])
        elif isinstance(hyper.default, bool) or hyper.default == 0:
            choices.append([hyper.default, unusual(hyper, place)])
        else:
            choices.append([unusual(hyper, place)])
    rows = [rule.Values(*row) for row in itertools.product(*choices)]
    return [row._asdict() for row in rows if rule.check(row) is None]


def everything(rule):
    """Return the variant with most states on, weight decay and maximize."""
    wanted = [state.when for state in rule.states if state.when] + ["weight_decay", "maximize"]
    return max(variants(rule), key=lambda row: sum(bool(row[name]) for name in wanted))


def own_hypers():
    """Return pairs of a rule and a hyper-parameter: each rule's own, and those that all share with one rule only."""
    first = next(iter(RULES.values()))
    return [(rule, hyper) for rule in RULES.values() for hyper in (rule.all_hypers if rule is first else rule.hypers)]


def some_penalty(kind, place=0):
    """Return a penalty with coefficients that differ from each other, and from those at another ``place``."""
    lowest = [max(f.metadata.get("low", 0.0), 0.0) for f in fields(kind)]
    return kind(*(low + 0.05 * (place + 2 * i + 3) for i, low in enumerate(lowest)))


def make(rule, params, **kwargs):
    """Return the optimizer of a rule."""
    return OPTIMIZERS[rule.name](params, **kwargs)


def on_one(folder, stem, name, end="element"):
    """Return a function of a stem on one number."""
    return getattr(importlib.import_module(f"pyopt.kernels.{folder}.{stem}_{end}"), name)


# ---- runs and their comparison


@contextlib.contextmanager
def stepping(by="reference", threads=1):
    """Let NumPy (``reference``), an instruction set or a device step what is made in the block."""
    pyopt.set_num_threads(threads)
    try:
        with arrays.reference() if by == "reference" else device.stepping_on(by) if by in DEVICES else isa.use(by):
            yield
    finally:
        pyopt.set_num_threads(None)


def outcome(opt):
    """Return all that a step may change, by name, as copies."""
    found = {}
    params = [p for group in opt.param_groups for p in group["params"]]
    for i, (p, state) in enumerate(zip(params, opt.state, strict=True)):
        found |= {f"p[{i}]": p.copy(), **{f"{key}[{i}]": np.array(value) for key, value in state.items()}}
    return found


def run(rule, params, grads, by="reference", threads=1, grad_scale=1.0, zero_grads=False, **kwargs):
    """Step copies of ``params`` through copies of ``grads``, a list for each step; return the outcome.

    Gradients that are not zeroed must stay as they were.
    """
    params = [p.copy(order="K") for p in params]
    given, grads = grads, [[None if g is None else g.copy(order="K") for g in row] for row in grads]
    with stepping(by, threads):
        opt = make(rule, params, **kwargs)
        for row in grads:
            opt.step(row, grad_scale=grad_scale, zero_grads=zero_grads)
    left, before = (
        {f"g[{t}, {i}]": g for t, row in enumerate(x) for i, g in enumerate(row) if g is not None}
        for x in (grads, given)
    )
    if zero_grads:
        return outcome(opt) | left
    same(left, before, "a step changed")
    return outcome(opt)


def stepped_rows(by, rule, shape, count, kind, **options):
    """Return what some steps of rows leave, and a step of all after them."""
    rng = np.random.default_rng(0)
    p, q = (codecs.encode(tame(shape, np.float32, i), kind) for i in range(2))
    with stepping(by):
        opt = make(rule, [q, p], **options)
        for t in range(3):
            indices = rng.integers(0, shape[0], count)
            values = codecs.encode(tame((count, *shape[1:]), np.float32, 7 + t), kind)
            opt.step_rows(indices, values, 1, grad_scale=3.0)
        opt.step([codecs.encode(tame(shape, np.float32, i + 5), kind) for i in range(2)])
        opt.step_rows([0], codecs.encode(tame((1, *shape[1:]), np.float32, 9), kind), 1)
        opt.catch_up_rows()
        opt.step_rows([], codecs.encode(np.zeros((0, *shape[1:]), np.float32), kind), 1)
    return outcome(opt) | {"norm": np.array(opt.grad_norm or 0.0)}


def same(got, want, label=""):
    """Assert that two outcomes have the same bits."""
    assert list(got) == list(want), label
    for key in want:
        same_bits(got[key], want[key], f"{label} {key}")


def same_bits(got, want, label=""):
    """Assert that two arrays have the same bits everywhere but inside NaNs, which must stand in the same places."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype), (
        f"{label}: {got.shape} {got.dtype}, {want.shape} {want.dtype}"
    )
    if want.dtype.kind in "biu":
        assert np.array_equal(got, want), f"{label}: {got}, not {want}"
        return
    words = {2: np.uint16, 4: np.uint32, 8: np.uint64}[want.itemsize]
    a, b = (np.ascontiguousarray(x).reshape(-1).view(words) for x in (got, want))
    wrong = np.flatnonzero(a != b)
    wrong = wrong[~(np.isnan(got.ravel()[wrong]) & np.isnan(want.ravel()[wrong]))]
    if wrong.size:
        rows = [f"  [{i}] {got.flat[i]!r} {a[i]:#x}, not {want.flat[i]!r} {b[i]:#x}" for i in wrong[:5]]
        pytest.fail("\n".join([f"{label}: {wrong.size} of {want.size} elements differ", *rows]), pytrace=False)


@contextlib.contextmanager
def refused(error, *words, opt=None, arrays=()):
    """Assert that the block raises ``error`` with all ``words`` in its message, and changes nothing."""
    arrays = [a for a in arrays if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in arrays], opt and outcome(opt)
    with pytest.raises(error) as caught:
        yield
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in the message: {caught.value}"
    assert [a.tobytes() for a in arrays] == before[0], "a refused call changed an array"
    if opt is not None:
        same(outcome(opt), before[1], "after a refused call:")
