"""Run with the stub as libcuda.so.1: steps through cuda.core, each launch handed to the body in plain Python."""

import ctypes
import functools
import math
import sys
import time

import numpy as np

import pyopt
from pyopt.kernels.cuda import arrays as gpu_arrays
from pyopt.kernels.cuda import driver
from pyopt.kernels.cuda import plan as gpu_engine
from pyopt.kernels.penalties import PENALTIES
from pyopt.kernels.rules import RULES
from pyopt.optim.group import OPTIONS, ParamGroup
from support import device
from support.helpers import everything, gradients, run, same, some_penalty, tame

STUB = ctypes.CDLL("libcuda.so.1")
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint, ctypes.POINTER(ctypes.c_void_p),
                            ctypes.c_void_p)  # fmt: skip
launches = []
failures = []


def executed(name, blocks, threads, arguments, stream):
    try:
        name = name.decode()
        kernel = max((k for k in driver.find(0).kernels if f"{k.name}B" in name), key=lambda k: len(k.name))
        values = [ctypes.c_uint64.from_address(arguments[i]).value for i in range(kernel.arguments)]
        assert threads == kernel.threads
        launches.append((kernel.name.partition("_")[0], blocks))
        with np.errstate(all="ignore"):
            device.runnable(kernel, False)(blocks, *values)
    except BaseException as error:  # noqa: BLE001 - ctypes would swallow it
        failures.append(repr(error))


def bits():
    """Every stage of a rule, with the bits of the reference."""
    rule = RULES["adamw"]
    params = [tame(n, np.float32, n) for n in (5, 37, 0, 130)]
    options = {**everything(rule), "penalty": [some_penalty(PENALTIES["l1"])], "max_grad_norm": 1.0, "ema_decay": 0.9,
               "grad_scale": 2.0, "zero_grads": True}  # fmt: skip
    grads = gradients(params, 2, make=tame)
    same(run(rule, params, grads, by="gpu", **options), run(rule, params, grads, **options))
    assert launches == [("leaves", 1), ("prepare", 1), ("update", 3)] * 2, launches


def plan_of(count):
    """Return a plan over ``count`` small arrays, its gradients and its group."""
    gpu = driver.find(0)
    rule = RULES["adamw"]
    group = ParamGroup(rule, {**OPTIONS, **rule.Values()._asdict()})
    rows = [[gpu_arrays.Array(gpu, (64,), (1,), "f32") for _ in range(count)] for _ in range(4)]
    for row in rows:
        for a in row:
            a.set(0.5)
    states = [[m, v, None] for m, v in zip(*rows[2:], strict=True)]
    plan = device.plan_of(functools.partial(gpu_engine.Plan, gpu), rows[0], [group], states)
    return plan, rows[1], group


def uploads():
    """Nothing is uploaded while nothing changes, nor by a step that is captured, and the host waits for no upload."""
    copies = ctypes.c_long.in_dll(STUB, "stub_copies")
    plan, grads, group = plan_of(3)
    plan.step(grads, device.asked([group]))
    first = copies.value
    for _ in range(10):
        plan.step(grads, device.asked([group]))
    assert copies.value == first
    for k in range(10):
        group.refresh({**OPTIONS, **group.h._asdict(), "lr": 0.1 * k})
        plan.step(grads, device.asked([group]))
    assert copies.value == first + 20
    assert len(plan.tables.ring.slots) == 1
    ctypes.c_int.in_dll(STUB, "stub_busy").value = 1
    for k in range(10):
        group.refresh({**OPTIONS, **group.h._asdict(), "lr": 0.2 * k})
        plan.step(grads, device.asked([group]))
    ctypes.c_int.in_dll(STUB, "stub_busy").value = 0
    assert len(plan.tables.ring.slots) == 11
    before = copies.value
    ctypes.c_int.in_dll(STUB, "stub_capturing").value = 1
    plan.step(grads[::-1], device.asked([group]))
    ctypes.c_int.in_dll(STUB, "stub_capturing").value = 0
    assert len(plan.tables.graphs) == 1
    assert copies.value == before + 1  # of tables that nothing else reads, at once
    assert plan.progress()[0] == [32] * 3


def speed():
    """Print what a step costs the host, in microseconds, over 1 and over 1000 arrays; no kernel is executed."""
    STUB.stub_set_callback(CALLBACK())
    found = []
    for count in (1, 1000):
        plan, grads, group = plan_of(count)
        given = device.asked([group])
        best = math.inf
        for _ in range(9):
            start = time.perf_counter()
            for _ in range(100):
                plan.step(grads, given)
            best = min(best, (time.perf_counter() - start) / 100)
        found.append(best * 1e6)
    print(f"host: {found[0]:.1f} us, and {(found[1] - found[0]) / 999:.3f} us for each array")


def first():
    """Print how long the first step takes, in seconds of this process, and whether Numba was imported."""
    start, cpu = time.perf_counter(), time.process_time()
    plan, grads, group = plan_of(3)
    plan.step(grads, device.asked([group]))
    spent = time.perf_counter() - start, time.process_time() - cpu
    print(f"first step: {spent[0]:.2f} s, {spent[1]:.2f} s of it computing, numba {'numba' in sys.modules}")


if __name__ == "__main__":
    keep = CALLBACK(executed)
    assert pyopt.show_config()
    if sys.argv[1] != "first":
        STUB.stub_set_callback(keep)
    {"bits": bits, "uploads": uploads, "speed": speed, "first": first}[sys.argv[1]]()
    assert not failures, failures
    print("done")
