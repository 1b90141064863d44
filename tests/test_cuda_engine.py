"""The plan of the GPU engine, its kernels run as plain Python or compiled by Numba, against the reference.

``emulated`` tests need nothing but NumPy; they are slow, so sizes are small. ``compiled`` ones need Numba.
"""

import numpy as np
import pytest

import pyopt
import storage
from device import Emulated, Foreign, device
from helpers import everything, gradients, run, same, same_bits, some_penalty, tame, variants, wild
from pyopt._group import Given, Group
from pyopt.kernels import engine_cuda, philox, step
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.rules import RULES

SIZES = (0, 1, 3, 4, 5, 37, 129)
STORED = {"f32": np.float32, "bf16": np.uint16, "f16": np.float16}

compiled = pytest.mark.compiled


@pytest.fixture(params=["plain", pytest.param("compiled", marks=compiled), pytest.param("gpu", marks=pytest.mark.gpu)])
def by(request):
    return {"plain": "emulated"}.get(request.param, request.param)


def options_of(rule):
    """Return every stage at once."""
    return {
        **everything(rule),
        "penalty": [some_penalty(kind, i) for i, kind in enumerate(PENALTIES.values())],
        "clip_value": 0.7, "max_tensor_norm": 2.5, "max_grad_norm": 3.0, "ema_decay": 0.9, "grad_scale": 3.0,
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


def test_a_bad_gradient_makes_the_step_none(rule, dtype, by):
    params = [tame(n, dtype, n) for n in (5, 0, 4099)]
    grads = gradients(params, 3, make=tame)
    grads[1][2][4097] = np.nan
    grads[0][0] = None
    options = {**everything(rule), "skip_nonfinite": True, "zero_grads": True}
    same(run(rule, params, grads, by=by, **options), run(rule, params, grads, **options))


# ---- storage types


def case(kinds, rounding="nearest", n=(0, 3, 8, 129, 40), by="emulated", seed=0x9876543210, hypers=None):
    """Step AdamW over arrays of these types, (p, g, states), on the device and in NumPy; compare all bits."""
    p_kind, g_kind, s_kind = kinds
    rule = RULES["adamw"]
    group = Group(rule, {**rule.Values(**(hypers or {}))._asdict(), "ema_decay": 0.9, "penalty": None})
    dev = device(by)
    full = [wild(k, np.float32, k) for k in n]
    high, low = zip(*map(storage.split, full), strict=True)
    p = list(map(np.copy, high)) if rounding == "remainder" else [storage.nearest(x, p_kind) for x in full]
    states = [[storage.nearest(np.abs(tame(k, np.float32, j)), s_kind) for j in (1, 2)] for k in n]
    ema = [tame(k, np.float32, 3) for k in n]
    shadow = [np.zeros(k, np.uint16) for k in n]

    def put(a, kind):
        a = np.ascontiguousarray(a)
        made = engine_cuda.arrays_cuda.Array(dev, a.shape, (1,), kind)
        dev.upload(None, made.view.address, a.view(np.uint8))
        return made

    def get(made, like):
        return dev.download(made.view.address, made.nbytes).view(like.dtype)

    on_device = [put(x, p_kind) for x in p]
    low_device = [put(x, "u16") for x in low] if rounding == "remainder" else ()
    states_device = [
        [*(put(x, s_kind) for x in own), None, put(e, "f32")] for own, e in zip(states, ema, strict=True)
    ]  # fmt: skip
    shadow_device = [put(x, "bf16") for x in shadow]
    plan = engine_cuda.Plan(dev, "rules.adam", [f"p{i}" for i in range(len(n))], on_device, states_device,
                            [0] * len(n), [()], [0] * len(n), [0.0] * len(n), rounding=rounding, low=low_device,
                            shadows=shadow_device, seed=seed)  # fmt: skip
    for t in (1, 2):
        grads = [storage.nearest(wild(k, np.float32, 10 * t + i), g_kind) for i, k in enumerate(n)]
        plan.step([put(g, g_kind) for g in grads], Given([group], 2.0))
        for i, g in enumerate(grads):
            now = storage.join(p[i], low[i]) if rounding == "remainder" else storage.widen(p[i], p_kind)
            wide = [storage.widen(s, s_kind) for s in states[i]]
            one = step.Plan("rules.adam", ["p"], [now], [[*wide, None, ema[i]]], [0], [()], [t - 1], [0.0])
            one.step([storage.widen(g, g_kind)], Given([group], 2.0))
            if rounding == "remainder":
                p[i][...], low[i][...] = storage.split(now)
            elif rounding == "stochastic":
                p[i][...] = storage.stochastic(now, philox.bits16(seed, 0, now.size, t, philox.WEIGHTS, i))
            else:
                p[i][...] = storage.nearest(now, p_kind)
            shadow[i][...] = storage.nearest(now, "bf16")
            for s, x in zip(states[i], wide, strict=True):
                s[...] = storage.nearest(x, s_kind)
        for i in range(len(n)):
            pairs = [(on_device[i], p[i], p_kind), *((d, s, s_kind) for d, s in zip(states_device[i], states[i], strict=False)),
                     (states_device[i][3], ema[i], "f32"), (shadow_device[i], shadow[i], "bf16")]  # fmt: skip
            for what, (made, want, kind) in enumerate(pairs):
                label = f"{kinds} {rounding} step {t}, tensor {i}, array {what}"
                same_bits(storage.widen(get(made, want), kind), storage.widen(want, kind), label)
            if rounding == "remainder":
                assert np.array_equal(get(low_device[i], low[i]), low[i])


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "remainder"])
@pytest.mark.parametrize(("g", "states"), [("bf16", "f32"), ("f32", "bf16")])
def test_bf16_parameters(g, states, rounding, by):
    case(("bf16", g, states), rounding, by=by)


