"""Rows on the GPU, emulated here: penalties by row, and steps of some rows, against the reference, bit by bit."""

import functools

import numpy as np
import pytest

import pyopt
from pyopt import L1
from pyopt.kernels.cuda import arrays as gpu_arrays
from pyopt.kernels.cuda import plan as gpu_engine
from pyopt.kernels.cuda.device import grad_norm, row_sums, whole_rows
from pyopt.kernels.cuda.device.intrinsics import Plain
from pyopt.kernels.cuda.entry_points import CatchUp
from pyopt.kernels.cuda.variant import Operand
from pyopt.kernels.numerics import codecs, reductions
from pyopt.kernels.rules import RULES
from pyopt.optim.group import OPTIONS, ParamGroup
from support.device import Emulated, Foreign, asked, plan_of, runnable
from support.helpers import BY_ROWS, everything, make, outcome, run, same, stepped_rows, stepping, tame

SGD = ParamGroup(RULES["sgd"], {**OPTIONS, **RULES["sgd"].Values()._asdict()})


# ---- whole rows


@pytest.mark.parametrize("shape", [(), (5,), (9, 7), (3, 2, 40), (2, 9001), (2, 40_000)], ids=str)
@pytest.mark.parametrize("forms", ["slope", "shrink", "both"])
def test_penalties_by_row(shape, forms, dtype, by):
    if by == "emulated" and np.prod(shape) > 1000:
        pytest.skip("slow in plain Python")
    options = {"lr": 0.1, "weight_decay": 0.1, "ema_decay": 0.9, "max_grad_norm": 1.0, "zero_grads": True,
               "metric": "lr"}  # fmt: skip
    if by == "compiled" and forms != "both":
        pytest.skip("both has either")
    if forms != "shrink":
        options["penalty"] = [L1(0.05), pyopt.GroupLasso(0.03)]
    if forms != "slope":
        options["prox"] = (L1(0.01), pyopt.GroupLasso(0.02)) if forms == "both" else pyopt.MaxNorm(0.7)
    params = [tame(shape, dtype, 1), tame((4, 3), dtype, 2), np.zeros((0, 3), dtype)]
    grads = [[tame(p.shape, dtype, 10 * t + i) for i, p in enumerate(params)] for t in range(2)]
    grads[1][1] = None
    same(run(RULES["adamw"], params, grads, by=by, **options), run(RULES["adamw"], params, grads, **options))


@pytest.mark.parametrize(
    ("kind", "alpha", "scale"), [("float32", 0.3, 1e-40), ("bfloat16", 0.3, 1e-40), ("float64", 1e160, 1e-150)]
)
def test_gradients_of_rows_whose_slope_overflows(kind, alpha, scale, by):
    p = np.array([[1, 0, 0, 0], [3, 0, -4, 0], [0, 0, 0, 0], [0.3, -2, 0, 1]])
    p[:2] *= scale
    p = codecs.encode(p.astype(np.float32), codecs.dtype(kind)) if kind == "bfloat16" else p.astype(kind)
    grads = [[np.zeros_like(p)]] * 2
    options = {"lr": 0.1, "penalty": [L1(0.05), pyopt.GroupLasso(alpha)], "prox": pyopt.GroupLasso(0.02)}
    got = run(RULES["sgd"], [p], grads, by=by, **options)
    same(got, run(RULES["sgd"], [p], grads, **options))
    assert np.isfinite(got["p[0]"].astype(np.float64)).all()


@pytest.mark.parametrize("rounding", codecs.ROUNDINGS)
def test_rows_are_not_rounded_before_they_are_shrunk(rounding, by):
    kind = codecs.dtype("bfloat16")
    params = [codecs.encode(tame((6, 17), np.float32), kind)]
    grads = [[codecs.encode(tame((6, 17), np.float32, t), kind)] for t in range(2)]
    options = {"lr": 0.1, "rounding": rounding, "seed": 5, "prox": pyopt.MaxNorm(2.0), "shadow_dtype": "float16",
               "penalty": pyopt.GroupLasso(0.1), "state_dtype": "bfloat16", "skip_nonfinite": True,
               "zero_grads": True}  # fmt: skip
    grads[0][0][3, 3] = np.nan
    same(run(RULES["lion"], params, grads, by=by, **options), run(RULES["lion"], params, grads, **options))


