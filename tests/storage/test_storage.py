"""Parameters, gradients and states in 16 bits inside the step, and what each kind of rounding is good for."""

import functools
import itertools

import numpy as np
import pytest

import pyopt
from pyopt.kernels.numerics import codecs
from pyopt.kernels.rules import RULES
from support.helpers import everything, make, outcome, refused, run, same, same_bits, stepping, tame, variants, wild

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = [pytest.mark.devices, pytest.mark.filterwarnings("ignore::RuntimeWarning")]  # NaN, overflow: on purpose
BF16, F16, F32, F64 = (codecs.dtype(name) for name in ("bfloat16", "float16", "float32", "float64"))
KINDS = [
    (F32, BF16),
    (F32, F16),
    (BF16, BF16),
    (BF16, F32),
    (BF16, F16),
    (F16, F16),
    (F16, F32),
    (F64, F32),
    (F64, BF16),
]
SIZES = (0, 1, 7, 127, 128, 129, 257, 1009, 40_009)


@functools.cache
def kept(n, dtype, seed):
    return codecs.encode(wild(n, np.float32, seed), dtype)


def stored(n, dtype, seed=0):
    """Return wild numbers as ``dtype`` stores them."""
    return kept(n, dtype, seed).copy()


def gradients(params, steps, dtype):
    return [[stored(p.size, dtype, 100 * t + i).reshape(p.shape) for i, p in enumerate(params)] for t in range(steps)]


# ---- bits


MORE = [{}, {"state_dtype": "bfloat16", "ema_decay": 0.9, "shadow_dtype": "float16"}, {"state_dtype": F16}]


@pytest.mark.parametrize("rounding", codecs.ROUNDINGS)
def test_bits_are_those_of_the_reference(rule, isa, rounding):
    for i, (p, g) in enumerate(KINDS):
        if rounding == "remainder" and p == F16:
            continue  # has none: test_remainder_is_for_bfloat16
        params = [stored(n, p, n) for n in SIZES]
        grads = gradients(params, 2, g)
        grads[1][3] = None
        options = {**everything(rule), "rounding": rounding, "seed": (1 << 63) + 5, **MORE[(i + ord(rounding[0])) % 3]}
        options |= {"grad_scale": 3.0, "zero_grads": True}
        want = run(rule, params, grads, **options)
        for threads in (1, 2):
            same(run(rule, params, grads, by=isa, threads=threads, **options), want, f"{p}, {g}, {threads} threads")


@pytest.mark.parametrize("p", [BF16, F32], ids=lambda kind: kind.name)
@pytest.mark.parametrize("g", [BF16, F32], ids=lambda kind: kind.name)
def test_bfloat16_where_the_rule_is_all_there_is(rule, isa, p, g):
    """As the rule itself may decode and encode them; every stage that sees one of them in between forbids that."""
    for state_dtype, options in itertools.product(
        ("bfloat16", None),
        ({}, {"grad_scale": 3.0}, {"penalty": pyopt.L1(0.1)}, {"prox": pyopt.Box(-1.0, 1.0)}, {"ema_decay": 0.9},
         {"shadow_dtype": "float16"}, {"rounding": "stochastic"}, {"rounding": "remainder"}),
    ):  # fmt: skip
        params = [stored(n, p, n) for n in (1, 129, 3001)]
        grads = gradients(params, 2, g)
        chosen = {**everything(rule), "maximize": False, "state_dtype": state_dtype, **options}
        if rule.decay == "coupled":
            chosen["weight_decay"] = 0.0
        same(run(rule, params, grads, by=isa, **chosen), run(rule, params, grads, **chosen), f"{chosen}")


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_all_in_bfloat16(rule, isa, rounding):
    """Two elements at a time, from any element on: the second span begins at element 127 of the last tensor."""
    params = [stored(n, BF16, n) for n in (1, 128, 3001)]
    grads = gradients(params, 2, BF16)
    for hypers in variants(rule):
        options = {**hypers, "state_dtype": "bfloat16", "rounding": rounding, "seed": 3}
        same(run(rule, params, grads, by=isa, **options), run(rule, params, grads, **options), f"{options}")


def test_many_tiles_of_16_bits(rule, isa):
    for n in (3000, 700_001):
        params = [stored(n, BF16)]
        grads = gradients(params, 1, BF16)
        want = run(rule, params, grads, rounding="stochastic", state_dtype="bfloat16")
        same(run(rule, params, grads, by=isa, threads=2, rounding="stochastic", state_dtype="bfloat16"), want)


