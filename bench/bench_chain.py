"""The whole realistic step: check, unscale, clip, L1, AdamW, moving average, zeroed gradients; 44 bytes a parameter."""

from time import perf_counter

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import isa

from .harness import Contender, faster, race
from .limit import limits, scans
from .optax_steps import chain as optax_chain
from .optax_steps import optax
from .shapes import gpt2_small
from .torch_steps import torch

L1, MAX_NORM, EMA, SCALE, LR = 1e-6, 1.0, 0.999, 1024.0, 1e-4
FULL = [faster("limit", 0.93), faster("torch eager", 2.8), faster("torch compiled", 1.0), faster("optax jit", 1.0)]
CASES = [
    ("whole step, GPT-2 small", gpt2_small(), L1, FULL, 9),
    ("whole step without L1, GPT-2 small", gpt2_small(), 0.0, [faster("torch eager", 1.5)], 9),
    ("whole step, 64 k, in L2", [(64_000,)], L1, [faster("torch eager", 10.0)], 21),
]


class Chain:
    """The arrays of all contenders, and what each does with them."""

    def __init__(self, shapes, l1):
        rng = np.random.default_rng(0)
        block = rng.standard_normal(1_000_003, dtype=np.float32)
        self.l1 = l1
        self.params, self.grads = ([np.resize(block[k:], shape) for shape in shapes] for k in (0, 500_000))
        penalty = pyopt.L1(l1) if l1 else None
        self.opt = pyopt.AdamW(self.params, lr=LR, penalty=penalty, max_grad_norm=MAX_NORM, ema_decay=EMA,
                               skip_nonfinite=True)  # fmt: skip
        self.refill()
        self.pyopt()

    def refill(self):
        """Put gradients back: every contender zeroes them."""
        for g in self.grads:
            g.fill(0.01)

    def pyopt(self):
        self.opt.step(self.grads, grad_scale=SCALE, zero_grads=True)

    def arrays(self):
        states = [[s["exp_avg"], s["exp_avg_sq"], s["ema"]] for s in self.opt.state]
        return [[p, *own, g] for p, own, g in zip(self.params, states, self.grads, strict=True)]

    def torch(self, compiled=False):
        """Return torch's composition: eager, or all of it but the check as one compiled function."""
        params = [torch.nn.Parameter(torch.from_numpy(p)) for p in self.params]
        grads = [torch.from_numpy(g) for g in self.grads]
        m, v, emas = ([torch.from_numpy(s[name]) for s in self.opt.state] for name in ("exp_avg", "exp_avg_sq", "ema"))
        opt = torch.optim.AdamW(params, lr=LR, fused=not compiled, foreach=compiled)
        for p, g, m_, v_ in zip(params, grads, m, v, strict=True):
            p.grad = g
            opt.state[p] = {"step": torch.tensor(1.0), "exp_avg": m_, "exp_avg_sq": v_}
        found, inverse = torch.zeros(1), torch.full((1,), 1 / SCALE)

        def eager():
            torch._amp_foreach_non_finite_check_and_unscale_(grads, found, inverse)
            after_the_check()

        def after_the_check():
            torch.nn.utils.clip_grad_norm_(params, MAX_NORM, foreach=True)
            with torch.no_grad():
                if self.l1:
                    torch._foreach_add_(grads, torch._foreach_sign(params), alpha=self.l1)
                opt.step()
                torch._foreach_lerp_(emas, params, 1 - EMA)
                torch._foreach_zero_(grads)

        def scaled():
            with torch.no_grad():
                torch._foreach_mul_(grads, 1 / SCALE)
            after_the_check()

        return torch.compile(scaled) if compiled else eager


@pytest.mark.parametrize(
    ("title", "shapes", "l1", "bar", "rounds"), CASES, ids=lambda x: x if isinstance(x, str) else ""
)
def bench_chain(title, shapes, l1, bar, rounds, benchmark):
    chain = Chain(shapes, l1)
    arrays = chain.arrays()
    contenders = [
        Contender("pyopt", chain.pyopt, 44, prepare=chain.refill),
        *scans(chain.grads, limits(arrays, [[] for _ in arrays])),
    ]
    facts = {}
    if torch is not None:
        contenders.append(Contender("torch eager", chain.torch(), prepare=chain.refill))
        if "GPT-2" in title and l1:
            compiled, start = chain.torch(compiled=True), perf_counter()
            compiled()
            facts["torch_compile_seconds"] = perf_counter() - start
            contenders.append(Contender("torch compiled", compiled, prepare=chain.refill))
    if optax is not None and "GPT-2" in title and l1:
        call, refill = optax_chain(chain.params, l1, MAX_NORM, EMA, SCALE, LR)
        refill()
        start = perf_counter()
        call()
        facts["optax_compile_seconds"] = perf_counter() - start
        contenders.append(Contender("optax jit", call, prepare=refill))
    elements = sum(p.size for p in chain.params)
    race(benchmark, title, contenders, bar, rounds, elements, isa=isa.active(), threads=pyopt.get_num_threads(),
         tensors=len(shapes), **facts)  # fmt: skip
