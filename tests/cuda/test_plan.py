"""What the plan of the GPU engine launches, uploads and refuses, over a device that keeps a list of it."""

import functools

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cuda import arrays as gpu_arrays
from pyopt.kernels.cuda import driver
from pyopt.kernels.cuda import plan as gpu_engine
from pyopt.kernels.reference import plan as reference_plan
from pyopt.kernels.rules import RULES
from pyopt.kernels.view import View
from pyopt.optim.group import OPTIONS, ParamGroup
from support.device import Emulated, Foreign, asked, plan_of
from support.helpers import same_bits, tame

SGD = ParamGroup(RULES["sgd"], {**OPTIONS, **RULES["sgd"].Values()._asdict()})


def on(dev):
    """Return what makes a plan on a device."""
    return functools.partial(gpu_engine.Plan, dev)


# ---- what is launched and uploaded


def optimizer(dev, count=2, groups=1, n=20, rule=RULES["sgd"], **hypers):
    """Return a plan of a rule over some parameters, its gradients and its groups."""
    made = [ParamGroup(rule, {**OPTIONS, **rule.Values(**hypers)._asdict()}) for _ in range(groups)]
    arrays = [[Foreign(tame(n, np.float32, 10 * k + i)) for i in range(count)] for k in range(2)]
    states = [[Foreign(np.zeros(n, np.float32)) for state in rule.states if not state.when] for _ in range(count)]
    states = None if any(state.when for state in rule.states) else states
    plan = plan_of(on(dev), arrays[0], made, states, members=[i % groups for i in range(count)])
    return plan, arrays[1], made


def names(dev):
    found = [kernel.name.partition("_")[0] for kernel, _ in dev.launches]
    dev.launches.clear()
    return found


def test_launches():
    dev = Emulated()
    plan, grads, groups = optimizer(dev)
    plan.step(grads, asked(groups))
    assert names(dev) == ["prepare", "update"]
    plan.step(grads, asked(groups, max_norm=1.0))
    assert names(dev) == ["leaves", "prepare", "update"]


def test_launches_of_a_rule_that_needs_norms():
    """Also of a graph, for which the learning rate is written: the scalars of the norms are made of it."""
    dev = Emulated()
    plan, grads, groups = optimizer(dev, rule=RULES["lamb"])
    held = capture(dev, lambda: plan.step(grads, asked(groups, max_norm=1.0)))
    assert names(dev) == ["leaves", "prepare", "norms", "scale", "update"]
    params = [p.array.copy() for p in plan.list.params]
    groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": 0.25})
    plan.refresh([own.group for own in groups])
    dev.replay(held)
    want = plan_of(reference_plan.Plan, params, groups, [[np.zeros(20, np.float32) for _ in range(2)] for _ in params])
    want.step([g.array for g in grads], asked(groups, max_norm=1.0))
    for p, q in zip(plan.list.params, params, strict=True):
        same_bits(p.array, q)


def test_uploads_happen_when_something_changed_and_only_then():
    dev = Emulated()
    plan, grads, groups = optimizer(dev)
    plan.step(grads, asked(groups))
    dev.uploads.clear()
    plan.step(grads, asked(groups))
    assert dev.uploads == []
    values = {**OPTIONS, **groups[0].h._asdict(), "lr": 0.5}
    groups[0].refresh(values)
    plan.step(grads, asked(groups))
    assert len(dev.uploads) == 2  # the numbers, and the table that says where they are
    dev.uploads.clear()
    plan.step([grads[1], None], asked(groups))
    assert len(dev.uploads) == 1
    dev.uploads.clear()
    plan.step([grads[1], None], asked(groups, 2.0))
    assert len(dev.uploads) == 2


def test_no_kernel_is_new_when_a_hyper_parameter_changes():
    dev = Emulated()
    plan, grads, groups = optimizer(dev, momentum=0.0)
    plan.step(grads, asked(groups))
    before = {kernel for kernel, _ in dev.launches}
    groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": 0.25, "maximize": True})
    plan.step(grads, asked(groups, 7.0))
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
    held = capture(dev, lambda: plan.step(grads, asked(groups)))
    p, g = plan.list.params[0].array.copy(), grads[0].array
    for lr in (0.5, 0.125):
        groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": lr})
        plan.refresh([own.group for own in groups])
        dev.replay(held)
        p -= np.float32(lr) * g
        same_bits(plan.list.params[0].array, p)
    assert plan.progress()[0] == [2]


