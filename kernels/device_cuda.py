"""The driver: memory, copies, streams and launches on one GPU, by cuda.core and cuda.bindings.

``find(ordinal)`` returns a GPU, or raises the driver's own error where there is none.
"""

from __future__ import annotations

import sys
import threading
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from . import compile_cuda

if TYPE_CHECKING:
    from .kernels_cuda import Kernel

SLOTS = 4  # uploads that may be under way


class Memory:
    """A piece of device or pinned memory, given back with the object."""

    def __init__(self, address: int, free: Any) -> None:
        self.address = address
        self.close = weakref.finalize(self, free, address)
        self.close.atexit = False  # the driver may be gone by then, and takes its memory along


class GPU:
    """One GPU and its primary context."""

    def __init__(self, ordinal: int) -> None:
        import cuda.core
        from cuda.bindings import driver

        self.ordinal, self.driver, self.core = ordinal, driver, cuda.core
        self.device = cuda.core.Device(ordinal)
        _checked(driver.cuInit(0))
        (before,) = _checked(driver.cuCtxGetCurrent())
        self.device.set_current()
        (self.context,) = _checked(driver.cuCtxGetCurrent())
        if int(before):
            _checked(driver.cuCtxSetCurrent(before))
        self.cc = tuple(self.device.compute_capability)
        self.multiprocessors = self.device.properties.multiprocessor_count
        self.launch = cuda.core.launch
        self.kernels: dict[Any, Any] = {}
        self.streams: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"cuda:{self.ordinal}"

    def enter(self) -> Any:
        """Make this GPU the current one of the thread; return what ``leave`` takes."""
        before = self.driver.cuCtxGetCurrent()[1]
        if int(before) == int(self.context):
            return None
        _checked(self.driver.cuCtxSetCurrent(self.context))
        return before

    def leave(self, before: Any) -> None:
        """Make current what was so before ``enter``."""
        if before is not None:
            _checked(self.driver.cuCtxSetCurrent(before))

    def stream(self, library: str) -> Any:
        """Return the current stream of a library, as cuda.core's; the default one of the device for others."""
        handle = 0
        if library == "torch":
            handle = sys.modules["torch"].cuda.current_stream(self.ordinal).cuda_stream
        elif library == "cupy":
            handle = sys.modules["cupy"].cuda.get_current_stream().ptr
        if handle not in self.streams:
            known = self.core.Stream
            self.streams[handle] = known.from_handle(handle) if handle else self.device.default_stream
        return self.streams[handle]

    def allocate(self, size: int) -> Memory:
        """Return ``size`` bytes of device memory, not set."""
        before = self.enter()
        try:
            (address,) = _checked(self.driver.cuMemAlloc(max(size, 1)))
        finally:
            self.leave(before)
        return Memory(int(address), self.driver.cuMemFree)

    def upload(self, stream: Any, address: int, source: np.ndarray[Any, Any]) -> None:
        """Copy an array of bytes to the device, in the order of ``stream``; None: and wait for it."""
        if source.nbytes == 0:
            return
        before = self.enter()
        try:
            if stream is None:
                _checked(self.driver.cuMemcpyHtoD(address, source.ctypes.data, source.nbytes))
                _checked(self.driver.cuStreamSynchronize(0))
            else:
                _checked(self.driver.cuMemcpyHtoDAsync(address, source.ctypes.data, source.nbytes, stream.handle))
        finally:
            self.leave(before)

    def download(self, address: int, size: int) -> np.ndarray[Any, Any]:
        """Return bytes of the device, after all work on it."""
        found = np.empty(size, np.uint8)
        if size:
            before = self.enter()
            try:
                _checked(self.driver.cuCtxSynchronize())
                _checked(self.driver.cuMemcpyDtoH(found.ctypes.data, address, size))
            finally:
                self.leave(before)
        return found

    def copy(self, to: int, source: int, size: int) -> None:
        """Copy within the device, after all work on it; return when done."""
        if size:
            before = self.enter()
            try:
                _checked(self.driver.cuCtxSynchronize())
                _checked(self.driver.cuMemcpyDtoD(to, source, size))
                _checked(self.driver.cuCtxSynchronize())
            finally:
                self.leave(before)

    def wait(self) -> None:
        """Return when all work on the device is done."""
        before = self.enter()
        try:
            _checked(self.driver.cuCtxSynchronize())
        finally:
            self.leave(before)

    def capturing(self, stream: Any) -> bool:
        """Whether a CUDA graph is being captured from ``stream``."""
        return int(_checked(self.driver.cuStreamIsCapturing(stream.handle))[0]) != 0

    def kernel(self, kernel: Kernel) -> Any:
        """Return a kernel ready to launch, compiled where the cache has none."""
        if kernel not in self.kernels:
            code, entry = compile_cuda.cubin(kernel, self.cc)
            before = self.enter()
            try:
                self.kernels[kernel] = self.core.ObjectCode.from_cubin(code, name=kernel.name).get_kernel(entry)
            finally:
                self.leave(before)
        return self.kernels[kernel]

    def config(self, blocks: int, threads: int) -> Any:
        """Return what a launch of so many blocks needs."""
        return self.core.LaunchConfig(grid=blocks, block=threads)

    def pinned(self, size: int) -> tuple[Memory, np.ndarray[Any, Any]]:
        """Return page-locked memory of this process, and as an array of bytes."""
        before = self.enter()
        try:
            (address,) = _checked(self.driver.cuMemHostAlloc(size, 1))  # of use to all contexts
        finally:
            self.leave(before)
        memory = Memory(int(address), self.driver.cuMemFreeHost)
        return memory, np.frombuffer((_bytes(size)).from_address(memory.address), np.uint8)


