"""A GPU in this process, and optimizers over NumPy arrays that a GPU steps.

``Emulated`` has the face of ``driver.GPU``, so that the plan runs as it is: the bodies of the kernels run one
thread after another over NumPy's memory, as plain Python or compiled for the CPU by Numba. Vectors are refused where
they are not aligned.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import types

import numpy as np

import pyopt.functional.lists
import pyopt.optim.assembly
from pyopt.kernels import view
from pyopt.kernels.cuda import arrays as gpu_arrays
from pyopt.kernels.cuda import plan as gpu_engine
from pyopt.kernels.cuda.device.intrinsics import Host, Plain
from pyopt.kernels.step import Beside, Request

MULTIPROCESSORS = 3  # few, so that blocks take several rounds


@functools.cache
def memory_of(compiled):
    return Host() if compiled else Plain()


@functools.cache
def runnable(kernel, compiled):
    """Return a kernel as a function of the number of blocks and the arguments, made once for all tests."""
    run = kernel.emulated(memory_of(compiled))
    return lambda blocks, *arguments: run(blocks, *map(np.uint64, arguments))


class Done:
    """What is recorded behind an upload."""

    def __init__(self, device):
        self.device = device

    @property
    def is_done(self):
        return not self.device.behind


class Emulated:
    """One GPU, of which all memory is the host's."""

    ordinal = 0
    cc = (9, 0)
    multiprocessors = MULTIPROCESSORS

    def __init__(self, compiled=False):
        self.compiled = compiled
        self.launches = []
        self.uploads = []
        self.behind = False  # whether the device has yet to do what was enqueued
        self.graph = None  # the launches of the one that is captured

    def __repr__(self):
        return "emulated"

    def enter(self):
        return None

    def leave(self, before):
        pass

    def stream(self, library):
        return types.SimpleNamespace(record=lambda event: Done(self))

    def allocate(self, size):
        raw = np.full(size + 256, 0xAA, np.uint8)
        offset = -raw.ctypes.data % 256
        return types.SimpleNamespace(address=raw.ctypes.data + offset, raw=raw)

    def pinned(self, size):
        raw = np.zeros(size, np.uint8)
        return types.SimpleNamespace(address=raw.ctypes.data), raw

    def upload(self, stream, address, source):
        if source.nbytes:
            self.uploads.append(source.nbytes)
            memory(address, source.nbytes)[:] = source

    def place(self, address, source):
        if source.nbytes:
            memory(address, source.nbytes)[:] = source

    def clear(self, address, size):
        if size:
            memory(address, size)[:] = 0

    def set_ones(self, stream, address, count):
        memory(address, 8 * count).view(np.float64)[:] = 1

    def holds(self, address):
        return True

    def download(self, address, size):
        return memory(address, size).copy() if size else np.empty(0, np.uint8)

    def copy(self, to, source, size):
        if size:
            memory(to, size)[:] = memory(source, size)

    def wait(self):
        pass

    def capturing(self, stream):
        return self.graph is not None

    def kernel(self, kernel):
        return kernel

    def config(self, blocks, threads):
        return blocks, threads

    def launch(self, stream, config, kernel, *arguments):
        assert config[1] == kernel.threads
        assert len(arguments) == kernel.arguments
        self.launches.append((kernel, config))
        if self.graph is not None:
            self.graph.append((kernel, config, arguments))
        else:
            self.replay([(kernel, config, arguments)])

    def replay(self, graph):
        with np.errstate(all="ignore"):
            for kernel, config, arguments in graph:
                runnable(kernel, self.compiled)(config[0], *arguments)


def memory(address, size):
    """Return bytes of this process."""
    return np.frombuffer((ctypes.c_char * size).from_address(address), np.uint8)


class Mirrored:
    """A plan over NumPy arrays: a device steps copies of them, which are copied back."""

    def __init__(self, device, names, params, beside, *args):
        self.device = device
        self.pairs = []
        on_device = [self.twin(p) for p in params]
        twins = [own.map(lambda a: None if a is None else self.twin(a)) for own in beside]
        self.plan = gpu_engine.Plan(device, names, on_device, twins, *args)

    def put(self, a):
        """Return a copy on the device, as many elements behind a vector as ``a`` is."""
        strides = tuple(s // a.itemsize for s in a.strides)
        made = gpu_arrays.Array(self.device, a.shape, strides, view.KINDS[a.dtype.name], a.ctypes.data % 16)
        made.set(a)
        return made

    def twin(self, a):
        self.pairs.append((a, self.put(a)))
        return self.pairs[-1][1]

    @contextlib.contextmanager
    def exchanged(self):
        """Bring what was written to the arrays since the last step to the device, and back what a step writes."""
        for a, there in self.pairs:
            there.set(a)
        yield
        for a, there in self.pairs:
            a[...] = there.get()

    def step(self, grads, request):
        grads = tuple(grads)
        given = [self.put(g) if isinstance(g, np.ndarray) else g for g in grads]
        with self.exchanged():
            self.plan.step(given, request)
        for there, g in zip(given, grads, strict=True):
            if request.zero and g is not None:
                g[...] = there.get()

    def step_rows(self, i, indices, values, *args, **kwargs):
        with self.exchanged():
            self.plan.step_rows(i, indices, self.put(values), *args, **kwargs)

    def check_rows(self, i, indices, values):
        self.plan.check_rows(i, indices, self.put(values))

    def catch_up(self):
        with self.exchanged():
            self.plan.catch_up()

    def progress(self):
        return self.plan.progress()

    @property
    def norm(self):
        return self.plan.norm

    @property
    def skipped(self):
        return self.plan.skipped


@functools.cache
def device(name):
    """Return the device called ``gpu``, ``emulated`` or ``compiled``."""
    if name == "gpu":
        from pyopt.kernels.cuda import driver

        return driver.find(0)
    return Emulated(compiled=name == "compiled")


@contextlib.contextmanager
def stepping_on(name):
    """Let a device step the optimizers over NumPy arrays that are made inside the ``with`` block."""
    before = pyopt.optim.assembly.make_plan
    made = functools.partial(Mirrored, device(name))
    pyopt.optim.assembly.make_plan = pyopt.functional.lists.make_plan = made
    try:
        yield
    finally:
        pyopt.optim.assembly.make_plan = pyopt.functional.lists.make_plan = before


def asked(groups, grad_scale=1.0, **more):
    """Return what a step of parameter groups is asked for."""
    return Request([own.group for own in groups], grad_scale, **more)


def plan_of(made, params, groups, states=None, members=None, taken=0):
    """Return a plan over some parameters; ``made`` is an engine's, with what it needs besides."""
    count = len(params)
    beside = [Beside.nothing(groups[0].rule)] * count if states is None else [Beside(tuple(own)) for own in states]
    return made([f"p{i}" for i in range(count)], params, beside, [own.group for own in groups], members or [0] * count,
                [taken] * count, [float(taken)] * count)  # fmt: skip


class Foreign:
    """An array of another library: a NumPy array that says that it lies on a GPU."""

    def __init__(self, array):
        self.array = array

    @property
    def __cuda_array_interface__(self):
        given = self.array.__array_interface__
        typestr = "<V2" if self.array.dtype.name == "bfloat16" else given["typestr"]
        return {"shape": given["shape"], "typestr": typestr, "data": given["data"], "version": 3,
                "strides": given["strides"], "stream": None}  # fmt: skip

    @property
    def dtype(self):
        return self.array.dtype
