"""The stages around the rule: their order by hand, and every combination of them against the reference, bit by bit."""

import importlib.util

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyopt
from pyopt import L1, L2, Box, ElasticNet, GroupLasso, HuberL1, MaxNorm, NonNegative
from pyopt.kernels.cpu import isa as instruction_sets
from pyopt.kernels.numerics import codecs
from pyopt.kernels.rules import RULES
from pyopt.optim import assembly, slots
from support.helpers import (
    GRADIENTS,
    everything,
    gradients,
    make,
    run,
    same,
    same_bits,
    some_penalty,
    stepping,
    tame,
    wild,
)

pytestmark = pytest.mark.devices

BACKENDS = ["reference", *instruction_sets.available()]
BFLOAT16 = importlib.util.find_spec("ml_dtypes") is not None
ROUNDINGS = codecs.ROUNDINGS
STORED = [("float32", "float32"), ("float64", "float64")] * 2 + [("float64", "float32"), ("float16", "float32")]
STORED += [("float32", "bfloat16"), ("bfloat16", "bfloat16"), ("bfloat16", "float16")] * BFLOAT16
SIZES = st.lists(st.sampled_from([0, 1, 5, 15, 127, 128, 129, 500, 1025]), min_size=1, max_size=5)


# ---- random combinations of all stages


def numbers(hyper):
    """Return the values of a hyper-parameter to try, the default's neighbourhood and the ends of its range included."""
    if isinstance(hyper.default, bool):
        return st.booleans()
    if isinstance(hyper.default, tuple):
        return st.tuples(*[st.sampled_from([0.0, 0.3, 0.9, 0.999])] * 2)
    if hyper.default is None:
        return st.sampled_from([None, None, 0.0, 0.3, 0.9])
    if hyper.high < np.inf:
        return st.sampled_from([0.0, 0.5, 0.99])
    return st.sampled_from([hyper.default, 0.0, 1e-3, 0.3, 2.0])


@st.composite
def cases(draw):
    """Return a rule and all that a few steps need."""
    rule = RULES[draw(st.sampled_from(sorted(RULES)))]
    kinds = draw(st.lists(st.sampled_from(sorted(GRADIENTS)), max_size=3))
    hypers = {h.name: draw(numbers(h)) for h in rule.all_hypers}
    if rule.check(rule.Values(**hypers)) is not None:
        hypers = everything(rule) | {"lr": hypers["lr"]}
    sizes = draw(SIZES)
    metric = draw(st.sampled_from([None, "lr"]))
    prox = draw(st.sampled_from([None, None, L1(0.1), ElasticNet(0.1), HuberL1(0.2), Box(-1.0, 0.5), MaxNorm(2.0),
                                 (L1(0.01), NonNegative()), GroupLasso(0.01)]))  # fmt: skip
    if (isinstance(prox, GroupLasso) and rule.prox_steps is not None) or rule.norms:
        metric = "lr"
    penalty = [some_penalty(GRADIENTS[kind], i) for i, kind in enumerate(kinds)]
    if not rule.norms:
        penalty += draw(st.sampled_from([[], [], [GroupLasso(0.05)], [GroupLasso(0.2), GroupLasso(0.05)]]))
    if prox is not None and hypers.get("momentum", 0.0) >= 1:
        hypers["momentum"] = 0.5
    stored = draw(st.sampled_from(STORED))
    return rule, {
        "sizes": sizes,
        "stored": stored,
        "present": [[draw(st.integers(0, 3)) > 0 for _ in sizes] for _ in range(3)],
        "options": {
            **hypers,
            "penalty": penalty or None,
            "prox": prox,
            "metric": metric,
            "rounding": draw(st.sampled_from(ROUNDINGS if stored[0] != "float16" else ROUNDINGS[:2])),
            "seed": draw(st.sampled_from([0, 12345678901234567890])),
            "state_dtype": draw(st.sampled_from([None, "float32", "bfloat16", "float16"])) if BFLOAT16 else None,
            "shadow_dtype": draw(st.sampled_from([None, "bfloat16", "float16"])) if BFLOAT16 else None,
            "grad_scale": draw(st.sampled_from([1.0, 0.1, 128.0, 3.0])),
            "zero_grads": draw(st.booleans()),
            "max_grad_norm": draw(st.sampled_from([None, None, 0.0, 0.7, 1e9])),
            "skip_nonfinite": draw(st.booleans()),
        },
    }


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_any_combination(case):
    rule, draw = case
    own, given = map(codecs.dtype, draw["stored"])
    real = codecs.compute(own)
    params = [codecs.encode(wild(n, real, i), own) for i, n in enumerate(draw["sizes"])]
    grads = [
        [codecs.encode(wild(p.size, real, 100 + 10 * t + i), given) if there else None
         for i, (p, there) in enumerate(zip(params, mask, strict=True))]
        for t, mask in enumerate(draw["present"])
    ]  # fmt: skip
    want = run(rule, params, grads, **draw["options"])
    for by in instruction_sets.available():
        same(run(rule, params, grads, by=by, **draw["options"]), want, f"{rule.name} on {by}, {draw}")