class Ring:
    """Room for uploads: each is copied to page-locked memory, which is used again when the device has read it."""

    def __init__(self, device: Any, size: int) -> None:
        self.device, self.size = device, size
        self.slots: list[Any] = []
        self.turn = 0
        self.captured: list[Any] = []  # a graph reads them at each replay

    def upload(self, stream: Any, pieces: list[tuple[int, np.ndarray[Any, Any]]]) -> None:
        """Copy (address, bytes) pairs to the device, in the order of ``stream``."""
        kept = self.device.capturing(stream)
        if kept:
            slot = [*self.device.pinned(self.size), None]
            self.captured.append(slot)
        elif len(self.slots) < SLOTS:
            slot = [*self.device.pinned(self.size), None]
            self.slots.append(slot)
        else:
            slot = self.slots[self.turn]
            self.turn = (self.turn + 1) % SLOTS
            slot[2].sync()
        at = 0
        for address, source in pieces:
            room = slot[1][at : at + source.nbytes]
            room[:] = source
            self.device.upload(stream, address, room)
            at += source.nbytes
        if not kept:
            slot[2] = stream.record()


def _bytes(size: int) -> Any:
    import ctypes

    return ctypes.c_char * size


def _checked(result: Any) -> Any:
    """Return what a call of the driver returned besides its status; RuntimeError with the driver's words else."""
    status, *values = result
    if int(status):
        raise RuntimeError(f"the CUDA driver returned {status!r}")
    return values


_lock = threading.Lock()


@cache
def _found(ordinal: int) -> GPU:
    return GPU(ordinal)


def find(ordinal: int) -> GPU:
    """Return a GPU by its number."""
    with _lock:
        return _found(ordinal)


def of(address: int) -> int:
    """Return the number of the GPU whose memory ``address`` is in."""
    from cuda.bindings import driver

    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(_checked(driver.cuPointerGetAttribute(attribute, address))[0])


def why_not() -> str | None:
    """Return why no GPU can be used, in the words of whatever failed, or None where one can."""
    try:
        find(0)
    except Exception as error:  # noqa: BLE001 - missing wheels, no driver, no GPU: each library has errors of its own
        return f"{type(error).__name__}: {error}"
    return None
