"""The norm alone, 16-bit storage and its roundings, rows: ratios of pyopt's own steps, and of a plain read."""

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import isa
from pyopt.kernels.numerics import codecs

from .harness import Contender, faster, race, within
from .limit import scans

N = 32_000_000
ISAS = [name for name in isa.available() if name != "baseline"]


def some(n, dtype="float32", seed=0):
    block = np.random.default_rng(seed).standard_normal(1_000_003, dtype=np.float32)
    return np.resize(codecs.encode(block, codecs.dtype(dtype)), n)


def adamw(kind="float32", n=N, **options):
    """Return a step of AdamW with all arrays of a kind, but for what ``options`` says."""
    p, g = some(n, kind), some(n, kind, 1)
    opt = pyopt.AdamW([p], lr=1e-4, **options)
    opt.step([g])
    return lambda: opt.step([g])


@pytest.mark.parametrize("by", ISAS)
def bench_norm_alone(by, benchmark):
    """A step that is skipped, because the first gradient is infinite, is one read of the gradients and no more."""
    with isa.use(by):
        p, g = some(N), some(N, seed=1)
        g[0] = np.inf
        opt = pyopt.SGD([p], skip_nonfinite=True)
    contenders = [Contender("pyopt", lambda: opt.step([g]), 4, result="untouched"), *scans([g])]
    race(benchmark, f"norm alone, 32 M, {by}", contenders, [faster("limit", 0.93 if by == "avx512" else 0.9)], 21, N,
         isa=by, threads=pyopt.get_num_threads(), tensors=1)  # fmt: skip


def bench_bfloat16(benchmark):
    """Own buffers: arrays of different types cannot be the same memory."""
    pytest.importorskip("ml_dtypes")
    contenders = [
        Contender("pyopt", adamw("bfloat16", state_dtype="bfloat16"), 14),
        Contender("bfloat16 p and g, float32 states", adamw("bfloat16"), 22),
        Contender("float32", adamw(), 28),
        Contender("stochastic", adamw("bfloat16", state_dtype="bfloat16", rounding="stochastic"), 14),
        Contender("remainder, float32 states", adamw("bfloat16", rounding="remainder"), 26),
    ]
    race(benchmark, "AdamW, all bfloat16, 32 M", contenders, [faster("float32", 1.7)], 15, N,
         isa=isa.active(), threads=pyopt.get_num_threads(), tensors=1)  # fmt: skip


def bench_bfloat16_with_float32_states(benchmark):
    pytest.importorskip("ml_dtypes")
    contenders = [Contender("pyopt", adamw("bfloat16"), 22), Contender("float32", adamw(), 28)]
    race(benchmark, "AdamW, bfloat16 p and g, 32 M", contenders, [faster("float32", 1.15)], 15, N,
         isa=isa.active(), threads=pyopt.get_num_threads(), tensors=1)  # fmt: skip


@pytest.mark.parametrize("by", ISAS)
def bench_stochastic(by, benchmark):
    pytest.importorskip("ml_dtypes")
    with isa.use(by):
        contenders = [
            Contender("pyopt", adamw("bfloat16", state_dtype="bfloat16", rounding="stochastic"), 14),
            Contender("nearest", adamw("bfloat16", state_dtype="bfloat16"), 14),
        ]
    bar = [within("nearest", 1.25 if by == "avx512" else 1.7)]
    race(benchmark, f"AdamW, all bfloat16, stochastic, 32 M, {by}", contenders, bar, 15, N,
         isa=by, threads=pyopt.get_num_threads(), tensors=1)  # fmt: skip


def bench_group_lasso(benchmark):
    """Rows of 768, over the buffers of the plain step."""
    p, g = some(N // 768 * 768).reshape(-1, 768), some(N // 768 * 768, seed=1).reshape(-1, 768)
    plain = pyopt.AdamW([p], lr=1e-4)
    grouped = pyopt.AdamW([p], lr=1e-4, prox=pyopt.GroupLasso(1e-6), metric="lr")
    grouped._assembly = grouped._assembly.over(plain._assembly.beside)
    contenders = [Contender("pyopt", lambda: grouped.step([g]), 28), Contender("plain", lambda: plain.step([g]), 28)]
    race(benchmark, "AdamW + group lasso by rows of 768, 32 M", contenders, [within("plain", 1.15)], 15, p.size,
         isa=isa.active(), threads=pyopt.get_num_threads(), tensors=1)  # fmt: skip


@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "AdamW"])
def bench_rows(optimizer, benchmark):
    """1000 rows of a table of a million: the dense step touches all of it."""
    p, g = some(64_000_000).reshape(-1, 64), some(64_000_000, seed=1).reshape(-1, 64)
    rng = np.random.default_rng(0)
    batches = [(rng.integers(0, len(p), 1000), some(64_000, seed=k).reshape(-1, 64)) for k in range(64)]
    opt = getattr(pyopt, optimizer)([p], lr=1e-6)
    turn = iter(range(1 << 62))

    def rows():
        opt.step_rows(*batches[next(turn) % len(batches)])

    contenders = [Contender("pyopt", rows), Contender("dense step", lambda: opt.step([g]))]
    race(benchmark, f"{optimizer}, 1000 rows of 1 M x 64", contenders, [faster("dense step", 300.0)], 11, p.size,
         isa=isa.active(), threads=pyopt.get_num_threads(), tensors=1)  # fmt: skip