@pytest.mark.parametrize("kinds", [("f16", "f16", "f32"), ("f32", "bf16", "bf16"), ("f32", "f32", "f16")])
def test_other_types(kinds, by):
    case(kinds, by=by)


# ---- alignment


@pytest.mark.parametrize(("ahead", "g_ahead"), [(0, 0), (1, 1), (3, 3), (1, 0), (0, 2)])
def test_memory_that_is_not_aligned(ahead, g_ahead, dtype, by):
    """Vectors start where all arrays are aligned; where they never are, elements go one by one."""
    n = 61
    dev = device(by)
    rule = RULES["sgd"]
    group = Group(rule, {**rule.Values(momentum=0.5)._asdict(), "penalty": None})
    size = np.dtype(dtype).itemsize
    kind = {4: "f32", 8: "f64"}[size]

    def put(values, ahead):
        made = engine_cuda.arrays_cuda.Array(dev, (n,), (1,), kind, ahead * size)
        made.set(values)
        return made

    p, g, s = (tame(n, dtype, k) for k in range(3))
    arrays = put(p, ahead), put(g, g_ahead), put(s, ahead)
    plan = engine_cuda.Plan(dev, "rules.sgd", ["p"], [arrays[0]], [[arrays[2], None]], [0], [()], [1], [1.0])
    plan.step([arrays[1]], Given([group], 1.0), max_norm=0.5)
    step.Plan("rules.sgd", ["p"], [p], [[s, None]], [0], [()], [1], [1.0]).step([g], Given([group], 1.0), max_norm=0.5)
    same_bits(arrays[0].get(), p)
    same_bits(arrays[2].get(), s)


