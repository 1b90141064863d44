"""The plan of the GPU engine, its kernels run as plain Python or compiled by Numba, against the reference.

``emulated`` tests need nothing but NumPy; they are slow, so sizes are small. ``compiled`` ones need Numba.
"""

import functools

import numpy as np
import pytest

import pyopt
from pyopt import L1, L2, MCP, SCAD, Box, ElasticNet, HuberL1, LogSum, MaxNorm, NonNegative
from pyopt.kernels.cuda import arrays as gpu_arrays
from pyopt.kernels.cuda import plan as gpu_engine
from pyopt.kernels.numerics import codecs
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.reference import plan as reference_plan
from pyopt.kernels.rules import RULES
from pyopt.optim.group import OPTIONS, ParamGroup
from support.device import asked, device, plan_of
from support.helpers import (
    GRADIENTS,
    everything,
    gradients,
    run,
    same,
    same_bits,
    some_penalty,
    stepping,
    tame,
    variants,
    wild,
)  # fmt: skip

SIZES = (0, 1, 3, 4, 5, 37, 129)

compiled = pytest.mark.compiled


def options_of(rule):
    """Return every stage at once."""
    return {
        **everything(rule),
        "penalty": [some_penalty(kind, i) for i, kind in enumerate(GRADIENTS.values())],
        "clip_value": 0.1, "max_tensor_norm": 2.5, "max_grad_norm": 3.0, "ema_decay": 0.9, "grad_scale": 3.0,
        "zero_grads": True,
    }  # fmt: skip


def test_every_stage(rule, dtype, by):
    sizes = SIZES if by == "emulated" else (*SIZES, 2047, 2048, 2049, 65_537)
    params = [wild(n, dtype, n) for n in sizes]
    grads = gradients(params, 2, make=tame)
    options = options_of(rule)
    same(run(rule, params, grads, by=by, **options), run(rule, params, grads, **options))