@pytest.mark.parametrize("kind", [BF16, F32], ids=lambda kind: kind.name)
def test_small_tiles_beyond_the_caches(isa, kind):
    """Where all arrays together have more than 32 MB."""
    params = [stored((33 << 20) // (4 * kind.itemsize) + 1, kind)]
    grads = gradients(params, 1, kind)
    want = run(RULES["adamw"], params, grads, weight_decay=0.25, state_dtype=kind)
    same(run(RULES["adamw"], params, grads, by=isa, threads=2, weight_decay=0.25, state_dtype=kind), want)


@pytest.mark.parametrize("kind", [BF16, F16, F32, F64], ids=lambda kind: kind.name)
@pytest.mark.parametrize("first", [1, 3, 31])
def test_views_that_start_anywhere(rule, isa, kind, first):
    """The same bits wherever in a cache line an array begins; random bits go by the place in the array."""
    for n in (1, 61, 1001, 40_009):
        whole, gradient = stored(n + first, kind, 1), stored(n + first, kind, 2)
        options = {"rounding": "stochastic", "state_dtype": None if kind.itemsize > 2 else kind}
        want = run(rule, [whole[first:].copy()], [[gradient[first:].copy()]], **options)
        p = whole[first:]
        with stepping(isa, 2):
            opt = make(rule, [p], **options)
            opt.step([gradient[first:]])
        same(outcome(opt), want)


@pytest.mark.any_rule
def test_any_order_of_axes(rule, isa):
    p = stored(12 * 35, BF16).reshape(12, 35)
    g = stored(12 * 35, BF16, 1).reshape(12, 35)
    for order in (np.asfortranarray, np.ascontiguousarray):
        options = {"rounding": "stochastic", "state_dtype": "bfloat16", "ema_decay": 0.5}
        want = run(rule, [order(p)], [[order(g)]], **options)
        same(run(rule, [order(p)], [[order(g)]], by=isa, **options), want)


@pytest.mark.any_rule
def test_all_kinds_in_one_optimizer(rule, isa):
    kinds = [F32, BF16, F64, F16, F32, BF16]
    params = [stored(n, kind, n) for n, kind in zip((300, 129, 70, 1000, 0, 1), kinds, strict=True)]
    grads = [[stored(p.size, BF16 if p.dtype != F64 else F64, t) for p in params] for t in range(2)]
    options = everything(rule) | {"rounding": "stochastic", "state_dtype": "bfloat16"}
    options["max_grad_norm"] = 1.0
    same(run(rule, params, grads, by=isa, **options), run(rule, params, grads, **options))
    alone = run(rule, params[:1], [row[:1] for row in grads], **everything(rule))
    mixed = run(rule, params, grads, **everything(rule))
    same({key: mixed[key] for key in alone}, alone)


def test_gradients_may_change_their_type_between_steps(isa):
    runs = []
    for kinds in ((F32, BF16, F16), (F32, F32, F32)):
        p = tame(500, F32)
        with stepping(isa):
            opt = pyopt.AdamW([p], lr=0.1)
            for t, kind in enumerate(kinds):
                g = codecs.encode(tame(500, F32, t), (BF16, F16)[t - 1]).astype(F32) if t else tame(500, F32, t)
                opt.step([codecs.encode(g, kind)])
        runs.append(outcome(opt))
    same(*runs)


def test_norm_and_flag_of_stored_gradients(isa):
    p, g = stored(9000, BF16), codecs.encode(tame(9000, F32), BF16)
    with stepping(isa):
        opt = pyopt.SGD([p], lr=0.1, max_grad_norm=1.0, skip_nonfinite=True)
        opt.step([g])
        exact = np.sqrt((g.astype(F64) ** 2).sum())
        assert abs(opt.grad_norm - exact) <= 1e-12 * exact
        before, g[8191] = p.copy(), np.inf
        opt.step([g])
    assert opt.skipped
    same_bits(p.view(np.uint16), before.view(np.uint16))


def test_shadow_is_the_rounded_copy(dtype, isa):
    p = tame(3001, dtype)
    with stepping(isa, 2):
        opt = pyopt.AdamW([p], lr=0.1, shadow_dtype="bfloat16")
        (shadow,) = opt.shadow_params()
        for t in range(3):
            opt.step([tame(3001, dtype, t)])
            same_bits(shadow.view(np.uint16), codecs.encode(p, BF16).view(np.uint16))
    same_bits(opt.state_dict()["state"][0]["shadow"], opt.shadow_params()[0])
    with refused(ValueError, "params[0]", "shadow_dtype is None"):
        pyopt.AdamW([p]).shadow_params()


def test_states_are_float32_unless_asked(rule):
    opt = make(rule, [stored(10, BF16), np.ones(10)], **everything(rule) | {"ema_decay": 0.9})
    for i, real in enumerate((F32, F64)):
        assert {a.dtype for a in opt.state[i].values() if isinstance(a, np.ndarray)} == {real}


def test_state_dtype_by_name_and_written_later(isa):
    p = tame(300, F32)
    with stepping(isa):
        opt = pyopt.AdamW([p], state_dtype={"exp_avg": "bfloat16"}, ema_decay=0.9)
        opt.step([tame(300, F32, 1)])
        assert [opt.state[0][name].dtype for name in ("exp_avg", "exp_avg_sq", "ema")] == [BF16, F32, F32]
        before = opt.state[0]["exp_avg"].astype(F32)
        opt.param_groups[0]["state_dtype"] = {"exp_avg_sq": F16}
        opt.step([None])
        assert [opt.state[0][name].dtype for name in ("exp_avg", "exp_avg_sq", "ema")] == [F32, F16, F32]
        same_bits(opt.state[0]["exp_avg"], before)


def test_a_state_never_has_more_bits_than_it_is_computed_in():
    assert pyopt.Lion([stored(5, BF16)], state_dtype="float64").state[0]["exp_avg"].dtype == F32


# ---- a snapshot of any mix


@pytest.mark.parametrize("rounding", codecs.ROUNDINGS)
def test_continues_to_the_same_bits(rule, isa, rounding):
    options = everything(rule) | {"rounding": rounding, "state_dtype": "bfloat16", "seed": 3, "ema_decay": 0.5}
    options["shadow_dtype"] = "bfloat16"
    params = [stored(300, BF16), stored(129, F32)]
    grads = [[stored(300, BF16, t), stored(129, F32, t)] for t in range(4)]
    with stepping(isa):
        straight = make(rule, [p.copy() for p in params], **options)
        first = make(rule, params, **options)
        for row in grads[:2]:
            straight.step(row)
            first.step(row)
        saved = first.state_dict()
        second = make(rule, params, **options)
        second.load_state_dict(saved)
        for row in grads[2:]:
            straight.step(row)
            second.step(row)
    same(outcome(second), outcome(straight))


def test_a_state_of_another_type_is_no_snapshot():
    p = stored(10, BF16)
    opt, other = pyopt.Lion([p], state_dtype="bfloat16"), pyopt.Lion([p])
    saved = other.state_dict()
    saved["param_groups"][0]["state_dtype"] = {"exp_avg": "bfloat16", "ema": "bfloat16"}
    with refused(ValueError, "exp_avg of params[0]", "float32", "bfloat16", opt=opt):
        opt.load_state_dict(saved)


# ---- what is refused


def test_wrong_options():
    p = stored(5, BF16)
    for options, error, words in (
        ({"rounding": "up"}, ValueError, ["rounding='up'", "nearest, stochastic, remainder"]),
        ({"rounding": None}, ValueError, ["rounding=None"]),
        ({"seed": -1}, ValueError, ["seed=-1", "[0, 2**64)"]),
        ({"seed": 1 << 64}, ValueError, ["seed="]),
        ({"seed": 1.0}, ValueError, ["seed=1.0"]),
        ({"seed": True}, ValueError, ["seed=True"]),
        ({"state_dtype": "int8"}, ValueError, ["'int8'", "bfloat16"]),
        ({"state_dtype": {"exp_avq": "bfloat16"}}, ValueError, ["exp_avq", "exp_avg"]),
        ({"shadow_dtype": "float32"}, ValueError, ["shadow_dtype='float32'", "bfloat16, float16"]),
    ):
        with refused(error, *words):
            pyopt.AdamW([p], **options)


def test_remainder_is_for_bfloat16():
    with refused(ValueError, "rounding='remainder'", "float16", "bfloat16"):
        pyopt.SGD([stored(5, F16)], rounding="remainder")
    opt = pyopt.SGD([np.ones(3), stored(5, BF16)], rounding="remainder")
    assert ["remainder" in state for state in opt.state] == [False, True]


def test_functional_takes_stored_arrays(isa):
    p, g, m = stored(200, BF16), stored(200, BF16, 1), np.zeros(200, F32)
    theirs = p.copy()
    with stepping(isa):
        pyopt.functional.lion([p], [g], [m], [np.zeros(1)], lr=0.1, rounding="stochastic", seed=5)
        pyopt.Lion([theirs], lr=0.1, rounding="stochastic", seed=5).step([g])
    same_bits(p.view(np.uint16), theirs.view(np.uint16))
    with refused(ValueError, "rounding='remainder'", "array of its own"):
        pyopt.functional.lion([p], [g], [m], [np.zeros(1)], lr=0.1, rounding="remainder")


# ---- what rounding is good for


def decayed(rounding, steps=100_000, n=100_000):
    """Return bfloat16 ones after steps that take away 1e-5 of them each, as float32 or what they stand for."""
    p, zero = np.ones(n, BF16), np.zeros(n, BF16)
    opt = pyopt.SGD([p], lr=1.0, weight_decay=1e-5, rounding=rounding, seed=1)
    for _ in range(steps):
        opt.step([zero])
    rest = opt.state[0].get("remainder")
    return codecs.decode(p, np.float32) if rest is None else codecs.join(p, rest)


def test_small_steps_over_a_long_time():
    """1e-5 is far below half a unit in the last place of a bfloat16, 2^-9: to the nearest nothing ever moves."""
    exact = np.ones(1, np.float32)
    opt = pyopt.SGD([exact], lr=1.0, weight_decay=1e-5)
    for _ in range(100_000):
        opt.step([np.zeros(1, np.float32)])
    assert abs(exact[0] - np.exp(-1)) < 1e-3
    assert (decayed("nearest", 1000, 10) == 1).all()
    assert abs(decayed("stochastic").mean(dtype=np.float64) / exact[0] - 1) < 0.01
    same_bits(decayed("remainder", n=10), np.repeat(exact, 10))


@pytest.mark.devices(False)
def test_accumulation_keeps_small_gradients(isa):
    """256 ones and a half: a bfloat16 sum stays at 256, where the float32 sum goes on."""
    total, narrow = np.zeros(100, F32), np.zeros(100, BF16)
    with stepping(isa):
        for _ in range(600):
            g = np.full(100, 0.5, BF16)
            pyopt.functional.accumulate([total], [g])
            narrow = narrow + g
    assert (total == 300).all()
    assert (narrow < 300).all()


@pytest.mark.devices(False)
def test_accumulate_adds_any_storage(dtype, isa):
    totals = [tame((30, 7), dtype), np.asfortranarray(tame((30, 7), dtype)), tame(40_009, dtype), np.empty(0, dtype)]
    for kind in (BF16, F16, F32, dtype):
        grads = [None if i == 1 else codecs.encode(wild(t.size, F32, i).reshape(t.shape), np.dtype(kind)) for i, t in
                 enumerate(totals)]  # fmt: skip
        want = [t.copy() if g is None else t + g.astype(dtype) for t, g in zip(totals, grads, strict=True)]
        with stepping(isa, 2):
            pyopt.functional.accumulate(totals, grads)
        for t, w in zip(totals, want, strict=True):
            same_bits(t, w)


def test_accumulate_refuses():
    ok = np.zeros(3, F32)
    for totals, grads, error, words in (
        ([ok], [], ValueError, ["0 gradients for 1 totals"]),
        ([np.zeros(3, BF16)], [ok], TypeError, ["totals[0]", "bfloat16", "float32 or float64"]),
        ([ok], [np.zeros(3)], TypeError, ["grads[0]", "float64", "float32, bfloat16 or float16"]),
        ([ok], [np.zeros(4, F32)], ValueError, ["grads[0]", "(4,)", "(3,)"]),
        ([ok], [ok], ValueError, ["grads[0]", "totals[0]", "share memory"]),
        ([ok, np.zeros((3, 2), F32)], [np.ones(3, F32), np.zeros((3, 2), F32, order="F")], ValueError, ["same order"]),
    ):
        with refused(error, *words, arrays=totals):
            pyopt.functional.accumulate(totals, grads)


@pytest.mark.huge
def test_more_elements_than_32_bits_count():
    """2^31 + 17 weights of SGD with momentum, all in bfloat16: 13 GB."""
    n = (1 << 31) + 17
    p, g = np.zeros(n, BF16), np.full(n, 0.5, BF16)
    opt = pyopt.SGD([p], lr=0.5, momentum=0.5, state_dtype="bfloat16", rounding="stochastic")
    for place in (0, n // 2, (1 << 31) - 1, 1 << 31, n - 1):
        g[place] = 2.0
    opt.step([g])
    opt.step([g], zero_grads=True)
    for place in (0, n // 2, (1 << 31) - 1, 1 << 31, n - 1):
        assert p[place] == -2.5
    assert p[1] == p[(1 << 31) + 1] == p[n - 2] == -0.625
    assert (p.view(np.uint16)[:: 1 << 20][1:-1] == p.view(np.uint16)[1]).mean() > 0.99
    assert not g.view(np.uint16)[-1 << 20 :].any()