def test_a_graph_and_the_steps_between_its_replays_leave_each_other_alone():
    """Each has gradients and a scale of its own, also after ``refresh``, and a step before it may be under way yet."""
    dev = Emulated()
    plan, grads, groups = optimizer(dev, count=1, lr=0.5)
    other = Foreign(tame(20, np.float32, 99))
    p = plan.list.params[0].array.copy()
    plan.step([other], asked(groups, 2.0))
    dev.uploads.clear()
    held = capture(dev, lambda: plan.step(grads, asked(groups, 4.0, max_norm=0.25)))
    assert dev.uploads == []
    for lr in (0.5, 0.125):
        groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": lr})
        plan.refresh([own.group for own in groups])
        dev.replay(held)
        plan.step([other], asked(groups, 2.0))
        dev.replay(held)
    want = plan_of(reference_plan.Plan, [p], groups)
    groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": 0.5})
    want.step([other.array], asked(groups, 2.0))
    for lr in (0.5, 0.125):
        groups[0].refresh({**OPTIONS, **groups[0].h._asdict(), "lr": lr})
        want.step([grads[0].array], asked(groups, 4.0, max_norm=0.25))
        want.step([other.array], asked(groups, 2.0))
        want.step([grads[0].array], asked(groups, 4.0, max_norm=0.25))
    same_bits(plan.list.params[0].array, p)


def test_the_host_waits_for_no_upload():
    """While the device has read none, each upload has memory of its own; after that, it is used again."""
    dev = Emulated()
    ring, to = driver.StagingRing(dev, 8), dev.allocate(8)
    dev.behind = True
    for k in range(200):
        ring.upload(dev.stream("other"), [(to.address, np.full(8, k, np.uint8))])
    assert [int(room[0]) for room, _ in ring.slots] == list(range(200))
    dev.behind = False
    for _ in range(300):
        ring.upload(dev.stream("other"), [(to.address, np.full(8, 77, np.uint8))])
    assert len(ring.slots) == 200