@pytest.mark.parametrize("zero_grads", [False, True])
def test_all_stages_at_once_with_threads(rule, dtype, isa, zero_grads):
    params = [wild(n, dtype, n) for n in (40_009, 129, 0, 1)]
    options = {
        **everything(rule),
        "penalty": [some_penalty(kind, i) for i, kind in enumerate(GRADIENTS.values())],
        "grad_scale": 3.0,
        "zero_grads": zero_grads,
    }
    grads = gradients(params, 2)
    want = run(rule, params, grads, **options)
    for threads in (1, 2):
        same(run(rule, params, grads, by=isa, threads=threads, **options), want, f"{threads} threads")


# ---- each stage by hand: every number below is a multiple of a power of two, so that float32 is exact as well


@pytest.fixture(params=BACKENDS)
def by(request):
    with stepping(request.param):
        yield request.param


def sgd(p, g, dtype, step=None, **hypers):
    """Return the weights after one step of SGD with lr = 1/2."""
    p = np.array(p, dtype)
    make(RULES["sgd"], [p], lr=0.5, **hypers).step([np.array(g, dtype)], **step or {})
    return p.tolist()


@pytest.mark.usefixtures("by")
class TestByHand:
    def test_plain(self, dtype):
        assert sgd([1.0, -2.0], [0.5, 1.0], dtype) == [0.75, -2.5]

    def test_grad_scale_divides(self, dtype):
        assert sgd([1.0], [2.0], dtype, step={"grad_scale": 4.0}) == [0.75]

    def test_grad_scale_leaves_penalty_and_decay_alone(self, dtype):
        hypers = {"weight_decay": 0.25, "penalty": L1(0.5)}
        assert sgd([1.0], [2.0], dtype, step={"grad_scale": 4.0}, **hypers) == [1 - 0.5 * (2 / 4 + 0.25 + 0.5)]

    def test_maximize_flips_the_gradient(self, dtype):
        assert sgd([1.0], [0.5], dtype, maximize=True) == [1.25]

    def test_maximize_leaves_penalty_and_decay_alone(self, dtype):
        """Both still pull towards 0: what is maximized is the objective minus the penalty."""
        assert sgd([1.0], [0.5], dtype, maximize=True, weight_decay=0.25, penalty=L2(0.25)) == [1 - 0.5 * (-0.5 + 0.75)]

    def test_penalties_add_up(self, dtype):
        penalty = [L1(0.5), L2(0.25), ElasticNet(1.0, 0.5)]
        pull = 0.5 + 2 * 0.25 * 2.0 + (0.5 + 0.5 * 2.0)
        assert sgd([2.0], [0.0], dtype, penalty=penalty) == [2 - 0.5 * pull]
        assert sgd([-2.0], [0.0], dtype, penalty=penalty) == [-2 + 0.5 * pull]
        assert sgd([0.0], [0.0], dtype, penalty=penalty) == [0.0]

    def test_penalty_twice_counts_twice(self, dtype):
        assert sgd([2.0], [0.0], dtype, penalty=(L1(0.5), L1(0.5))) == [1.5]

    def test_penalty_by_row_and_nothing_else(self, dtype):
        """The slope of a row of four ones is sqrt(4) / norm = 1."""
        assert sgd([[1.0] * 4], [[0.0] * 4], dtype, penalty=GroupLasso(0.5)) == [[1 - 0.5 * 0.5] * 4]

    def test_penalty_of_zero_is_none(self, dtype):
        assert sgd([np.inf], [0.0], dtype, penalty=L2(0.0)) == [np.inf]  # 0 * inf would be NaN

    def test_coupled_decay_enters_the_momentum(self, dtype):
        p, q = np.array([1.0], dtype), np.array([1.0], dtype)
        opt = make(RULES["sgd"], [p], lr=0.5, momentum=0.5, weight_decay=0.5)
        for _ in range(2):
            opt.step([np.zeros(1, dtype)])
        assert p.tolist() == [0.75 - 0.5 * (0.5 * 0.5 + 0.5 * 0.75)]
        make(RULES["momentum"], [q], lr=0.5, momentum=0.5, weight_decay=0.5).step([np.zeros(1, dtype)])
        assert q.tolist() == [0.75]

    def test_decoupled_decay_takes_the_old_weight(self, dtype):
        p = np.array([1.0], dtype)
        make(RULES["lion"], [p], lr=0.5, weight_decay=0.5).step([np.array([4.0], dtype)])
        assert p.tolist() == [0.25]  # after the update it would be 0.375

    def test_penalty_is_taken_at_the_old_weight(self, dtype):
        """Decay to -1 or below would turn the sign of the penalty, were it taken after."""
        p = np.array([1.0], dtype)
        opt = make(RULES["lion"], [p], lr=0.5, weight_decay=4.0, betas=(0.5, 0.5), penalty=L1(1.0))
        opt.step([np.zeros(1, dtype)])
        assert p.tolist() == [-1.5]

    def test_zero_grads(self, dtype):
        p, g = np.array([1.0, 2.0], dtype), np.array([0.5, np.nan], dtype)
        make(RULES["sgd"], [p], lr=0.5).step([g], zero_grads=True)
        assert p[0] == 0.75
        assert np.isnan(p[1])
        same_bits(g, np.zeros(2, dtype))

    def test_the_gradient_stays(self, dtype):
        """Scaled and penalised gradients exist in scratch only."""
        p, g = tame(300, dtype), tame(300, dtype, 1)
        before = g.copy()
        opt = make(RULES["adam"], [p], lr=0.1, weight_decay=0.1, penalty=L1(0.1), maximize=True)
        opt.step([g], grad_scale=3.0)
        same_bits(g, before)

    def test_groups_have_hyper_parameters_of_their_own(self, dtype):
        a, b = np.array([1.0], dtype), np.array([1.0], dtype)
        groups = [{"params": [a], "lr": 0.25, "penalty": L1(1.0)}, {"params": [b], "maximize": True}]
        make(RULES["sgd"], groups, lr=0.5).step([np.array([1.0], dtype)] * 2)
        assert (a.tolist(), b.tolist()) == ([0.5], [1.5])

    def test_a_skipped_parameter_keeps_its_step_count(self, dtype):
        """Adam's first step has size lr, whatever the gradient: the second tensor takes its first step late."""
        a, b = np.array([1.0], dtype), np.array([1.0], dtype)
        opt = make(RULES["adam"], [a, b], lr=0.25, eps=0.0)
        opt.step([np.array([4.0], dtype), None])
        assert b.tolist() == [1.0]
        opt.step([None, np.array([4.0], dtype)])
        assert (a.tolist(), b.tolist()) == ([0.75], [0.75])
        assert [state["step"] for state in opt.state] == [1, 1]

    def test_parameters_of_one_step_count_may_differ_in_their_carry(self, dtype):
        """SGD's first gradient in the buffer is not dampened: ``a`` took its first step when there was no buffer."""
        a, b, g = (np.array([1.0], dtype) for _ in range(3))
        opt = make(RULES["sgd"], [a, b], lr=0.5, dampening=0.25)
        opt.step([g, None])
        opt.param_groups[0]["momentum"] = 0.5
        opt.step([None, g])
        opt.step([g, g])
        assert (a.tolist(), b.tolist()) == ([1 - 0.5 - 0.5], [1 - 0.5 - 0.5 * (0.5 + 0.75)])