@pytest.mark.parametrize("by", ["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_no_stage_but_the_rule(rule, dtype, by):
    params = [wild(n, dtype, n) for n in (1, 5, 130)]
    grads = gradients(params, 2)
    for hypers in variants(rule):
        same(run(rule, params, grads, by=by, **hypers), run(rule, params, grads, **hypers), f"{hypers}")


@pytest.mark.parametrize(("n", "by"), [pytest.param(1_000_003, "compiled", marks=compiled),
                                       pytest.param(1 << 24, "gpu", marks=pytest.mark.gpu)])  # fmt: skip
def test_large(n, by, dtype):
    params, rule = [wild(n, dtype), wild(7, dtype)], RULES["adamw"]
    options = options_of(rule)
    grads = gradients(params, 1)
    same(run(rule, params, grads, by=by, **options), run(rule, params, grads, **options))


@pytest.mark.any_rule
def test_a_bad_gradient_makes_the_step_none(rule, dtype, by):
    if by == "compiled" and rule.name != "adamw":
        pytest.skip("slow to compile; test_every_stage has every rule")
    params = [tame(n, dtype, n) for n in (5, 0, 4099)]
    grads = gradients(params, 4, make=tame)
    grads[1][2][4097] = np.nan  # after the last whole vector
    grads[2][2][5] = np.inf
    grads[0][0] = None
    options = {**everything(rule), "skip_nonfinite": True, "zero_grads": True, "max_grad_norm": 3.0}
    same(run(rule, params, grads, by=by, **options), run(rule, params, grads, **options))


def test_no_element_has_a_norm_of_0(by):
    with stepping(by):
        opt = pyopt.SGD([np.empty(0, np.float32)], max_grad_norm=1.0)
        opt.step([np.empty(0, np.float32)])
    assert opt.grad_norm == 0


# ---- storage types and proximal forms


STORED = [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float16", "float16"), ("float32", "bfloat16"),
          ("float64", "float16"), ("float64", "float64")]  # fmt: skip


@pytest.mark.parametrize("rounding", codecs.ROUNDINGS)
@pytest.mark.parametrize("stored", STORED, ids="-".join)
def test_storage(stored, rounding, by):
    if stored[0] == "float16" and rounding == "remainder":
        pytest.skip("only bfloat16 has one")
    own, given = map(codecs.dtype, stored)
    real = codecs.compute(own)
    params = [codecs.encode(wild(n, real, n), own) for n in (0, 3, 8, 129, 40)]
    grads = [[codecs.encode(wild(p.size, real, 10 * t + i), given) for i, p in enumerate(params)] for t in range(2)]
    options = {"rounding": rounding, "seed": 0x9876543210ABCDEF, "ema_decay": 0.9, "ema_bias_correction": True,
               "state_dtype": {"exp_avg": "bfloat16", "max_exp_avg_sq": "bfloat16", "ema": "float16"}, "amsgrad": True,
               "shadow_dtype": "bfloat16", "lr": 0.1, "max_grad_norm": 3.0, "zero_grads": True}  # fmt: skip
    same(run(RULES["adamw"], params, grads, by=by, **options), run(RULES["adamw"], params, grads, **options))


PROXES = {
    "l1": L1(0.1),
    "l2": L2(0.3),
    "elastic_net": ElasticNet(0.1),
    "huber_l1": HuberL1(0.2),
    "box": Box(-1.0, 0.5),
    "non_negative": (L1(0.01), NonNegative()),
    "mcp": MCP(0.5),
    "scad": SCAD(0.5),
    "log_sum": LogSum(0.5, 1.0),
}


@pytest.mark.parametrize("stem", PROXES)
def test_proximal_forms(stem, dtype, by):
    if by == "compiled" and dtype is np.float64:
        pytest.skip("slow to compile; float64 differs in the rules only")
    assert set(PROXES) == {stem for stem, kind in PENALTIES.items() if not kind.by_row}
    params = [wild(n, dtype, n) for n in (37, 5)]
    grads = gradients(params, 2)
    options = {"prox": PROXES[stem], "metric": "lr", "lr": 0.1, "weight_decay": 0.1, "maximize": True}
    same(run(RULES["lion"], params, grads, by=by, **options), run(RULES["lion"], params, grads, **options))


NORMS = {"lr": 0.1, "betas": (0.7, 0.8), "eps": 0.05, "weight_decay": 0.3, "zero_grads": True, "grad_scale": 3.0,
         "max_tensor_norm": 2.5, "clip_value": 0.1, "penalty": L1(0.1), "ema_decay": 0.9}  # fmt: skip


@pytest.mark.parametrize("stored", [("float32", "float32"), *STORED[3:5], ("bfloat16", "float32")], ids="-".join)
def test_norms_of_whole_tensors(stored, by):
    """Around a leaf, and of many of them; one tensor sits out each step."""
    kind, given = map(codecs.dtype, stored)
    real = codecs.compute(kind)
    sizes = (4097, 0, 1, 4096) if by == "emulated" else (4095, 4096, 4097, 1, 0, 40 * 4096 + 5)
    params = [codecs.encode(tame(n, real, n), kind) for n in sizes]
    grads = [[codecs.encode(tame(n, real, 10 * t + i), given) for i, n in enumerate(sizes)] for t in range(2)]
    grads[1][0] = None
    options = {**NORMS, "rounding": "remainder" if stored[0] == "bfloat16" else "stochastic", "shadow_dtype": "float16",
               "state_dtype": {"exp_avg": "bfloat16"}, "prox": MaxNorm(0.9), "metric": "lr"}  # fmt: skip
    same(run(RULES["lamb"], params, grads, by=by, **options), run(RULES["lamb"], params, grads, **options))


def test_proximal_forms_take_the_step_of_the_rule(rule, by):
    """That of each element, where the rule has one."""
    params = [wild(n, np.float32, n) for n in (37, 5)]
    grads = gradients(params, 2)
    for hypers in variants(rule) if by == "emulated" else [everything(rule)]:
        options = {**hypers, "prox": (L1(0.1), NonNegative()), "metric": "lr" if rule.norms else None}
        same(run(rule, params, grads, by=by, **options), run(rule, params, grads, **options), f"{hypers}")


def test_tensors_of_all_types_in_one_optimizer(by):
    params = [codecs.encode(tame(40, np.float32, i), codecs.dtype(kind)) for i, kind in enumerate(codecs.NAMES)]
    grads = [[codecs.encode(tame(40, np.float32, 9 + i), p.dtype) for i, p in enumerate(params)] for _ in range(2)]
    options = {"max_grad_norm": 0.5, "rounding": "stochastic", "seed": 3, "penalty": L1(0.1), "prox": L1(0.01)}
    same(run(RULES["lion"], params, grads, by=by, **options), run(RULES["lion"], params, grads, **options))


# ---- alignment


@pytest.mark.parametrize(("ahead", "g_ahead"), [(0, 0), (1, 1), (3, 3), (1, 0), (0, 2)])
@pytest.mark.parametrize(
    ("name", "more"),
    [("sgd", {"momentum": 0.5}), ("sgd", {"momentum": 0.5, "prox": MaxNorm(0.5)}), ("lamb", {})],
    ids=["whole", "rows", "norms"],
)
def test_memory_that_is_not_aligned(ahead, g_ahead, name, more, dtype, by):
    """Vectors start where all arrays are aligned; where they never are, and in rows, elements go one by one."""
    shape = (4, 8) if "prox" in more else (61,)
    dev = device(by)
    rule = RULES[name]
    group = ParamGroup(rule, {**OPTIONS, **rule.Values()._asdict(), **more})
    size = np.dtype(dtype).itemsize
    kind = {4: "f32", 8: "f64"}[size]

    def put(values, ahead):
        made = gpu_arrays.Array(dev, shape, (*shape[1:], 1), kind, ahead * size)
        made.set(values)
        return made

    p, g, *states = (np.abs(tame(shape, dtype, k)) for k in range(2 + len(rule.states)))
    own, grad, beside = put(p, ahead), put(g, g_ahead), [put(s, ahead) for s in states]
    plan = plan_of(functools.partial(gpu_engine.Plan, dev), [own], [group], [beside], taken=1)
    plan.step([grad], asked([group], max_norm=0.5))
    want = plan_of(reference_plan.Plan, [p], [group], [states], taken=1)
    want.step([g], asked([group], max_norm=0.5))
    same_bits(own.get(), p)
    for made, s in zip(beside, states, strict=True):
        same_bits(made.get(), s)


@compiled
def test_a_vector_that_is_not_aligned_is_refused():
    from pyopt.kernels.cuda.device.intrinsics import Host

    load = Host().load("f32", 4)
    a = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="not aligned"):
        load(np.uint64((a.ctypes.data + 15) // 16 * 16 + 4))
