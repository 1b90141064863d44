"""What only a GPU can show, with PyTorch's tensors: streams, graphs, and that a step waits for nothing."""

import numpy as np
import pytest

import pyopt
from pyopt.kernels.rules import RULES
from support.helpers import everything, make, same_bits, tame

pytestmark = pytest.mark.gpu


@pytest.fixture
def torch():
    found = pytest.importorskip("torch")
    if not found.cuda.is_available():
        pytest.fail("PyTorch finds no GPU")
    return found


def both(torch, n=100_003, seed=0):
    """Return an array, and a tensor with its numbers on the GPU."""
    a = tame(n, np.float32, seed)
    return a, torch.from_numpy(a.copy()).cuda()


@pytest.mark.parametrize("stem", sorted(RULES))
def test_tensors_have_the_bits_of_the_cpu(torch, stem):
    rule = RULES[stem]
    here, there = both(torch)
    options = {**everything(rule), "max_grad_norm": 0.5, "ema_decay": 0.9}
    a, b = make(rule, [here], **options), make(rule, [there], **options)
    for k in range(3):
        g, h = both(torch, seed=k + 1)
        a.step([g], grad_scale=2.0)
        b.step([h], grad_scale=2.0)
        assert a.grad_norm == b.grad_norm
    same_bits(there.cpu().numpy(), here)
    same_bits(b.ema_params()[0].get(), a.ema_params()[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_tensors_of_16_bits(torch, dtype, rounding):
    options = {"lr": 0.1, "rounding": rounding, "seed": 7}
    mine = torch.randn(10_007, dtype=getattr(torch, dtype))
    theirs, grads = mine.clone().cuda(), [torch.randn(10_007, dtype=mine.dtype) for _ in range(3)]
    a, b = pyopt.AdamW([mine], **options), pyopt.AdamW([theirs], **options)
    for g in grads:
        a.step([g])
        b.step([g.cuda()])
    assert torch.equal(mine.view(torch.int16), theirs.cpu().view(torch.int16))


def test_a_side_stream(torch):
    """A long kernel writes the gradient just before the step, on a stream of its own, a thousand times."""
    here, there = both(torch, 1 << 16)
    a, b = pyopt.SGD([here], lr=0.01), pyopt.SGD([there], lr=0.01)
    stream, g, h = torch.cuda.Stream(), np.empty(1 << 16, np.float32), torch.empty(1 << 16, device="cuda")
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for k in range(1000):
            if k % 100 == 0:
                torch.cuda._sleep(1_000_000)
            h.fill_(k % 7 - 3.0)
            b.step([h])
            h.zero_()  # the step must have read it
    stream.synchronize()
    for k in range(1000):
        g[:] = k % 7 - 3.0
        a.step([g])
    same_bits(there.cpu().numpy(), here)


def test_gradients_of_a_moment(torch):
    """Gradients that die after the call: their memory is used again, in the order of the stream."""
    here, there = both(torch)
    a, b = pyopt.SGD([here], lr=0.1), pyopt.SGD([there], lr=0.1)
    for k in range(200):
        b.step([torch.full((here.size,), k - 100.0, device="cuda")])
        torch.full((here.size,), float("nan"), device="cuda")
        a.step([np.full(here.size, k - 100.0, np.float32)])
    same_bits(there.cpu().numpy(), here)


def test_a_graph_with_another_learning_rate(torch):
    here, there = both(torch)
    a = pyopt.AdamW([here], lr=0.1, max_grad_norm=1.0)
    b = pyopt.AdamW([there], lr=0.1, max_grad_norm=1.0)
    g, h = both(torch, seed=1)
    a.step([g])
    b.step([h])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        b.step([h])
    for lr in (0.1, 0.05, 0.025):
        for opt in (a, b):
            opt.param_groups[0]["lr"] = lr
        b.write_hypers()
        graph.replay()
        a.step([g])
    torch.cuda.synchronize()
    same_bits(there.cpu().numpy(), here)
    assert b.state[0]["step"] == 4


def test_a_graph_of_a_whole_iteration(torch):
    """Its gradients are made anew in memory of the graph; steps between the replays have others."""
    here, there = both(torch)
    x = torch.nn.Parameter(there)
    a = pyopt.AdamW([here], lr=0.1, max_grad_norm=1.0)
    b = pyopt.AdamW([x], lr=0.1, max_grad_norm=1.0)
    (g, h), (g2, h2) = both(torch, seed=1), both(torch, seed=2)

    def iteration():
        x.grad = None
        (x * h).sum().backward()
        b.step([x.grad], grad_scale=2.0)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        iteration()
    torch.cuda.current_stream().wait_stream(side)
    a.step([g], grad_scale=2.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        iteration()
    for lr in (0.1, 0.05):
        for opt in (a, b):
            opt.param_groups[0]["lr"] = lr
        b.write_hypers()
        graph.replay()
        b.step([h2])
        graph.replay()
        for grad, scale in ((g, 2.0), (g2, 1.0), (g, 2.0)):
            a.step([grad], grad_scale=scale)
    torch.cuda.synchronize()
    same_bits(x.detach().cpu().numpy(), here)


def test_a_graph_of_the_first_step(torch):
    """What is made once is made while the graph is captured, also new kernels."""
    here, there = both(torch, 1001)
    g, h = both(torch, 1001, seed=1)
    a, b = pyopt.Lion([here], lr=0.1, max_tensor_norm=1.0), pyopt.Lion([there], lr=0.1, max_tensor_norm=1.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        b.step([h])
    for _ in range(2):
        graph.replay()
        a.step([g])
    torch.cuda.synchronize()
    same_bits(there.cpu().numpy(), here)
    table = torch.ones((5, 7), device="cuda")
    c, values = pyopt.SGD([table], lr=0.1), torch.ones((1, 7), device="cuda")
    with pytest.raises(RuntimeError, match="cannot hold"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        c.step_rows([1], values)


def test_a_gradient_on_another_gpu_is_refused(torch):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    _, there = both(torch, 10)
    opt = pyopt.SGD([there], lr=0.1)
    for _ in range(2):
        with pytest.raises(TypeError, match="cuda:1"):
            opt.step([there.to("cuda:1")])
        opt.step([torch.ones_like(there)])


def test_nothing_is_waited_for(torch):
    _, there = both(torch)
    _, h = both(torch, seed=1)
    opt = pyopt.AdamW([there], lr=0.1, max_grad_norm=1.0, skip_nonfinite=True, ema_decay=0.9)
    opt.step([h])
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)
    event = torch.cuda.Event()
    event.record()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for k in range(20):
            opt.param_groups[0]["lr"] = 0.01 * k
            opt.step([h])
        assert not event.query()  # still asleep: no step has waited
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_mixed_devices_and_checkpoints(torch):
    here, there = both(torch, 1000)
    want = [here.copy(), here.copy()]
    opt, other = pyopt.Adam([there, here], lr=0.1), pyopt.Adam(want, lr=0.1)
    g, h = both(torch, 1000, 1)
    opt.step([h, g])
    other.step([g, g])
    saved = opt.state_dict()
    again = pyopt.Adam([there, here])
    again.load_state_dict(saved)
    again.step([h, g])
    other.step([g, g])
    same_bits(there.cpu().numpy(), want[0])
    same_bits(here, want[1])