def test_many_tensors_share_what_is_known_of_their_slots(monkeypatch):
    """To make and to load an optimizer of 100000 tensors would take a minute else."""
    seen = []
    known = slots._slots
    monkeypatch.setattr(slots, "_slots", lambda group, *key: seen.append(key) or known(group, *key))
    params = [tame(shape, dtype) for shape in (3, (2, 3)) * 20 for dtype in (np.float32, np.float64)]
    opt = pyopt.AdamW(params, ema_decay=0.5)
    opt.load_state_dict(opt.state_dict())
    assert len(seen) == 4 * 3  # of the group of the optimizer, of the snapshot, and of the loaded one
    opt.param_groups[0]["state_dtype"] = "float16"  # what is known is out of date
    opt.step([p.copy() for p in params])
    assert {a.dtype.name for own in opt.state for key, a in own.items() if key.startswith("exp")} == {"float16"}


def test_groups_that_are_added_leave_the_others_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(assembly, "filled", lambda *given, have=assembly.filled: seen.append(given) or have(*given))
    params = [tame(3, np.float32, i) for i in range(9)]
    opt = pyopt.SGD(params[:1], lr=0.5)
    for p in params[1:8]:
        opt.add_param_group({"params": [p]})
    assert len(seen) == 8
    opt.param_groups[3]["momentum"] = 0.5  # a step has not seen it yet
    opt.add_param_group({"params": params[8:], "ema_decay": 0.5})
    opt.step([p.copy() for p in params])
    assert [sorted(own) for own in opt.state] == [
        ["carry", *["ema"] * (i == 8), *["momentum_buffer"] * (i == 3), "step"] for i in range(9)
    ]
