"""A GPU in this process: the bodies of the kernels, compiled for the CPU, over NumPy's memory.

It has the face of ``device_cuda.GPU``, so that the plan runs as it is. Vectors are refused where they are not aligned.
"""

from __future__ import annotations

import functools
import types

import numpy as np

from pyopt.kernels.memory_cuda import Host

HOST = Host()
MULTIPROCESSORS = 3  # few, so that blocks take several rounds


@functools.cache
def compiled(kernel):
    """Return a kernel as a function of the number of blocks and the arguments, compiled once for all tests."""
    run = kernel.emulated(HOST)
    return lambda blocks, *arguments: run(blocks, *map(np.uint64, arguments))


class Emulated:
    """One GPU, of which all memory is the host's."""

    ordinal = 0
    cc = (9, 0)
    multiprocessors = MULTIPROCESSORS

    def __init__(self):
        self.launches = []
        self.uploads = []

    def __repr__(self):
        return "emulated"

    def enter(self):
        return None

    def leave(self, before):
        pass

    def stream(self, library):
        return types.SimpleNamespace(record=lambda: types.SimpleNamespace(sync=lambda: None))

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

    def download(self, address, size):
        return memory(address, size).copy() if size else np.empty(0, np.uint8)

    def copy(self, to, source, size):
        if size:
            memory(to, size)[:] = memory(source, size)

    def capturing(self, stream):
        return False

    def kernel(self, kernel):
        return kernel

    def config(self, blocks, threads):
        return blocks, threads

    def launch(self, stream, config, kernel, *arguments):
        assert config[1] == kernel.threads
        assert len(arguments) == kernel.arguments
        self.launches.append((kernel, config))
        compiled(kernel)(config[0], *arguments)


def memory(address, size):
    """Return bytes of this process."""
    import ctypes

    return np.frombuffer((ctypes.c_char * size).from_address(address), np.uint8)


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
