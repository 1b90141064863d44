"""The driver: memory, copies, streams and launches on one GPU, by cuda.core and cuda.bindings.

``find(ordinal)`` returns a GPU, or raises the driver's own error where there is none.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from . import compiler

if TYPE_CHECKING:
    from .entry_points import Kernel

BLOCK = 1 << 22  # bytes of page-locked memory to ask for at a time


class Buffer:
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
        (self.own,) = _checked(driver.cuStreamCreate(1))  # which the default stream does not wait for
        if int(before):
            _checked(driver.cuCtxSetCurrent(before))
        self.cc = tuple(self.device.compute_capability)
        self.multiprocessors = self.device.properties.multiprocessor_count
        (self.count,) = _checked(driver.cuDeviceGetCount())
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
            self.streams[handle] = self.core.Stream.from_handle(handle) if handle else self.device.default_stream
        return self.streams[handle]

    @contextmanager
    def here(self) -> Iterator[None]:
        """Make this GPU the current one within the block, and allow what a capture of a CUDA graph would forbid."""
        relaxed = self.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        before = self.enter()
        try:
            (mode,) = _checked(self.driver.cuThreadExchangeStreamCaptureMode(relaxed))
            try:
                yield
            finally:
                _checked(self.driver.cuThreadExchangeStreamCaptureMode(mode))
        finally:
            self.leave(before)

    def allocate(self, size: int) -> Buffer:
        """Return ``size`` bytes of device memory, not set."""
        with self.here():
            (address,) = _checked(self.driver.cuMemAlloc(max(size, 1)))
        return Buffer(int(address), self.free)

    def free(self, address: int) -> None:
        """Give memory of the device back."""
        with self.here():
            self.driver.cuMemFree(address)

    def upload(self, stream: Any, address: int, source: np.ndarray[Any, Any]) -> None:
        """Copy an array of bytes in page-locked memory to the device, in the order of ``stream``."""
        if source.nbytes:
            before = self.enter()
            try:
                _checked(self.driver.cuMemcpyHtoDAsync(address, source.ctypes.data, source.nbytes, stream.handle))
            finally:
                self.leave(before)

    def place(self, address: int, source: np.ndarray[Any, Any]) -> None:
        """Copy an array of bytes to memory of the device that nothing under way uses; return when it is there."""
        if source.nbytes:
            with self.here():
                _checked(self.driver.cuMemcpyHtoDAsync(address, source.ctypes.data, source.nbytes, self.own))
                _checked(self.driver.cuStreamSynchronize(self.own))

    def clear(self, address: int, size: int) -> None:
        """Set bytes that nothing under way uses to 0; return when done."""
        if size:
            with self.here():
                _checked(self.driver.cuMemsetD8Async(address, 0, size, self.own))
                _checked(self.driver.cuStreamSynchronize(self.own))

    def set_ones(self, stream: Any, address: int, count: int) -> None:
        """Set float64 numbers to 1, in the order of ``stream``: their lower halves, then their upper ones."""
        before = self.enter()
        try:
            for offset, word in ((0, 0), (4, 0x3FF00000)):
                _checked(self.driver.cuMemsetD2D32Async(address + offset, 8, word, 1, count, stream.handle))
        finally:
            self.leave(before)

    def download(self, address: int, size: int) -> np.ndarray[Any, Any]:
        """Return bytes of the device, after all work on it."""
        found = np.empty(size, np.uint8)
        if size:
            with self.here():
                _checked(self.driver.cuCtxSynchronize())
                _checked(self.driver.cuMemcpyDtoH(found.ctypes.data, address, size))
        return found

    def copy(self, to: int, source: int, size: int) -> None:
        """Copy within the device, after all work on it; return when done."""
        if size:
            with self.here():
                _checked(self.driver.cuCtxSynchronize())
                _checked(self.driver.cuMemcpyDtoD(to, source, size))
                _checked(self.driver.cuCtxSynchronize())

    def wait(self) -> None:
        """Return when all work on the device is done."""
        with self.here():
            _checked(self.driver.cuCtxSynchronize())

    def holds(self, address: int) -> bool:
        """Whether ``address`` is in the memory of this GPU."""
        return self.count == 1 or address == 0 or of(address) == self.ordinal

    def capturing(self, stream: Any) -> bool:
        """Whether a CUDA graph is being captured from ``stream``."""
        return int(_checked(self.driver.cuStreamIsCapturing(stream.handle))[0]) != 0

    def kernel(self, kernel: Kernel) -> Any:
        """Return a kernel ready to launch, compiled where the cache has none."""
        if kernel not in self.kernels:
            code, entry = compiler.cubin(kernel, self.cc)
            with self.here():
                self.kernels[kernel] = self.core.ObjectCode.from_cubin(code, name=kernel.name).get_kernel(entry)
        return self.kernels[kernel]

    def config(self, blocks: int, threads: int) -> Any:
        """Return what a launch of so many blocks needs."""
        return self.core.LaunchConfig(grid=blocks, block=threads)

    def pinned(self, size: int) -> tuple[Buffer, np.ndarray[Any, Any]]:
        """Return page-locked memory of this process, and as an array of bytes."""
        with self.here():
            (address,) = _checked(self.driver.cuMemHostAlloc(size, 1))  # of use to all contexts
        memory = Buffer(int(address), self.driver.cuMemFreeHost)
        return memory, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(memory.address))


class StagingRing:
    """Room for uploads in page-locked memory: used again when the device has read it, and more of it until then.

    So the host waits for no upload, however many steps it is ahead. Memory comes for many at a time, as asking for it
    may wait too.
    """

    def __init__(self, device: Any, size: int) -> None:
        self.device, self.size = device, size
        self.blocks: list[Buffer] = []
        self.unused: list[Any] = []
        self.slots: deque[Any] = deque()  # room and what is recorded behind its upload: the oldest first

    def room(self) -> tuple[np.ndarray[Any, Any], Any]:
        """Return room for an upload, and an event to record behind it, if there is one."""
        if self.slots and self.slots[0][1].is_done:
            return self.slots.popleft()  # type: ignore[no-any-return]
        if not self.unused:
            count = max(4, min(64, BLOCK // max(self.size, 1)))
            memory, room = self.device.pinned(self.size * count)
            self.blocks.append(memory)
            self.unused = [(room[k * self.size : (k + 1) * self.size], None) for k in range(count)]
        return self.unused.pop()  # type: ignore[no-any-return]

    def upload(self, stream: Any, pieces: list[tuple[int, np.ndarray[Any, Any]]]) -> None:
        """Copy (address, bytes) pairs to the device, in the order of ``stream``."""
        room, event = self.room()
        at = 0
        for address, source in pieces:
            piece = room[at : at + source.nbytes]
            piece[:] = source
            self.device.upload(stream, address, piece)
            at += source.nbytes
        self.slots.append((room, stream.record(event)))


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