@pytest.mark.parametrize("shape", [(9, 7), (3, 70), (5, 128), (2, 9001)], ids=str)
@pytest.mark.parametrize("rule", ["sgd", "adamw"])
@pytest.mark.parametrize("storage", ["float32", "float64", "bfloat16"])
def test_rows_of_any_alignment(storage, rule, shape, by):
    """Arrays that are all up to 3 elements behind a vector, for sgd, or all but the gradients, for adamw."""
    if by == "emulated" and (np.prod(shape) > 1000 or (rule, storage) == ("adamw", "float64")):
        pytest.skip("slow in plain Python")
    kind, rounding = codecs.dtype(storage), "remainder" if (rule, storage) == ("adamw", "bfloat16") else "nearest"
    got = []
    for who in (by, "reference"):
        with stepping(who):
            params = [moved(codecs.encode(tame(shape, np.float32, k), kind), k) for k in range(4)]
            grads = [moved(codecs.encode(tame(shape, np.float32, 9 + k), kind), k * (rule == "sgd")) for k in range(4)]
            opt = make(RULES[rule], params, lr=0.1, penalty=pyopt.GroupLasso(0.1), prox=pyopt.MaxNorm(0.7),
                       rounding=rounding, weight_decay=0.2 * (rule == "adamw"))  # fmt: skip
            opt.step(grads)
            opt.step_rows([2 % shape[0], 0, 0], moved(grads[1][[1, 0, 1]], 1), 2)
            opt.step_rows([0, 1], grads[2][[1, 0]], 3)
            opt.catch_up_rows()
            opt.step(grads, zero_grads=True)
            assert not any(g.any() for g in grads)
        got.append(outcome(opt))
    same(*got)


def test_catching_up_with_a_remainder_that_is_aligned_differently():
    """Which states are not when they are made, but may be when they are given."""
    got = []
    for behind in (0, 3):
        p, low = (moved(tame((3, 37), np.float32, k).view(np.uint16)[:, :37], k * behind) for k in (1, 2))
        decay, last = np.ones(3), np.array([0.75])
        kernel = CatchUp(Operand("p", "bf16", "remainder"))
        addresses = [a.ctypes.data for a in (decay, last)]
        with np.errstate(over="ignore"):
            runnable(kernel, False)(1, p.ctypes.data, low.ctypes.data, 37, 3, *addresses)
        got.append((p.copy(), low.copy()))
    assert all((a == b).all() for a, b in zip(*got, strict=True))


