"""Run with NUMBA_ENABLE_CUDASIM=1: the kernels with barriers in CUDA's simulator, a Python thread for each."""

import math
import sys
import threading

import numpy as np
from numba import cuda

from pyopt import L1, GroupLasso, MaxNorm
from pyopt.kernels.cuda import layout
from pyopt.kernels.cuda.device import prologue
from pyopt.kernels.cuda.device.intrinsics import Plain
from pyopt.kernels.cuda.entry_points import Lag, Leaves, Norms, Prologue, Rows, Scale, Sums
from pyopt.kernels.numerics import reductions
from pyopt.kernels.rules import RULES
from pyopt.optim.group import OPTIONS, ParamGroup
from support import device
from support.helpers import run, same, stepped_rows, tame


class Index:
    """What a thread of the simulator knows of its place."""

    def __init__(self, name):
        self.name = name

    @property
    def x(self):
        return np.int32(getattr(threading.current_thread(), self.name).x)


class Shared:
    """Shared memory: an array for each block; the simulator runs one block after another."""

    lock, blocks = threading.Lock(), {}

    def array(self, size, dtype):
        with self.lock:
            return self.blocks.setdefault((LAUNCH[0], threading.current_thread().blockIdx.x), np.full(size, np.nan))


class Blocks:
    @property
    def x(self):
        return np.int32(LAUNCH[1])


LAUNCH = [0, 0]
# The simulator puts these into the globals of a kernel; those of the engine find the module by a closure.
cuda.blockIdx, cuda.threadIdx, cuda.gridDim = Index("blockIdx"), Index("threadIdx"), Blocks()
cuda.shared = Shared()
cuda.syncthreads = lambda: threading.current_thread().syncthreads()
MEMORY = Plain(cuda.syncthreads)


