"""What the plan of the GPU engine launches, uploads and refuses, over a device that keeps a list of it."""

import functools

import numpy as np
import pytest

import pyopt
from pyopt.kernels import step
from pyopt.kernels.cuda import arrays as gpu_arrays
from pyopt.kernels.cuda import driver
from pyopt.kernels.cuda import sparse_rows as gpu_engine
from pyopt.kernels.rules import RULES
from pyopt.optim.group import OPTIONS, Given, Group
from support.device import Emulated, Foreign
from support.helpers import same_bits, tame

SGD = Group(RULES["sgd"], {**OPTIONS, **RULES["sgd"].Values()._asdict()})
NOTHING = [None] * 4  # neither EMA nor shadow, remainder, row_decay


# ---- what is launched and uploaded


def optimizer(dev, count=2, groups=1, n=20, **hypers):
    """Return a plan of SGD over some parameters, its gradients and its groups."""
    rule = RULES["sgd"]
    made = [Group(rule, {**OPTIONS, **rule.Values(**hypers)._asdict()}) for _ in range(groups)]
    arrays = [[Foreign(tame(n, np.float32, 10 * k + i)) for i in range(count)] for k in range(2)]
    plan = gpu_engine.Plan(dev, "rules.sgd", [f"p{i}" for i in range(count)], arrays[0], [[None, *NOTHING]] * count,
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
    ring, to = driver.Ring(dev, 8), dev.allocate(8)
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
        return gpu_arrays.View(a.data_ptr(), tuple(a.shape), tuple(a.stride()), "f32", False)  # as if on a GPU

    monkeypatch.setattr(gpu_arrays, "view", view)
    dev, sizes = Emulated(), (37, 5, 20)
    params = [torch.from_numpy(tame(n, np.float32, n)) for n in sizes]
    want = [p.numpy().copy() for p in params]
    plan, reference = (
        made("rules.sgd", ["a", "b", "c"], given, [[None, *NOTHING]] * 3, [0] * 3, [SGD.stages], [0] * 3, [0.0] * 3)
        for made, given in ((functools.partial(gpu_engine.Plan, dev), params), (step.Plan, want))
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
        gpu_engine.Plan(dev, "rules.sgd", ["a", "b"], [Foreign(a), Foreign(a)], [[None, *NOTHING]] * 2, [0, 0],
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

    code = "import sys, pyopt; assert not {'pyopt.kernels.cuda.plan', 'numba', 'cuda'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert pyopt
