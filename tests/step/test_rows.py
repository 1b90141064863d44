"""step_rows: the rows that are touched, against dense steps, the reference and torch's SparseAdam."""

import contextlib

import numpy as np
import pytest

import pyopt
from pyopt.kernels.numerics import codecs
from pyopt.kernels.rules import RULES
from support.helpers import BY_ROWS, everything, make, outcome, refused, same, same_bits, stepping, tame

pytestmark = pytest.mark.devices

ROWS, WIDTH = 400, 37
DECOUPLED = [rule for rule in RULES.values() if rule.decay == "decoupled"]


def batches(count, dtype=np.float64, k=150, seed=0, width=WIDTH):
    """Return indices, some of them twice, and a gradient for each."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, ROWS, k), rng.normal(size=(k, width)).astype(dtype)) for _ in range(count)]


def dense(indices, values):
    full = np.zeros((ROWS, values.shape[1]), values.dtype)
    np.add.at(full, indices, values)
    return full


def options(rule):
    """Return unusual hyper-parameters that step_rows takes."""
    given = everything(rule)
    return given if rule.decay == "decoupled" else given | {"weight_decay": 0.0}


# ---- against dense steps


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("schedule", [0.1, lambda t: 0.1 / (1 + t)], ids=["constant", "schedule"])
def test_sgd_is_dense_descent(isa, weight_decay, schedule):
    p, q = tame((ROWS, WIDTH), np.float64), tame((ROWS, WIDTH), np.float64)
    with stepping(isa, 2):
        rows = pyopt.SGD([p], lr=schedule, weight_decay=weight_decay)
        whole = pyopt.SGD([q], lr=schedule, weight_decay=weight_decay)
        for indices, values in batches(9):
            rows.step_rows(indices, values)
            whole.step([dense(indices, values)])
            np.testing.assert_allclose(p[indices], q[indices], rtol=1e-12)
        rows.catch_up_rows()
    np.testing.assert_allclose(p, q, rtol=1e-12)
    assert rows.state[0]["step"] == 9


def test_adagrad_is_dense_adagrad(isa):
    p, q = tame((ROWS, WIDTH), np.float64), tame((ROWS, WIDTH), np.float64)
    with stepping(isa, 2):
        rows, whole = pyopt.Adagrad([p], lr=0.1, lr_decay=0.1), pyopt.Adagrad([q], lr=0.1, lr_decay=0.1)
        for indices, values in batches(5):
            rows.step_rows(indices, values)
            whole.step([dense(indices, values)])
    np.testing.assert_allclose(p, q, rtol=1e-13)
    np.testing.assert_allclose(rows.state[0]["sum"], whole.state[0]["sum"], rtol=1e-13)


@pytest.mark.parametrize("rule", DECOUPLED, ids=lambda rule: rule.name)
def test_decoupled_decay_is_caught_up(rule, isa):
    """Rows that are never touched end up decayed as by dense steps without a gradient."""
    p, q = tame((ROWS, WIDTH), np.float64), tame((ROWS, WIDTH), np.float64)
    with stepping(isa):
        rows = make(rule, [p], lr=0.1, weight_decay=0.2)
        for indices, values in batches(6):
            rows.step_rows(indices % (ROWS // 2), values)
        np.testing.assert_array_equal(p[ROWS // 2 :], q[ROWS // 2 :])
        rows.step([np.zeros_like(p)])  # catches up first
    np.testing.assert_allclose(p[ROWS // 2 :], q[ROWS // 2 :] * 0.98**7, rtol=1e-12)


def test_no_gradient_of_the_table_leaves_its_rows_behind(isa):
    """As where each iteration steps rows of a table, and the rest of a model as a whole."""
    p, w = tame((ROWS, WIDTH), np.float64), np.ones(3)
    with stepping(isa):
        opt = pyopt.AdamW([p, w], lr=0.1, weight_decay=0.2)
        for indices, values in batches(3):
            opt.step_rows(indices % (ROWS // 2), values, 0)
            opt.step([None, np.ones(3)])
        np.testing.assert_array_equal(p[ROWS // 2 :], tame((ROWS, WIDTH), np.float64)[ROWS // 2 :])
        opt.catch_up_rows()
    np.testing.assert_allclose(p[ROWS // 2 :], tame((ROWS, WIDTH), np.float64)[ROWS // 2 :] * 0.98**3, rtol=1e-12)


def test_a_decay_to_nothing_is_caught_up_at_once(isa):
    p = tame((ROWS, WIDTH), np.float64)
    with stepping(isa):
        opt = pyopt.SGD([p], lr=1.0, weight_decay=1.0)
        opt.step_rows([3], np.ones((1, WIDTH)))
    np.testing.assert_allclose(p[3], -1, rtol=1e-15)
    assert not np.delete(p, 3, axis=0).any()


def test_sparse_adam_of_torch(isa, torch):
    p = tame((ROWS, WIDTH), np.float64)
    weight = torch.tensor(p.copy(), requires_grad=True)
    theirs = torch.optim.SparseAdam([weight], lr=0.1, betas=(0.8, 0.9), eps=1e-13)
    with stepping(isa):
        opt = pyopt.Adam([p], lr=0.1, betas=(0.8, 0.9), eps=1e-13)
        for indices, values in batches(5):
            weight.grad = torch.sparse_coo_tensor(torch.tensor(indices)[None], torch.tensor(values), p.shape)
            theirs.step()
            opt.step_rows(indices, values)
    np.testing.assert_allclose(p, weight.detach().numpy(), rtol=1e-7)  # but for eps, which torch adds elsewhere
    untouched = np.setdiff1d(np.arange(ROWS), np.concatenate([indices for indices, _ in batches(5)]))
    assert untouched.size
    np.testing.assert_array_equal(p[untouched], tame((ROWS, WIDTH), np.float64)[untouched])


# ---- bits


@pytest.mark.parametrize(
    ("storage", "rounding", "alone"),
    [("float32", "nearest", False), ("float64", "nearest", False), ("bfloat16", "nearest", True),
     *[("bfloat16", rounding, False) for rounding in codecs.ROUNDINGS]],
)  # fmt: skip
@pytest.mark.parametrize("rule", BY_ROWS, ids=lambda rule: rule.name)
def test_bits_are_those_of_the_reference(rule, isa, storage, rounding, alone):
    if storage == "bfloat16":
        pytest.importorskip("ml_dtypes")
    kind = codecs.dtype(storage)
    more = {"rounding": rounding, "seed": 9, "ema_decay": 0.9, "max_grad_norm": 20.0, "max_tensor_norm": 15.0,
            "penalty": [pyopt.L1(0.01), pyopt.GroupLasso(0.1)], "prox": pyopt.MaxNorm(4.0)}  # fmt: skip
    if storage == "bfloat16":
        more |= {"state_dtype": "bfloat16", "shadow_dtype": "float16"}
    scale = 3.0
    if alone:  # as the rule itself may decode and encode
        more, scale = {"state_dtype": "bfloat16", "maximize": False}, 1.0

    def steps(by, threads):
        p, q = (codecs.encode(tame((ROWS, WIDTH), np.float32, i), kind) for i in range(2))
        with stepping(by, threads):
            opt = make(rule, [q, p], **options(rule) | more)
            for t, (indices, values) in enumerate(batches(4, np.float32, 1500)):
                n = 10 ** (t + 1)
                opt.step_rows(indices[:n], codecs.encode(values, kind)[:n], 1, grad_scale=scale)
            opt.step([codecs.encode(tame((ROWS, WIDTH), np.float32, i + 5), kind) for i in range(2)])
        return outcome(opt) | {"norm": np.array(opt.grad_norm or 0.0)}

    want = steps("reference", 1)
    for threads in (1, 2):
        same(steps(isa, threads), want, f"{threads} threads")


def test_rows_that_come_once_in_any_order(dtype, isa):
    """Their gradients are read where they stand in the list: nothing is summed."""
    order = np.random.default_rng(0).permutation(ROWS)[:150]
    p, values = tame((ROWS, WIDTH), dtype), tame((150, WIDTH), dtype, 1)
    want = p.copy()
    want[order] -= dtype(0.5) * values
    with stepping(isa, 2):
        opt = pyopt.SGD([p], lr=0.5)
        opt.step([np.zeros((ROWS, WIDTH), dtype)], zero_grads=True)
        opt.step_rows(order, values)
    same_bits(p, want)
    same_bits(values, tame((150, WIDTH), dtype, 1), "zeroed, as the gradient of the step before:")


def test_many_rows_are_sorted(isa):
    """More rows than 10 bits count, for two turns of the sort; sums in the order of the list; two leaves of norms."""
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 9000, 9000)
    values = (rng.normal(size=(9000, 3)) * 10.0 ** rng.integers(-6, 6, (9000, 1))).astype(np.float32)
    runs = []
    for by in ("reference", isa):
        p = tame((9000, 3), np.float32)
        with stepping(by, 2):
            opt = pyopt.SGD([p], lr=0.5, max_grad_norm=1e6)
            opt.step_rows(indices, values)
        runs.append({"p": p, "norm": np.array(opt.grad_norm)})
    same(*runs)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_of_all_of_some_and_of_rows_in_any_order(name, isa, seed):
    """Tensors part where one has no gradient and meet again; what is refused in between has changed nothing."""

    def history(by):
        rng = np.random.default_rng(seed)
        params = [tame((6, 3), np.float64 if i == 2 else np.float32, i) for i in range(5)]
        fails = []

        def schedule(t):
            if fails and fails.pop():
                raise ArithmeticError
            return 0.1 / (t + 1)

        with stepping(by):
            groups = [{"params": params[:3]}, {"params": params[3:], "lr": schedule}]
            opt = make(RULES[name], groups, lr=0.1, **({"dampening": 0.25, "momentum": 0.5} if name == "sgd" else {}))
            for t in range(40):
                grads = [tame(p.shape, p.dtype, 10 * t + i) for i, p in enumerate(params)]
                i, kind = rng.integers(5), rng.choice(["all", "some", "rows", "refused", "refused rows", "raising"])
                if kind in ("some", "refused"):
                    grads = [g if rng.random() < 0.6 else None for g in grads]
                if "refused" in kind and by == "reference":  # which checks no dense gradient
                    continue
                if kind == "refused":
                    grads[i] = np.ones(7, params[i].dtype)
                fails[:] = [True] if kind == "raising" else []
                with refused(ValueError, "") if "refused" in kind else contextlib.suppress(ArithmeticError):
                    if "rows" in kind:
                        for indices in [[1, 4]] * 4 if kind == "rows" else [[9, 1]]:
                            opt.step_rows(indices, grads[i][:2], int(i))
                    else:
                        opt.step(grads)
        return outcome(opt)

    same(history(isa), history("reference"))


@pytest.mark.parametrize("shape", [(5,), (5, 0), (3, 2, 700), (4, 9001)])
@pytest.mark.any_rule
@pytest.mark.parametrize("rule", BY_ROWS, ids=lambda rule: rule.name)
def test_rows_of_any_shape(rule, dtype, isa, shape):
    runs = []
    for by in ("reference", isa):
        p = tame(shape, dtype)
        with stepping(by, 2):
            opt = make(rule, [p], **options(rule))
            opt.step_rows([2, 0, 2], tame((3, *shape[1:]), dtype, 1))
        runs.append(outcome(opt))
    same(*runs)


def test_nothing_touched_is_a_step_too(isa):
    p = tame((5, 3), np.float64)
    with stepping(isa):
        opt = pyopt.Adagrad([p], max_grad_norm=1.0)
        opt.step_rows([], np.empty((0, 3)))
        assert (opt.state[0]["step"], opt.grad_norm) == (1, 0.0)
        opt.max_grad_norm = None
        opt.step_rows([], np.empty((0, 3)))
    assert opt.grad_norm is None
    same_bits(p, tame((5, 3), np.float64))


def test_skips_what_is_not_finite(isa):
    p = tame((5, 3), np.float64)
    values = np.ones((2, 3))
    values[1, 2] = np.inf
    with stepping(isa):
        opt = pyopt.SGD([p], weight_decay=0.1, skip_nonfinite=True)
        opt.step_rows([1, 2], values)
        assert opt.skipped
        assert opt.state[0]["step"] == 0
        same_bits(p, tame((5, 3), np.float64))
        scaler = pyopt.DynamicLossScale(8.0)
        opt.step_rows([1, 2], values, grad_scale=scaler)
        scaler.update()
        assert scaler.scale == 4.0
        values[1, 2] = 1e200  # its square overflows
        opt.step_rows([1, 2], values)
        assert not opt.skipped
        values[1, 2] = np.inf
        opt.skip_nonfinite, opt.max_grad_norm = False, 1.0
        opt.step_rows([1, 2], values)
        assert not opt.skipped
        assert np.isnan(p[2, 2])


def test_a_snapshot_keeps_what_lags(isa):
    runs = []
    with stepping(isa):
        for again in (False, True):
            p = tame((ROWS, WIDTH), np.float64)
            opt = pyopt.AdamW([p], lr=0.1, weight_decay=0.1)
            for t, (indices, values) in enumerate(batches(4)):
                opt.step_rows(indices, values)
                if again and t == 1:
                    saved, opt = opt.state_dict(), pyopt.AdamW([p])
                    assert saved["state"][0]["row_decay"].shape == (ROWS + 1,)
                    opt.load_state_dict(saved)
            opt.catch_up_rows()
            runs.append(outcome(opt))
    same(*runs)


# ---- what is refused


def test_which_parameter():
    params = [("a", np.ones((2, 3))), ("b", np.ones((4, 3)))]
    opt = pyopt.SGD(params, lr=1.0)
    opt.step_rows([3], np.ones((1, 3)), "b")
    opt.step_rows([3], np.ones((1, 3)), np.int64(1))
    assert (params[1][1][3] == -1).all()
    for wrong in (None, "c", 2, -1, True, 1.0):
        with refused(ValueError, f"param={wrong!r}", "[0, 2)", "'b'", opt=opt):
            opt.step_rows([0], np.ones((1, 3)), wrong)


@pytest.mark.parametrize(
    ("indices", "values", "error", "words"),
    [
        ([5], np.ones((1, 3)), ValueError, ["5", "[0, 5)", "params[0]"]),
        ([-1], np.ones((1, 3)), ValueError, ["-1", "[0, 5)"]),
        (np.array([2**63], np.uint64), np.ones((1, 3)), ValueError, [str(2**63), "[0, 5)"]),
        ([10**30], np.ones((1, 3)), TypeError, [str(10**30), "vector of integers"]),
        ([1.0], np.ones((1, 3)), TypeError, ["vector of integers"]),
        (None, np.ones((1, 3)), TypeError, ["None", "vector of integers"]),
        (np.array([True]), np.ones((1, 3)), TypeError, ["True", "vector of integers"]),
        (np.ma.masked_array([1], [True]), np.ones((1, 3)), TypeError, ["indices", "masked", "filled"]),
        ([[1]], np.ones((1, 3)), TypeError, ["vector"]),
        ("ab", np.ones((1, 3)), TypeError, ["integers"]),
        ([1, 2], np.ones((1, 3)), ValueError, ["(1, 3)", "(2, 3)"]),
        ([1], np.ones((1, 4)), ValueError, ["(1, 4)", "(1, 3)"]),
        ([1], np.ones((1, 3), np.int64), TypeError, ["values", "int64"]),
        ([1], [[1.0, 1.0, 1.0]], TypeError, ["values", "list"]),
        ([1, 2], np.ones((2, 6))[:, ::2], ValueError, ["values", "strides"]),
    ],
)
def test_wrong_rows(indices, values, error, words):
    p = np.ones((5, 3))
    opt = pyopt.AdamW([p])
    with refused(error, *words, opt=opt, arrays=[p]):
        opt.step_rows(indices, values)


def test_coupled_decay_would_move_every_row(rule):
    p = np.ones((5, 3))
    if rule.decay == "coupled":
        opt = make(rule, [p], weight_decay=0.1, **({"momentum": 0.5} if rule.name == "sgd" else {}))
        with refused(ValueError, "weight_decay=0.1", rule.name, "pyopt.L2", opt=opt, arrays=[p]):
            opt.step_rows([1], np.ones((1, 3)))


def test_memory_of_its_own():
    p = np.ones((5, 3))
    opt = pyopt.SGD([p])
    with refused(ValueError, "share memory", opt=opt, arrays=[p]):
        opt.step_rows([1, 2], p[2:4])
    two = pyopt.SGD([p, np.ones((5, 3))])
    g = np.ones((5, 3))
    two.step([np.ones((5, 3)), g], zero_grads=True)
    two.step_rows(range(5), g, 0)
    with refused(ValueError, "share memory", opt=two, arrays=[p, g]):  # though it has just been seen with each
        two.step([g, g], zero_grads=True)
    with refused(ValueError, "ascontiguousarray"):
        pyopt.SGD([np.ones((5, 3), order="F")]).step_rows([1], np.ones((1, 3)))
    with refused(ValueError, "single number"):
        pyopt.SGD([np.ones(())]).step_rows([0], np.ones(1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("before", "after"), [((6, 2000), (12000, 1)), ((12, 1), (1, 12)), ((2, 6), (12,))])
def test_other_rows_than_when_the_optimizer_was_made(before, after):
    p = np.ones(before)
    opt = pyopt.SGD([p], lr=0.1, weight_decay=0.1)
    opt.step_rows([0], np.ones((1, *before[1:])))
    p.shape = after
    with refused(ValueError, "params[0]", str(after), "new optimizer", opt=opt, arrays=[p]):
        opt.step_rows([after[0] - 1], np.ones((1, *after[1:])))


def test_indices_that_change_while_a_schedule_is_asked():
    """As where another thread fills them anew: what counts is what was checked."""
    p, indices = np.ones((5, 3)), np.array([0, 1])

    def schedule(step):
        asked.append(step)
        if len(asked) == 2:  # the first one is asked before the indices are looked at
            indices[:] = 10**9
        return 1.0

    asked = []
    pyopt.SGD([p], lr=schedule).step_rows(indices, np.ones((2, 3)))
    assert len(asked) == 2
    assert p[:, 0].tolist() == [0, 0, 1, 1, 1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_penalty_by_row_has_the_rows_of_the_beginning():
    p = np.ones((6, 2))
    opt = pyopt.SGD([p], lr=0.1, prox=pyopt.GroupLasso(0.1))
    p.shape = (4, 3)
    with refused(ValueError, "params[0]", "(4, 3)", "new optimizer", opt=opt, arrays=[p]):
        opt.step([np.ones((4, 3))])