def test_gradients_that_are_new_tensors_each_step(monkeypatch, torch):
    """As a backward pass makes them: other memory, also aligned in another way; they need no closer look."""
    looked, known = [], gpu_arrays.view

    def view(a, name):
        if not gpu_arrays.is_tensor(a):
            return known(a, name)
        looked.append(name)
        return View(a.data_ptr(), tuple(a.shape), tuple(a.stride()), "f32", False)  # as if on a GPU

    monkeypatch.setattr(gpu_arrays, "view", view)
    dev, sizes = Emulated(), (37, 5, 20)
    params = [torch.from_numpy(tame(n, np.float32, n)) for n in sizes]
    want = [p.numpy().copy() for p in params]
    plan, reference = (plan_of(*given, [SGD]) for given in ((on(dev), params), (reference_plan.Plan, want)))
    for t in range(6):
        rooms = [torch.zeros(64) for _ in sizes]
        ahead = [(-room.data_ptr() // 4 + t * k) % 4 for k, room in enumerate(rooms)]
        grads = [room[a : a + n] for room, a, n in zip(rooms, ahead, sizes, strict=True)]
        for k, g in enumerate(grads):
            g.copy_(torch.from_numpy(tame(len(g), np.float32, 10 * t + k)))
        given = [None if t in (2, 3) and k == 1 else g for k, g in enumerate(grads)]
        looked.clear()
        plan.step(given, asked([SGD], max_norm=0.5))
        assert bool(looked) == (t in (0, 2, 4)), t
        reference.step([g if g is None else g.numpy() for g in given], asked([SGD], max_norm=0.5))
        for p, b in zip(params, want, strict=True):
            same_bits(p.numpy(), b)
    with pytest.raises(ValueError, match="share memory"):
        plan.step([*grads[:2], params[2][:20]], asked([SGD]))
    odd = torch.zeros(21 * 4 + 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="aligned"):
        plan.step([*grads[:2], torch.frombuffer(odd.numpy(), dtype=torch.float32, count=20, offset=2)],
                  asked([SGD]))  # fmt: skip
    monkeypatch.setattr(torch.Tensor, "get_device", lambda self: 1)
    with pytest.raises(TypeError, match="cuda:-1"):
        plan.step([torch.zeros(n) for n in sizes], asked([SGD]))


def test_a_schedule_is_asked_for_the_steps_that_were_taken():
    dev, times = Emulated(), []
    plan, grads, groups = optimizer(dev, lr=lambda t: times.append(t) or 0.1)
    bad = [Foreign(np.full(20, np.inf, np.float32)), grads[1]]
    for given in (grads, bad, [grads[0], None]):
        plan.step(given, asked(groups, skip=True))
    assert plan.progress()[0] == [2, 1]
    plan.step(grads, asked(groups))
    assert times[-2:] == [2, 1]


def test_groups_have_blocks_of_their_own():
    dev = Emulated()
    plan, grads, groups = optimizer(dev, groups=2)
    groups[1].refresh({**OPTIONS, **groups[1].h._asdict(), "lr": 0.0})
    before = [p.array.copy() for p in plan.list.params]
    plan.step(grads, asked(groups))
    assert not np.array_equal(before[0], plan.list.params[0].array)
    same_bits(before[1], plan.list.params[1].array)


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
    plan.step(grads, asked(groups))
    before = [p.array.copy() for p in plan.list.params]
    with pytest.raises(error, match=word):
        plan.step([grads[0], change(grads[1])], asked(groups))
    for p, b in zip(plan.list.params, before, strict=True):
        same_bits(p.array, b)
    assert plan.progress()[0] == [1, 1]


def test_shared_memory_is_refused():
    dev = Emulated()
    plan, grads, groups = optimizer(dev)
    with pytest.raises(ValueError, match="share memory"):
        plan.step([plan.list.params[1], grads[0]], asked(groups))
    with pytest.raises(ValueError, match="share memory"):
        plan.step([grads[0], grads[0]], asked(groups, zero=True))
    plan.step([grads[0], grads[0]], asked(groups))
    with pytest.raises(ValueError, match="share memory"):
        plan.step([grads[0], grads[0]], asked(groups, zero=True))
    a = tame(20, np.float32)
    with pytest.raises(ValueError, match="share memory"):
        plan_of(on(dev), [Foreign(a), Foreign(a)], groups)


def test_the_wrong_number_of_gradients():
    plan, grads, groups = optimizer(Emulated())
    with pytest.raises(ValueError, match="1 gradients for 2 parameters"):
        plan.step(grads[:1], asked(groups))


def test_gradients_by_their_addresses():
    """As views, which are looked at anew where another one comes, and not where the same one does."""
    plans = [optimizer(Emulated(), momentum=0.5) for _ in range(2)]
    (plan, grads, groups), (other, *_) = plans
    views = [gpu_arrays.view(g, "g") for g in grads]
    elsewhere = Foreign(tame(20, np.float32, 7))
    for given, by_view in (
        (grads, views),
        (grads, views),
        ([elsewhere, None], [gpu_arrays.view(elsewhere, "g"), None]),
    ):
        plan.step(given, asked(groups, 2.0))
        other.step(by_view, asked(groups, 2.0))
    for p, q in zip(plan.list.params, other.list.params, strict=True):
        same_bits(p.array, q.array)
    with pytest.raises(ValueError, match=r"gradient of p1 has shape \(19,\)"):
        other.step([None, views[1]._replace(shape=(19,))], asked(groups))


def test_gradients_are_not_kept_alive():
    import weakref

    plan, grads, groups = optimizer(Emulated())
    plan.step(grads, asked(groups))
    seen = [weakref.ref(g) for g in grads]
    del grads
    assert [ref() for ref in seen] == [None, None]


def test_pyopt_does_not_need_it():
    """``import pyopt`` imports no kernel module of the GPU."""
    import subprocess
    import sys

    code = "import sys, pyopt; assert not {'pyopt.kernels.cuda.plan', 'numba', 'cuda'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert pyopt