def moved(a, k):
    """Return a copy that begins ``k`` elements behind a multiple of 16 bytes."""
    raw = np.zeros(a.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 16 + k * a.itemsize
    found = raw[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    found[...] = a
    return found


# ---- some rows


def test_a_bad_sum_of_rows_makes_no_later_step_none(by):
    """Where a row comes twice, its sum is looked at also where no step is to be skipped."""
    p = tame((4, 3), np.float32)
    for by_itself in [by] if by != "emulated" else [by, None]:
        with stepping(by_itself):
            opt = pyopt.SGD([p.copy()], lr=0.1)
            opt.step_rows([1, 1], np.full((2, 3), np.inf, np.float32))
            opt.skip_nonfinite = True
            opt.step([np.ones((4, 3), np.float32)])
            assert not opt.skipped
            assert opt.state[0]["step"] == 2


@pytest.mark.parametrize("limit", [None, 2.0])
@pytest.mark.parametrize(
    ("storage", "rounding"),
    [("float32", "nearest"), ("float64", "nearest"), *[("bfloat16", rounding) for rounding in codecs.ROUNDINGS]],
)
def test_some_rows(storage, rounding, limit, by):
    shape, count = ((9, 5), 12) if by == "emulated" else ((300, 37), 1500)
    options = {"rounding": rounding, "seed": 9, "ema_decay": 0.9, "max_grad_norm": limit,
               "penalty": [L1(0.01), pyopt.GroupLasso(0.1)], "prox": pyopt.MaxNorm(4.0), "weight_decay": 0.2, "lr": 0.1,
               "max_tensor_norm": limit and 3.0}  # fmt: skip
    if storage == "bfloat16":
        options |= {"state_dtype": "bfloat16", "shadow_dtype": "float16"}
    kind = codecs.dtype(storage)
    got, want = (stepped_rows(x, RULES["lion"], shape, count, kind, **options) for x in (by, "reference"))
    same(got, want)


@pytest.mark.parametrize("by", ["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("rule", BY_ROWS, ids=lambda rule: rule.name)
def test_some_rows_of_every_rule(rule, dtype, by):
    options = everything(rule) if rule.decay == "decoupled" else everything(rule) | {"weight_decay": 0.0}
    got, want = (stepped_rows(x, rule, (7, 2, 3), 5, np.dtype(dtype), **options) for x in (by, "reference"))
    same(got, want)


def test_rows_longer_than_a_leaf(by):
    shape = (3, 9001) if by != "emulated" else (2, 4100)
    options = {"lr": 0.1, "max_grad_norm": 1.0, "weight_decay": 0.5, "prox": pyopt.GroupLasso(0.01)}
    got, want = (stepped_rows(x, RULES["sgd"], shape, 2, np.dtype(np.float32), **options) for x in (by, "reference"))
    same(got, want)


def test_the_sum_of_a_long_row_is_that_of_the_tree():
    """Of any number of leaves: whole rows of so many are slow in plain Python."""
    block, finish, rng = row_sums.fold_block(Plain()), row_sums.fold_levels(Plain()), np.random.default_rng(0)
    for count in range(1, 300):
        leaves, kept = rng.normal(size=count) ** 9, np.zeros(whole_rows.FACTORS)
        for k in range(0, count, row_sums.TOGETHER):
            few = leaves[k : k + row_sums.TOGETHER]
            kept[: few.size * grad_norm.ROW : grad_norm.ROW] = few
            block(kept, np.uint64(k // row_sums.TOGETHER), np.uint64(count - k))
        finish(kept, np.uint64(-(-count // row_sums.TOGETHER)))
        assert kept[0] == reductions.pairwise_sum(list(leaves)), count


def test_a_step_of_rows_that_is_not_finite(by):
    p, values = np.ones((5, 3)), np.ones((2, 3))
    values[1, 2] = np.inf
    with stepping(by):
        opt = pyopt.SGD([p], weight_decay=0.1, skip_nonfinite=True)
        opt.step_rows([1, 2], values)
        assert opt.skipped
        assert opt.state[0]["step"] == 0
        assert (opt.state[0]["row_decay"] == 1).all()
        assert (p == 1).all()
        values[1, 2] = 1e200  # its square overflows
        opt.step_rows([1, 2], values)
        assert not opt.skipped


def test_rows_that_decay_to_nothing_catch_up_at_once(by):
    p = tame((5, 3), np.float64)
    with stepping(by):
        pyopt.SGD([p], lr=1.0, weight_decay=1.0).step_rows([3], np.ones((1, 3)))
    assert (p[3] == -1).all()
    assert not np.delete(p, 3, axis=0).any()


def test_a_table_without_a_gradient_lags_on(by):
    got = []
    for who in (by, "reference"):
        p, w = tame((5, 3), np.float64), np.ones(3)
        with stepping(who):
            opt = pyopt.AdamW([p, w], lr=0.1, weight_decay=0.2)
            opt.step_rows([3], np.ones((1, 3)), 0)
            opt.step([None, np.ones(3)])
            assert (np.delete(p, 3, axis=0) == np.delete(tame((5, 3), np.float64), 3, axis=0)).all()
            opt.step([np.ones((5, 3)), None])
        got.append(outcome(opt))
    same(*got)


@pytest.mark.parametrize(("indices", "values", "error", "word"), [
    ([5], np.ones((1, 3)), ValueError, r"\[0, 5\)"),
    ([1.0], np.ones((1, 3)), TypeError, "vector of integers"),
    ([[1]], np.ones((1, 3)), TypeError, "vector"),
    ([1, 2], np.ones((1, 3)), ValueError, r"\(2, 3\)"),
    ([1], np.ones((1, 3), np.int64), TypeError, "int64"),
    ([1], np.ones((1, 3), np.float32).view(np.uint16)[:, :3], TypeError, "u16"),
    ([1, 2], np.ones((2, 6))[:, ::2], ValueError, "strides"),
])  # fmt: skip
def test_rows_that_are_refused(indices, values, error, word):
    dev = Emulated()
    p = gpu_arrays.Array(dev, (5, 3), (3, 1), "f64")
    p.set(1.0)
    plan = plan_of(functools.partial(gpu_engine.Plan, dev), [p], [SGD])
    with pytest.raises(error, match=word):
        plan.step_rows(0, np.array(indices), Foreign(values), asked([SGD]), 1.0)
    assert (p.get() == 1).all()
    assert plan.progress()[0] == [0]