@compiled
def test_a_vector_that_is_not_aligned_is_refused():
    from pyopt.kernels.memory_cuda import Host

    load = Host().load("f32", 4)
    a = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="not aligned"):
        load(np.uint64((a.ctypes.data + 15) // 16 * 16 + 4))


# ---- what is launched and uploaded


def optimizer(dev, count=2, groups=1, n=20, **hypers):
    """Return a plan of SGD over some parameters, its gradients and its groups."""
    rule = RULES["sgd"]
    made = [Group(rule, {**rule.Values(**hypers)._asdict(), "penalty": None}) for _ in range(groups)]
    arrays = [[Foreign(tame(n, np.float32, 10 * k + i)) for i in range(count)] for k in range(2)]
    plan = engine_cuda.Plan(dev, "rules.sgd", [f"p{i}" for i in range(count)], arrays[0], [[None, None]] * count,
                            [i % groups for i in range(count)], [made[0].structure[1]] * groups, [0] * count,
                            [0.0] * count)  # fmt: skip
    return plan, arrays[1], made


def names(dev):
    found = [kernel.name.partition("_")[0] for kernel, _ in dev.launches]
    dev.launches.clear()
    return found


def test_launches():
    dev = Emulated()
    plan, grads, groups = optimizer(dev)
    plan.step(grads, Given(groups, 1.0))
    assert names(dev) == ["prepare", "update"]
    plan.step(grads, Given(groups, 1.0), max_norm=1.0)
    assert names(dev) == ["leaves", "prepare", "update"]


def test_uploads_happen_when_something_changed_and_only_then():
    dev = Emulated()
    plan, grads, groups = optimizer(dev)
    plan.step(grads, Given(groups, 1.0))
    dev.uploads.clear()
    plan.step(grads, Given(groups, 1.0))
    assert dev.uploads == []
    values = {**groups[0].h._asdict(), "lr": 0.5, "penalty": None}
    groups[0].refresh(values)
    plan.step(grads, Given(groups, 1.0))
    assert len(dev.uploads) == 2  # the numbers, and the table that says where they are
    dev.uploads.clear()
    plan.step([grads[1], None], Given(groups, 1.0))
    assert len(dev.uploads) == 1
    dev.uploads.clear()
    plan.step([grads[1], None], Given(groups, 2.0))
    assert len(dev.uploads) == 2


def test_no_kernel_is_new_when_a_hyper_parameter_changes():
    dev = Emulated()
    plan, grads, groups = optimizer(dev, momentum=0.0)
    plan.step(grads, Given(groups, 1.0))
    before = {kernel for kernel, _ in dev.launches}
    groups[0].refresh({**groups[0].h._asdict(), "lr": 0.25, "maximize": True, "penalty": None})
    plan.step(grads, Given(groups, 7.0))
    assert {kernel for kernel, _ in dev.launches} == before


def test_refresh_writes_the_learning_rate_for_a_graph_to_replay():
    """What a graph holds is the launches: they are repeated here as they were."""
    dev = Emulated()
    plan, grads, groups = optimizer(dev, count=1, lr=0.5)
    held = []
    launch, dev.launch = dev.launch, lambda *a: held.append(a)
    plan.step(grads, Given(groups, 1.0))
    p, g = plan.params[0].array.copy(), grads[0].array
    for lr in (0.5, 0.125):
        groups[0].refresh({**groups[0].h._asdict(), "lr": lr, "penalty": None})
        plan.refresh(Given(groups, 1.0))
        for call in held:
            launch(*call)
        p -= np.float32(lr) * g
        same_bits(plan.params[0].array, p)
    assert plan.progress()[0] == [2]


def test_a_schedule_is_asked_for_the_steps_that_were_taken():
    dev, asked = Emulated(), []
    plan, grads, groups = optimizer(dev, lr=lambda t: asked.append(t) or 0.1)
    bad = [Foreign(np.full(20, np.inf, np.float32)), grads[1]]
    for given in (grads, bad, [grads[0], None]):
        plan.step(given, Given(groups, 1.0), skip=True)
    assert plan.progress()[0] == [2, 1]
    plan.step(grads, Given(groups, 1.0))
    assert asked[-2:] == [2, 1]


def test_groups_have_blocks_of_their_own():
    dev = Emulated()
    plan, grads, groups = optimizer(dev, groups=2)
    groups[1].refresh({**groups[1].h._asdict(), "lr": 0.0, "penalty": None})
    before = [p.array.copy() for p in plan.params]
    plan.step(grads, Given(groups, 1.0))
    assert not np.array_equal(before[0], plan.params[0].array)
    same_bits(before[1], plan.params[1].array)


# ---- errors, before anything is touched


@pytest.mark.parametrize(("change", "error", "word"), [
    (lambda g: Foreign(g.array.astype(np.int32)), TypeError, "int32"),
    (lambda g: Foreign(g.array[:-1]), ValueError, "shape"),
    (lambda g: Foreign(np.zeros(40, np.float32)[::2]), ValueError, "strides"),
    (lambda g: g.array, TypeError, "GPU"),
    (lambda g: Foreign(g.array.astype(np.float64)), TypeError, "f64"),
])  # fmt: skip
def test_a_gradient_that_does_not_go_with_its_parameter(change, error, word):
    dev = Emulated()
    plan, grads, groups = optimizer(dev)
    plan.step(grads, Given(groups, 1.0))
    before = [p.array.copy() for p in plan.params]
    with pytest.raises(error, match=word):
        plan.step([grads[0], change(grads[1])], Given(groups, 1.0))
    for p, b in zip(plan.params, before, strict=True):
        same_bits(p.array, b)
    assert plan.progress()[0] == [1, 1]


def test_shared_memory_is_refused():
    dev = Emulated()
    plan, grads, groups = optimizer(dev)
    with pytest.raises(ValueError, match="share memory"):
        plan.step([plan.params[1], grads[0]], Given(groups, 1.0))
    with pytest.raises(ValueError, match="share memory"):
        plan.step([grads[0], grads[0]], Given(groups, 1.0), zero=True)
    plan.step([grads[0], grads[0]], Given(groups, 1.0))
    with pytest.raises(ValueError, match="share memory"):
        plan.step([grads[0], grads[0]], Given(groups, 1.0), zero=True)
    a = tame(20, np.float32)
    with pytest.raises(ValueError, match="share memory"):
        engine_cuda.Plan(dev, "rules.sgd", ["a", "b"], [Foreign(a), Foreign(a)], [[None, None]] * 2, [0, 0], [()],
                         [0, 0], [0.0, 0.0])  # fmt: skip


def test_the_wrong_number_of_gradients():
    plan, grads, groups = optimizer(Emulated())
    with pytest.raises(ValueError, match="1 gradients for 2 parameters"):
        plan.step(grads[:1], Given(groups, 1.0))


def test_gradients_are_not_kept_alive():
    import weakref

    plan, grads, groups = optimizer(Emulated())
    plan.step(grads, Given(groups, 1.0))
    seen = [weakref.ref(g) for g in grads]
    del grads
    assert [ref() for ref in seen] == [None, None]


def test_pyopt_does_not_need_it():
    """``import pyopt`` imports no kernel module of the GPU."""
    import subprocess
    import sys

    code = "import sys, pyopt; assert not [m for m in sys.modules if 'engine_cuda' in m or m in ('numba', 'cuda')]"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert pyopt