def aligned(words):
    """Return an array of float64 that begins at a multiple of 64 bytes."""
    raw = np.zeros(words + 8)
    return raw[-raw.ctypes.data % 64 // 8 :][:words]


def at(a):
    return a.ctypes.data


def simulated(kernel, blocks, threads, *arguments):
    """Run the entry of a kernel."""
    LAUNCH[:] = LAUNCH[0] + 1, blocks
    cuda.jit(kernel.entry(MEMORY))[blocks, threads](*map(np.uint64, arguments))


def check(sizes, poison=None, threads=16, kind="f32"):
    """Compare leaves, norm, factors, scalars and step counts with the reference."""
    dtype = {"f32": np.float32, "f64": np.float64}[kind]
    grads = []
    for n in sizes:
        g = aligned(n + 1).view(dtype)[:n]
        g[:] = np.random.default_rng(n).normal(size=n)
        grads.append(g)
    if poison is not None:
        grads[-1][-1] = poison
    count, total = len(sizes), layout.leaves(sizes)
    rule = RULES["sgd"]
    group = ParamGroup(rule, {**OPTIONS, **rule.Values(lr=0.25)._asdict(), "max_tensor_norm": 3.0})
    given, info = aligned(4 * count).view(np.uint64).reshape(-1, 4), aligned(4 * count).view(np.uint64).reshape(-1, 4)
    rows, block, call = aligned(32 * count).reshape(-1, 32), aligned(32), aligned(8)
    progress, result, partial = aligned(2 * count), aligned(4), aligned(total)
    scratch = aligned(prologue.room(count, total) // 8)
    counts = [layout.leaves([n]) for n in sizes]
    for i, g in enumerate(grads):
        given[i] = at(g), 1, 0, at(block)
        info[i] = at(rows[i]), sum(counts[:i]), counts[i], (kind == "f64") << 32
    block[:6] = 0.5, 3.0, math.inf, 1.0, 0.0, 0.0
    block[8:13] = prologue.numbers(rule, group.h)
    call[:5] = 2.0, 1.0, 0.5, count, total
    leaves = aligned(2 * total).view(np.uint64)
    leaves[:] = layout.chunks(sizes, reductions.LEAF).ravel()
    simulated(Leaves(kind), -(-total // 32), 256, at(given), at(leaves), total, at(info), at(partial), at(result))
    want = [reductions.squares(g) for g in grads]
    flat = [x for own in want for x in own]
    assert np.array_equal(partial, flat, equal_nan=True), (partial, flat)
    kernel = Prologue(rule, True)
    simulated(kernel, 1, threads, at(given), at(info), at(call), at(progress), at(result), at(partial), at(scratch))
    norm = math.sqrt(reductions.pairwise_sum(list(flat))) * 0.5
    assert result[0] == norm or (math.isnan(norm) and math.isnan(result[0]))
    assert result[1] == (poison is not None)
    assert result.view(np.uint64)[2] == 0
    for i, own in enumerate(want):
        assert progress[2 * i] == (poison is None)
        words = rows[i].view(np.uint32)
        assert words[0] == (poison is None)
        if poison is None:
            factor = reductions.clip_factor(norm, 2.0)
            own_norm = math.sqrt(reductions.pairwise_sum(list(own)))
            factor = 0.5 * factor * reductions.clip_factor(own_norm * 0.5 * factor, 3.0)
            scalars = rows[i].view(dtype)[16 // dtype(0).itemsize :]
            assert scalars[0] == dtype(factor)
            assert scalars[4] == dtype(0.25)
    assert group.group.work(1, 0.0, 2.0).scale == 0.5


class Simulated(device.Emulated):
    """A GPU whose kernels of rows and of norms run in the simulator, by a few threads where any number will do."""

    threads = 16

    def launch(self, stream, config, kernel, *arguments):
        if not isinstance(kernel, (Rows, Sums, Lag, Norms, Scale)):
            super().launch(stream, config, kernel, *arguments)
            return
        self.launches.append((kernel, config))
        with np.errstate(all="ignore"):
            threads = kernel.threads if isinstance(kernel, Norms) else self.threads
            simulated(kernel._replace(threads=threads), config[0], threads, *arguments)


def check_norms():
    """Compare steps of a rule that needs norms with the reference: of many leaves, of a few elements, of none."""
    gpu = Simulated()
    device.device = lambda name: gpu
    params = [tame(n, np.float32, n) for n in (9 * 4096 + 3, 0, 5)]
    grads = [[tame(p.size, np.float32, 100 * t + i) for i, p in enumerate(params)] for t in range(2)]
    grads[1][2] = None
    options = {"lr": 0.1, "betas": (0.7, 0.8), "eps": 0.05, "weight_decay": 0.3}
    same(run(RULES["lamb"], params, grads, by="emulated", **options), run(RULES["lamb"], params, grads, **options))
    assert {type(kernel) for kernel, _ in gpu.launches} > {Norms, Scale}


def check_rows():
    """Compare steps of whole rows, and of some rows, with the reference."""
    gpu = Simulated()
    device.device = lambda name: gpu
    options = {"lr": 0.1, "weight_decay": 0.1, "max_grad_norm": 1.0, "metric": "lr"}
    for shape in ((9, 7), (2, 4100)):
        params = [tame(shape, np.float32, 1)]
        grads = [[tame(shape, np.float32, 2)]]
        both = options | {"penalty": [L1(0.05), GroupLasso(0.03)], "prox": (L1(0.01), GroupLasso(0.02))}
        same(run(RULES["adamw"], params, grads, by="emulated", **both), run(RULES["adamw"], params, grads, **both))
    for shape, count in (((9, 5), 20), ((2, 4100), 3)):
        some = options | {"prox": MaxNorm(3.0)}
        same(*(stepped_rows(by, RULES["lion"], shape, count, np.dtype(np.float32), **some)
               for by in ("emulated", "reference")))  # fmt: skip
    assert {type(kernel) for kernel, _ in gpu.launches} > {Rows, Sums, Lag}


if __name__ == "__main__":
    prologue.SMALL = 2  # so that a few leaves are many
    Prologue.threads = property(lambda self: 16)
    check([5, 4096, 700, 33, 0, 3 * 4096 + 9, 20 * 4096 + 1])
    check([9, 5000], kind="f64")
    check([5, 5000], poison=np.inf)
    check([5000], poison=np.nan)
    check_rows()
    check_norms()
    sys.stdout.write("done")
