"""Optimizers over arrays that NumPy does not hold: on a GPU, which is emulated here, and tensors of PyTorch."""

import numpy as np
import pytest

import pyopt
from pyopt.arrays import gpu as on_gpus
from pyopt.kernels import view
from pyopt.kernels.cuda import arrays as gpu_arrays
from pyopt.kernels.cuda import tensor_list
from pyopt.kernels.rules import RULES
from pyopt.kernels.step import Beside
from support.device import Emulated, Foreign, device
from support.helpers import everything, gradients, make, same_bits, tame


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def gpu(request, monkeypatch):
    """A device that all arrays with a CUDA interface are on."""
    found = device(request.param)
    monkeypatch.setattr(on_gpus, "gpu_of", lambda a: found)
    return found


def put(gpu, a):
    """Return an array on the device."""
    made = gpu_arrays.Array(gpu, a.shape, tuple(s // a.itemsize for s in a.strides), view.KINDS[str(a.dtype)])
    made.set(a)
    return made


def test_the_same_bits_as_on_the_cpu(gpu, rule, dtype):
    params = [tame(n, dtype, n) for n in (3, 40)]
    grads = gradients(params, 3, make=tame)
    options = {**everything(rule), "ema_decay": 0.9, "max_grad_norm": 0.5}
    on_gpu = [put(gpu, p) for p in params]
    there, here = make(rule, on_gpu, **options), make(rule, params, **options)
    for row in grads:
        there.step([put(gpu, g) for g in row])
        here.step(row)
        assert there.grad_norm == here.grad_norm
    for a, p in zip(on_gpu, params, strict=True):
        same_bits(a.get(), p)
    for a, ema in zip(there.ema_params(), here.ema_params(), strict=True):
        same_bits(a.get(), ema)
    with there.swapped_ema(), here.swapped_ema():
        for a, p in zip(on_gpu, params, strict=True):
            same_bits(a.get(), p)
    for a, p in zip(on_gpu, params, strict=True):
        same_bits(a.get(), p)


def test_checkpoints_go_from_one_to_the_other(gpu):
    p = tame(30, np.float32)
    grads = [tame(30, np.float32, k) for k in range(4)]
    there, q = put(gpu, p), p.copy()
    a, b = pyopt.Adam([there], lr=0.1), pyopt.Adam([q], lr=0.1)
    a.step([put(gpu, grads[0])])
    saved = a.state_dict()
    assert all(isinstance(x, (np.ndarray, int, float)) for x in saved["state"][0].values())
    q[...] = there.get()
    b.load_state_dict(saved)
    a.step([put(gpu, grads[1])])
    b.step([grads[1]])
    same_bits(there.get(), q)
    a.load_state_dict(b.state_dict())
    a.step([put(gpu, grads[2])])
    b.step([grads[2]])
    same_bits(there.get(), q)


def test_to_another_device_and_back(gpu):
    p, want = tame(30, np.float32), tame(30, np.float32)
    grads = [tame(30, np.float32, k) for k in range(3)]
    opt, other = pyopt.AdamW([p], lr=0.1), pyopt.AdamW([want], lr=0.1)
    opt.step([grads[0]])
    there = put(gpu, p)
    opt.to([there])
    opt.step([put(gpu, grads[1])])
    back = there.get()
    opt.to([back])
    opt.step([grads[2]])
    for g in grads:
        other.step([g])
    same_bits(back, want)
    assert opt.state[0]["step"] == 3
    with pytest.raises(ValueError, match="shapes"):
        opt.to([np.zeros(3, np.float32)])


def test_parameters_on_both(gpu):
    p, q = tame(20, np.float32), tame(50, np.float32)
    there, want = put(gpu, p), (p.copy(), q.copy())
    grads = tame(20, np.float32, 1), tame(50, np.float32, 2)
    opt, other = (pyopt.AdamW(x, lr=0.1, max_tensor_norm=1.0) for x in ([there, q], want))
    for _ in range(2):
        opt.step([put(gpu, grads[0]), grads[1]])
        other.step(grads)
    same_bits(there.get(), want[0])
    same_bits(q, want[1])
    before = q.copy()
    with pytest.raises(TypeError, match="GPU"):
        opt.step([grads[0], grads[1]])
    with pytest.raises(ValueError, match="shape"):
        opt.step([put(gpu, grads[0]), grads[1][:3]])
    same_bits(q, before)
    same_bits(there.get(), want[0])
    opt.max_grad_norm = 1.0
    with pytest.raises(ValueError, match="one device"):
        opt.step([put(gpu, grads[0]), grads[1]])


def test_write_hypers_reaches_the_device(gpu):
    there = put(gpu, tame(5, np.float32))
    opt = pyopt.SGD([there], lr=0.5)
    opt.write_hypers()  # before the first step there is nothing to write to
    g = put(gpu, tame(5, np.float32, 1))
    opt.step([g])
    opt.param_groups[0]["lr"] = 0.25
    opt.write_hypers()
    opt.param_groups[0]["momentum"] = 0.5
    with pytest.raises(ValueError, match="new graph"):
        opt.write_hypers()


def test_dtypes_that_no_step_takes_are_refused(gpu):
    with pytest.raises(TypeError, match="int32"):
        pyopt.SGD([Foreign(np.zeros(3, np.int32))])
    with pytest.raises(TypeError, match="u16"):
        pyopt.SGD([Foreign(np.zeros(3, np.uint16))])
    with pytest.raises(ValueError, match="strides"):
        pyopt.SGD([Foreign(np.zeros(6, np.float32)[::2])])


def test_the_functional_form(gpu):
    rows = [tame(9, np.float32, k) for k in range(4)]
    there = [put(gpu, x) for x in rows]
    steps = np.zeros(1)
    want = [x.copy() for x in rows]
    options = {"lr": 0.1, "beta1": 0.8, "beta2": 0.9}
    pyopt.functional.adamw([there[0]], [there[1]], [there[2]], [there[3]], [None], steps, **options)
    pyopt.functional.adamw([want[0]], [want[1]], [want[2]], [want[3]], [None], np.zeros(1), **options)
    assert steps.tolist() == [1]
    for a, b in zip(there, want, strict=True):
        same_bits(a.get(), b)


# ---- PyTorch, on the CPU


def tensor(torch, shape, seed, dtype=None):
    return torch.from_numpy(tame(shape, np.float32, seed)).to(dtype or torch.float32)


def test_tensors_share_their_memory(torch):
    p = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    want = p.detach().numpy().copy()
    opt = pyopt.AdamW([p], lr=0.1)
    other = pyopt.AdamW([want], lr=0.1)
    for k in range(2):
        g = torch.full((7,), 0.5 + k)
        opt.step([g], zero_grads=True)
        other.step([np.full(7, 0.5 + k, np.float32)])
        assert g.tolist() == [0] * 7
    same_bits(p.detach().numpy(), want)


def test_tensors_may_be_given_other_memory(torch):
    """Their addresses are compared at each step: torch moves them where it likes, and the steps go along."""
    a, b = torch.nn.Parameter(tensor(torch, 40, 0)), torch.nn.Parameter(tensor(torch, (3, 5), 1, torch.bfloat16))
    want = [on_gpus.as_numpy(x).copy() for x in (a, b)]
    options = {"lr": 0.1, "betas": (0.7, 0.8), "ema_decay": 0.75, "shadow_dtype": "float16"}
    opt, other = pyopt.AdamW([{"params": [a]}, {"params": [b]}], **options), pyopt.AdamW(want, **options)

    def both(call):
        grads = [tensor(torch, p.shape, 7, p.dtype) for p in (a, b)]
        call(opt, grads)
        call(other, [on_gpus.as_numpy(g) for g in grads])
        for x, y in zip((a, b), want, strict=True):
            same_bits(on_gpus.as_numpy(x), y)
        for x, y in zip(opt.state, other.state, strict=True):
            same_bits(x["exp_avg_sq"], y["exp_avg_sq"])

    both(lambda o, grads: o.step(grads))
    torch.nn.ParameterList([a, b]).share_memory()
    both(lambda o, grads: o.step(grads))
    a.data, b.data = a.data.clone(), b.data.clone()
    both(lambda o, grads: o.step_rows([2, 0, 2], grads[1], 1))
    a.data, b.data = a.data.clone(), b.data.clone()
    both(lambda o, grads: o.catch_up_rows())
    a.data, b.data = a.data.clone(), b.data.clone()
    both(lambda o, grads: o.load_state_dict(o.state_dict()))
    a.data = a.data.clone()
    with opt.swapped_ema(), other.swapped_ema():
        same_bits(on_gpus.as_numpy(a), want[0])
    both(lambda o, grads: o.step(grads))
    assert opt.param_groups[0]["params"][0] is a


@pytest.mark.parametrize("change", ["double", "shape", "strides", "schedule"])
def test_tensors_that_have_become_others_are_refused(change, torch):
    w = torch.nn.Parameter(tensor(torch, (4, 3), 0))
    g, before = tensor(torch, (4, 3), 1), w.detach().clone()
    changes = {"double": w.double, "shape": lambda: w[:2], "strides": lambda: w.T.contiguous().T, "schedule": w.clone}

    def rate(t):
        w.data = changes["schedule"]().detach()
        return 0.5

    opt = pyopt.SGD([("w", w)], lr=rate if change == "schedule" else 0.5, momentum=0.5)
    words = "a schedule moved" if change == "schedule" else "w is torch"
    if change != "schedule":
        w.data = changes[change]().detach()
    for call in (lambda: opt.step([g]), lambda: opt.step_rows([1], g[:1])):
        with pytest.raises(ValueError, match=words):
            call()
    assert torch.equal(before[: len(w)].to(w.dtype), w.detach())
    assert opt.state[0]["step"] == 0


def test_autograd_notices_that_tensors_were_written_to(torch):
    options = {"lr": 0.5, "ema_decay": 0.5, "weight_decay": 0.25}
    for call in (
        lambda opt, g: opt.step([g]),
        lambda opt, g: opt.step_rows([1], g[1:2]),
        lambda opt, g: opt.catch_up_rows(),
        lambda opt, g: opt.swapped_ema().__enter__(),
    ):
        w, frozen, g = torch.nn.Parameter(torch.ones(3, 1)), torch.nn.Parameter(torch.ones(1)), torch.ones(3, 1)
        opt = pyopt.SGD([w], **options)
        opt.step_rows([0], g[:1])
        y = (w * w).sum()
        call(opt, g)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()
    g.requires_grad_()
    kept = (g * g).sum()
    both = pyopt.SGD([w.data, frozen], lr=0.5)
    other = (frozen * frozen).sum()
    both.step([g, None], zero_grads=True)
    other.backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()


def test_tensors_are_known_by_the_class_they_derive_from(torch):
    kind = type("Quantised", (torch.nn.Parameter,), {"__module__": "elsewhere"})
    assert gpu_arrays.library(kind(torch.ones(2))) == gpu_arrays.library(torch.ones(2)) == "torch"
    for given in (torch.ones(2, 3), torch.nn.Parameter(torch.ones(2, 3))):
        with pytest.raises(TypeError, match=r"a list of arrays is needed, such as \[w, b\]"):
            pyopt.SGD(given)
        with pytest.raises(TypeError, match=r"a list of arrays is needed"):
            pyopt.SGD([torch.ones(3), torch.ones(3)]).step(given)


def test_gradients_of_torch_are_told_by_their_memory(monkeypatch, torch):
    """A backward pass makes new tensors in the memory of the old ones: what a step knows of them still holds."""
    known = gpu_arrays.view

    def on_gpu(a, name):
        if not gpu_arrays.is_tensor(a):
            return known(a, name)
        return view.View(a.data_ptr(), tuple(a.shape), tuple(a.stride()), "f32", False)  # as if on a GPU

    monkeypatch.setattr(gpu_arrays, "view", on_gpu)
    params = [torch.zeros(6, 2), torch.zeros(3)]
    found = tensor_list.TensorList(device("emulated"), 1, ["a", "b"], params, [Beside((None,))] * 2)
    grads = [torch.ones(6, 2), torch.ones(3)]

    def looked(*given):
        looks = found.check(given, False)
        if looks is not None:
            assert found.check(given, False) is not None  # to look is not yet to step
            assert found.take(given, False) is not None
        return looks

    looks = looked(*grads)
    assert [v.address for v in looks.views] == looks.addresses.tolist() == [g.data_ptr() for g in grads]
    assert looked(*(g.detach() for g in grads)) is None
    other = torch.ones(3)
    looks = looked(grads[0], other)
    assert looks.views is None
    assert looks.addresses.tolist() == [grads[0].data_ptr(), other.data_ptr()]
    assert looked(None, grads[1]).views[0] is None
    assert looked(None, grads[1]) is None
    assert looked(None, other).addresses.tolist() == [0, other.data_ptr()]
    assert looked(grads[0], None).views[1] is None
    for wrong in (grads[0].view(2, 6), grads[0].view(2, 6).T):
        with pytest.raises(ValueError, match=r"shape|strides"):
            found.check((wrong, None), False)
    with pytest.raises(TypeError, match="list"):
        found.check((grads[0], [1.0]), False)
    params[1].data = torch.zeros(3)
    with pytest.raises(ValueError, match="moved"):
        found.check(tuple(grads), False)


def test_without_a_driver_the_reason_is_told(capsys):
    config = pyopt.show_config()
    if "cuda" not in config:
        assert "Error" in config["not available: cuda"]
    assert Emulated
    assert RULES
