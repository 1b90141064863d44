"""The plan of the GPU engine, its kernels run as plain Python or compiled by Numba, against the reference.

``emulated`` tests need nothing but NumPy; they are slow, so sizes are small. ``compiled`` ones need Numba.
"""

import functools

import numpy as np
import pytest

import pyopt
from device import Emulated, Foreign, device
from helpers import (
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
from pyopt import L1, L2, MCP, SCAD, Box, ElasticNet, HuberL1, LogSum, MaxNorm, NonNegative
from pyopt._group import OPTIONS, Given, Group
from pyopt.kernels import arrays_cuda, codecs, device_cuda, engine_cuda, step
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.rules import RULES

SIZES = (0, 1, 3, 4, 5, 37, 129)
SGD = Group(RULES["sgd"], {**OPTIONS, **RULES["sgd"].Values()._asdict()})
NOTHING = [None] * 4  # neither EMA nor shadow, remainder, row_decay

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
               "state_dtype": {"exp_avg": "bfloat16", "exp_avg_sq": "float32", "ema": "float16"},
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


def test_proximal_forms_take_the_step_of_the_rule(rule, by):
    """That of each element, where the rule has one."""
    params = [wild(n, np.float32, n) for n in (37, 5)]
    grads = gradients(params, 2)
    for hypers in variants(rule) if by == "emulated" else [everything(rule)]:
        options = {**hypers, "prox": (L1(0.1), NonNegative())}
        same(run(rule, params, grads, by=by, **options), run(rule, params, grads, **options), f"{hypers}")


def test_tensors_of_all_types_in_one_optimizer(by):
    params = [codecs.encode(tame(40, np.float32, i), codecs.dtype(kind)) for i, kind in enumerate(codecs.NAMES)]
    grads = [[codecs.encode(tame(40, np.float32, 9 + i), p.dtype) for i, p in enumerate(params)] for _ in range(2)]
    options = {"max_grad_norm": 0.5, "rounding": "stochastic", "seed": 3, "penalty": L1(0.1), "prox": L1(0.01)}
    same(run(RULES["lion"], params, grads, by=by, **options), run(RULES["lion"], params, grads, **options))


# ---- alignment


@pytest.mark.parametrize(("ahead", "g_ahead"), [(0, 0), (1, 1), (3, 3), (1, 0), (0, 2)])
@pytest.mark.parametrize("more", [{}, {"prox": MaxNorm(0.5)}], ids=["whole", "rows"])
def test_memory_that_is_not_aligned(ahead, g_ahead, more, dtype, by):
    """Vectors start where all arrays are aligned; where they never are, and in rows, elements go one by one."""
    shape = (4, 8) if more else (61,)
    dev = device(by)
    rule = RULES["sgd"]
    group = Group(rule, {**OPTIONS, **rule.Values(momentum=0.5)._asdict(), **more})
    size = np.dtype(dtype).itemsize
    kind = {4: "f32", 8: "f64"}[size]

    def put(values, ahead):
        made = arrays_cuda.Array(dev, shape, (*shape[1:], 1), kind, ahead * size)
        made.set(values)
        return made

    p, g, s = (tame(shape, dtype, k) for k in range(3))
    arrays = put(p, ahead), put(g, g_ahead), put(s, ahead)
    plan = engine_cuda.Plan(
        dev, "rules.sgd", ["p"], [arrays[0]], [[arrays[2], *NOTHING]], [0], [group.stages], [1], [1.0]
    )
    plan.step([arrays[1]], Given([group], 1.0), max_norm=0.5)
    want = step.Plan("rules.sgd", ["p"], [p], [[s, *NOTHING]], [0], [group.stages], [1], [1.0])
    want.step([g], Given([group], 1.0), max_norm=0.5)
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
    made = [Group(rule, {**OPTIONS, **rule.Values(**hypers)._asdict()}) for _ in range(groups)]
    arrays = [[Foreign(tame(n, np.float32, 10 * k + i)) for i in range(count)] for k in range(2)]
    plan = engine_cuda.Plan(dev, "rules.sgd", [f"p{i}" for i in range(count)], arrays[0], [[None, *NOTHING]] * count,
                            [i % groups for i in range(count)], [made[0].stages] * groups, [0] * count,
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
    values = {**OPTIONS, **groups[0].h._asdict(), "lr": 0.5}
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
    groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": 0.25, "maximize": True})
    plan.step(grads, Given(groups, 7.0))
    assert {kernel for kernel, _ in dev.launches} == before


def capture(dev, step):
    """Return the launches of a step that a graph holds."""
    dev.graph = held = []
    step()
    dev.graph = None
    return held


def test_refresh_writes_the_learning_rate_for_a_graph_to_replay():
    """What a graph holds is the launches: they are repeated here as they were."""
    dev = Emulated()
    plan, grads, groups = optimizer(dev, count=1, lr=0.5)
    held = capture(dev, lambda: plan.step(grads, Given(groups, 1.0)))
    p, g = plan.params[0].array.copy(), grads[0].array
    for lr in (0.5, 0.125):
        groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": lr})
        plan.refresh(Given(groups, 1.0))
        dev.replay(held)
        p -= np.float32(lr) * g
        same_bits(plan.params[0].array, p)
    assert plan.progress()[0] == [2]


def test_a_graph_and_the_steps_between_its_replays_leave_each_other_alone():
    """Each has gradients and a scale of its own, also after ``refresh``, and a step before it may be under way yet."""
    dev = Emulated()
    plan, grads, groups = optimizer(dev, count=1, lr=0.5)
    other = Foreign(tame(20, np.float32, 99))
    p = plan.params[0].array.copy()
    plan.step([other], Given(groups, 2.0))
    dev.uploads.clear()
    held = capture(dev, lambda: plan.step(grads, Given(groups, 4.0), max_norm=0.25))
    assert dev.uploads == []
    for lr in (0.5, 0.125):
        groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": lr})
        plan.refresh(Given(groups, 1.0))
        dev.replay(held)
        plan.step([other], Given(groups, 2.0))
        dev.replay(held)
    want = step.Plan("rules.sgd", ["p"], [p], [[None, *NOTHING]], [0], [groups[0].stages], [0], [0.0])
    groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": 0.5})
    want.step([other.array], Given(groups, 2.0))
    for lr in (0.5, 0.125):
        groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": lr})
        want.step([grads[0].array], Given(groups, 4.0), max_norm=0.25)
        want.step([other.array], Given(groups, 2.0))
        want.step([grads[0].array], Given(groups, 4.0), max_norm=0.25)
    same_bits(plan.params[0].array, p)


def test_the_host_waits_for_no_upload():
    """While the device has read none, each upload has memory of its own; after that, it is used again."""
    dev = Emulated()
    ring, to = device_cuda.Ring(dev, 8), dev.allocate(8)
    dev.behind = True
    for k in range(200):
        ring.upload(dev.stream("other"), [(to.address, np.full(8, k, np.uint8))])
    assert [int(room[0]) for room, _ in ring.slots] == list(range(200))
    dev.behind = False
    for _ in range(300):
        ring.upload(dev.stream("other"), [(to.address, np.full(8, 77, np.uint8))])
    assert len(ring.slots) == 200


def test_gradients_that_are_new_tensors_each_step(monkeypatch):
    """As a backward pass makes them: other memory, also aligned in another way; they need no closer look."""
    torch = pytest.importorskip("torch")
    looked, known = [], arrays_cuda.view

    def view(a, name):
        if not arrays_cuda.is_tensor(a):
            return known(a, name)
        looked.append(name)
        return arrays_cuda.View(a.data_ptr(), tuple(a.shape), tuple(a.stride()), "f32", False)  # as if on a GPU

    monkeypatch.setattr(arrays_cuda, "view", view)
    dev, sizes = Emulated(), (37, 5, 20)
    params = [torch.from_numpy(tame(n, np.float32, n)) for n in sizes]
    want = [p.numpy().copy() for p in params]
    plan, reference = (
        made("rules.sgd", ["a", "b", "c"], given, [[None, *NOTHING]] * 3, [0] * 3, [SGD.stages], [0] * 3, [0.0] * 3)
        for made, given in ((functools.partial(engine_cuda.Plan, dev), params), (step.Plan, want))
    )
    for t in range(6):
        rooms = [torch.zeros(64) for _ in sizes]
        ahead = [(-room.data_ptr() // 4 + t * k) % 4 for k, room in enumerate(rooms)]
        grads = [room[a : a + n] for room, a, n in zip(rooms, ahead, sizes, strict=True)]
        for k, g in enumerate(grads):
            g.copy_(torch.from_numpy(tame(len(g), np.float32, 10 * t + k)))
        given = [None if t in (2, 3) and k == 1 else g for k, g in enumerate(grads)]
        looked.clear()
        plan.step(given, Given([SGD], 1.0), max_norm=0.5)
        assert bool(looked) == (t in (0, 2, 4)), t
        reference.step([g if g is None else g.numpy() for g in given], Given([SGD], 1.0), max_norm=0.5)
        for p, b in zip(params, want, strict=True):
            same_bits(p.numpy(), b)
    with pytest.raises(ValueError, match="share memory"):
        plan.step([*grads[:2], params[2][:20]], Given([SGD], 1.0))
    odd = torch.zeros(21 * 4 + 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="aligned"):
        plan.step([*grads[:2], torch.frombuffer(odd.numpy(), dtype=torch.float32, count=20, offset=2)],
                  Given([SGD], 1.0))  # fmt: skip
    monkeypatch.setattr(torch.Tensor, "get_device", lambda self: 1)
    with pytest.raises(TypeError, match="cuda:-1"):
        plan.step([torch.zeros(n) for n in sizes], Given([SGD], 1.0))


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
    groups[1].refresh({**OPTIONS, **groups[1].h._asdict(), "lr": 0.0})
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
        engine_cuda.Plan(dev, "rules.sgd", ["a", "b"], [Foreign(a), Foreign(a)], [[None, *NOTHING]] * 2, [0, 0],
                         [groups[0].stages], [0, 0], [0.0, 0.0])  # fmt: skip


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
