"""Threads, forks, signals and the caller's rounding mode: none of them changes a bit, or leaves a step half done."""

import contextlib
import ctypes
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import pyopt
from pyopt.kernels.cpu import engine, threads
from pyopt.kernels.rules import RULES
from support.helpers import everything, gradients, make, outcome, run, same, same_bits, tame, wild

LARGE = 200_003
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
OPENMP = pytest.mark.skipif(not engine.has_openmp(), reason="built without OpenMP: every step is serial")


def python(text, **environment):
    """Run a program in a new process; return what it printed."""
    environment = {key: value for key, value in (os.environ | environment).items() if value is not None}
    command = [sys.executable, "-c", textwrap.dedent(text)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- how many


@OPENMP
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_set_num_threads(n):
    pyopt.set_num_threads(n)
    assert pyopt.get_num_threads() == n
    pyopt.set_num_threads(None)
    assert pyopt.get_num_threads() >= 1


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", True, 2**31, 2**70, float("nan"), [2]])
def test_set_num_threads_refuses(bad):
    before = pyopt.get_num_threads()
    with pytest.raises((ValueError, TypeError), match="threads"):
        pyopt.set_num_threads(bad)
    assert pyopt.get_num_threads() == before


SHOW = "import pyopt; print(pyopt.get_num_threads())"


@OPENMP
@pytest.mark.parametrize(
    ("omp", "own", "want"), [("1", None, "1"), ("3", None, "3"), ("3", "2", "2"), (None, "5", "5")]
)
def test_environment(omp, own, want):
    assert python(SHOW, OMP_NUM_THREADS=omp, PYOPT_NUM_THREADS=own) == want


@pytest.mark.parametrize("bad", ["0", "-1", "two", "1.5", ""])
def test_environment_refused(bad):
    message = python("""
        try:
            import pyopt
        except ImportError as error:
            print(error)
    """, PYOPT_NUM_THREADS=bad)  # fmt: skip
    assert f"PYOPT_NUM_THREADS={bad!r}" in message
    assert "integer" in message


@OPENMP
def test_threadpoolctl():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed: nothing to honour")
    before = pyopt.get_num_threads()
    with threadpoolctl.threadpool_limits(1):
        assert pyopt.get_num_threads() == 1
    assert pyopt.get_num_threads() == before


V1, V2 = "sys/fs/cgroup/cpu/cpu.cfs_", "sys/fs/cgroup/"
OWN = {"proc/self/cgroup": "0::/a/b\n"}


@pytest.mark.parametrize(
    ("files", "want"),
    [
        ({}, None),
        ({V2 + "cpu.max": "max 100000"}, None),
        ({V2 + "cpu.max": "150000 100000"}, 2),
        ({V2 + "cpu.max": "10000 100000"}, 1),
        ({V2 + "cpu.max": "nonsense"}, None),
        ({V1 + "quota_us": "400000", V1 + "period_us": "100000"}, 4),
        ({V1 + "quota_us": "-1", V1 + "period_us": "100000"}, None),
        (OWN | {V2 + "a/cpu.max": "300000 100000", V2 + "a/b/cpu.max": "max 100000"}, 3),
        (OWN | {V2 + "a/cpu.max": "300000 100000", V2 + "a/b/cpu.max": "200000 100000"}, 2),
    ],
)
def test_quota_of_a_container(tmp_path, files, want):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert threads.cpu_quota(str(tmp_path)) == want


# ---- Python threads


@pytest.mark.any_rule
def test_two_optimizers_at_once(rule):
    """They share nothing but the pool of threads."""
    params = [[tame(LARGE, np.float32, i)] for i in range(2)]
    grads = [gradients(ps, 8, seed=i, make=tame) for i, ps in enumerate(params)]
    want = [run(rule, ps, rows, by="baseline", **everything(rule)) for ps, rows in zip(params, grads, strict=True)]
    pyopt.set_num_threads(2)
    opts = [make(rule, ps, **everything(rule)) for ps in params]

    def work(opt, rows):
        for row in rows:
            opt.step(row)

    workers = [threading.Thread(target=work, args=pair) for pair in zip(opts, grads, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    for opt, each in zip(opts, want, strict=True):
        same(outcome(opt), each)
    assert pyopt.get_num_threads() == 2  # all claims were given back


@pytest.mark.parametrize("meddle", [False, True])
@pytest.mark.any_rule
def test_one_optimizer_in_two_threads(rule, meddle):
    """One steps; the other one is told so, or waits for the GIL. The steps that were taken are those that count."""
    p, g = tame(2_000_000, np.float32), tame(2_000_000, np.float32, 1)
    start = p.copy()
    pyopt.set_num_threads(2)
    opt = make(rule, [p], **everything(rule))
    taken, errors, ready = [], [], threading.Barrier(2)

    def work(first):
        ready.wait()
        for _ in range(12):
            if meddle and not first:  # what makes a new plan must not step beside the old one
                opt.param_groups[0]["penalty"] = pyopt.L1(0.0) if opt.param_groups[0]["penalty"] is None else None
            try:
                opt.step([g])
                taken.append(1)
            except RuntimeError as error:
                errors.append(str(error))

    workers = [threading.Thread(target=work, args=(i == 0,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(taken) + len(errors) == 24
    assert all("in the middle of a step" in error for error in errors)
    assert opt.state[0]["step"] == len(taken)
    same_bits(p, run(rule, [start], [[g]] * len(taken), by="baseline", **everything(rule))["p[0]"])


def test_gradients_are_held_during_the_step():
    """Another thread may empty the caller's list meanwhile."""
    p = tame(4_000_000, np.float32)
    opt, grads, stop = pyopt.Lion([p], lr=0.1), [tame(4_000_000, np.float32, 1)], threading.Event()
    want = run(RULES["lion"], [p], [grads], by="baseline", lr=0.1)["p[0]"]

    def empty():
        while not stop.is_set():
            grads.clear()

    worker = threading.Thread(target=empty)
    worker.start()
    with contextlib.suppress(ValueError):  # emptied before the step began
        while not opt.state[0]["step"]:
            grads.append(tame(4_000_000, np.float32, 1))
            opt.step(grads)
    stop.set()
    worker.join()
    assert opt.state[0]["step"] == 0 or np.array_equal(p, want)


# ---- processes


def step_in_child(connection, rule, params, grads, hypers):
    opt = make(rule, params, **hypers)
    for row in grads:
        opt.step(row)
    connection.send((outcome(opt), pyopt.get_num_threads()))


@POSIX
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use():
    """libgomp's threads do not exist in the child, where a region of two would wait for them for ever."""
    rule = RULES["adam"]
    params = [tame(LARGE, np.float32)]
    grads = gradients(params, 3, make=tame)
    want = run(rule, params, grads, by="baseline", threads=2, **everything(rule))
    pyopt.set_num_threads(2)
    context = multiprocessing.get_context("fork")
    for _ in range(2):
        here, there = context.Pipe()
        child = context.Process(target=step_in_child, args=(there, rule, params, grads, everything(rule)))
        child.start()
        finished = here.poll(30)
        if not finished:
            child.kill()
        assert finished, "the child hangs"
        result, used = here.recv()
        child.join()
        assert (child.exitcode, used) == (0, 1)
        same(result, want)
    assert pyopt.get_num_threads() == 2  # the parent keeps its own


@POSIX
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_that_python_does_not_see():
    """C libraries fork without ``os.register_at_fork``: the handler must be the operating system's."""
    text = """
        import ctypes, os, sys
        import numpy as np, pyopt
        pyopt.set_num_threads(2)
        w = np.ones(200_000)
        opt = pyopt.SGD([w], lr=0.5)
        opt.step([w * 1])
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            import signal
            signal.alarm(20)
            opt.step([w * 1])
            os._exit(0 if (w == 0.25).all() else 1)
        print(os.waitpid(pid, 0)[1])
    """
    assert python(text) == "0"


# ---- Ctrl-C


@POSIX
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_interrupt_finds_all_or_nothing(name):
    """Interrupts at random moments: all tensors have taken as many steps as each other, and as the weights show."""
    text = f"""
        import random, signal
        import numpy as np, pyopt
        from pyopt.kernels.cpu import isa
        random.seed(1)
        pyopt.set_num_threads(2)
        make = lambda ps: pyopt.{OPTION[name]}
        sizes = [300_000, 7, 150_000, 0, 1]
        start = [np.random.default_rng(i).normal(size=n) for i, n in enumerate(sizes)]
        grads = [np.random.default_rng(i + 9).normal(size=n) for i, n in enumerate(sizes)]
        params = [p.copy() for p in start]
        opt = make(params)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        caught = done = 0
        while caught < 40:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 4e-3))
                while True:
                    opt.step(grads)
                    done += 1
            except KeyboardInterrupt:
                caught += 1
                counts = {{state["step"] for state in opt.state}}
                assert len(counts) == 1, counts
        signal.setitimer(signal.ITIMER_REAL, 0)
        (t,) = counts
        assert done <= t <= done + caught, (done, t)
        want = [p.copy() for p in start]
        other = make(want)
        for _ in range(t):
            other.step(grads)
        assert all(np.array_equal(a, b) for a, b in zip(params, want))
        assert opt.step(grads) is None
        print("consistent")
    """
    assert python(text) == "consistent"


OPTION = {"sgd": "SGD(ps, lr=0.01, momentum=0.9)", "adam": "Adam(ps, lr=0.01, amsgrad=True, weight_decay=0.1)"}


@POSIX
def test_control_c_ends_the_loop():
    text = """
        import os, signal, threading
        import numpy as np, pyopt
        w, g = np.ones(2_000_000), np.ones(2_000_000)
        opt = pyopt.Adam([w])
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whatever runs the tests ignores it
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                opt.step([g])
        except KeyboardInterrupt:
            opt.step([g])
            print("interrupted after", opt.state[0]["step"] > 1)
    """
    assert python(text) == "interrupted after True"


# ---- the caller's rounding mode


@contextlib.contextmanager
def flush_to_zero():
    """Set flush-to-zero and denormals-are-zero in this thread through the C library's floating-point environment."""
    library = ctypes.CDLL(None)
    place, bits = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}[platform.machine()]
    before = ctypes.create_string_buffer(64)
    assert library.fegetenv(before) == 0
    word = int.from_bytes(before.raw[place : place + 4], "little") | bits
    new = ctypes.create_string_buffer(before.raw[:place] + word.to_bytes(4, "little") + before.raw[place + 4 : 64], 64)
    library.fesetenv(new)

    def active():
        now = ctypes.create_string_buffer(64)
        library.fegetenv(now)
        return int.from_bytes(now.raw[place : place + 4], "little") & bits == bits

    try:
        assert active(), "the mode was not set: this test would prove nothing"
        yield active
    finally:
        library.fesetenv(before)


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the layout of fenv_t is known for Linux on x86-64 and Arm only",
)
@pytest.mark.parametrize("n", [1000, LARGE])
def test_flush_to_zero_of_the_caller(rule, dtype, isa, n):
    """Set by torch.set_flush_denormal and by libraries built with -ffast-math, in one thread and not in the others."""
    hypers = everything(rule)
    tiny = float(np.finfo(dtype).tiny)
    params = [np.where(np.arange(n) % 3, wild(n, dtype), tame(n, dtype) * dtype(tiny / 2)).astype(dtype)]
    grads = [
        [np.where(np.arange(n) % 2, wild(n, dtype, t), tame(n, dtype, t) * dtype(tiny / 2)).astype(dtype)]
        for t in (1, 2)
    ]
    want = run(rule, params, grads, penalty=pyopt.L2(0.25), grad_scale=0.5, **hypers)
    opt = make(rule, [params[0]], penalty=pyopt.L2(0.25), **hypers)
    with flush_to_zero() as active:
        for row in grads:
            opt.step(row, grad_scale=0.5)
            assert active(), "the caller's mode was changed"
    same(outcome(opt), want)
    subnormal = np.full(n, tiny / 4, dtype)
    value = pyopt.L1(1.0).value(subnormal)
    with flush_to_zero() as active:
        inside = pyopt.L1(1.0).value(subnormal)
        assert active(), "the caller's mode was changed"
    assert inside.hex() == value.hex() != (0.0).hex()


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the layout of fenv_t is known for Linux on x86-64 and Arm only",
)
@pytest.mark.parametrize("training", [True, False])
def test_flush_to_zero_of_the_caller_in_layers(dtype, isa, training):
    small = [dtype(np.finfo(dtype).tiny) * tame(shape, dtype, i) for i, shape in enumerate([(70, 5), (70, 5), 5, 5, 5])]

    def results():
        x, dy, weight, mean, var = (a.copy() for a in small)
        y, *kept = pyopt.layers.batch_norm(x, mean, np.abs(var), weight, training=training)
        slopes = pyopt.layers.batch_norm_backward(dy, x, *kept, weight, training=training)
        found = [y, mean, *kept, *slopes, *pyopt.layers.bias_relu_backward(dy, x, weight)]
        y, *kept = pyopt.layers.layer_norm(x, weight)
        return [*found, y, *kept, *pyopt.layers.layer_norm_backward(dy, x, *kept, weight)]

    want = results()
    with flush_to_zero() as active:
        got = results()
        assert active(), "the caller's mode was changed"
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        same_bits(a, b, f"result {i}")


def test_signal_module_is_left_alone():
    """Importing and stepping installs no handler."""
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    pyopt.SGD([np.ones(LARGE)], lr=0.1).step([np.ones(LARGE)])
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
