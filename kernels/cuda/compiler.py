"""From a kernel to machine code: Numba writes LTO-IR, nvJitLink links it without contraction, a folder keeps it.

The folder is ``PYOPT_CACHE_DIR``, else ``pyopt`` in ``XDG_CACHE_HOME`` or ~/.cache. A file there is named after a hash
of the kernel, the GPU's architecture, every source of this package and the version of every tool: what any of them
changes is compiled anew. Files appear whole, by a rename, so that processes may share the folder; one that cannot be
written or read costs a compilation and nothing else. Where the file is there, neither Numba nor LLVM is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from .device.intrinsics import Device

if TYPE_CHECKING:
    from .entry_points import Kernel

TOOLS = ("numba", "numba-cuda", "llvmlite", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink",
         "nvidia-nvjitlink-cu12", "numpy")  # fmt: skip

_lock = threading.RLock()  # Numba compiles one function at a time, and the device below is a global of its own


def folder() -> Path:
    """Return the folder that compiled kernels are kept in."""
    if given := os.environ.get("PYOPT_CACHE_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyopt"


@cache
def sources() -> str:
    """Return a hash of every source of the kernels, and of the version of every tool."""
    here = Path(__file__).parents[1]
    found = hashlib.sha256(platform.python_version().encode())
    for path in sorted(here.rglob("*.py")):
        found.update(f"{path.relative_to(here)}\0".encode() + path.read_bytes() + b"\0")
    for tool in TOOLS:
        with suppress(PackageNotFoundError):
            found.update(f"{tool} {version(tool)}\0".encode())
    return found.hexdigest()


def cubin(kernel: Kernel, cc: tuple[int, int]) -> tuple[bytes, str]:
    """Return the machine code of a kernel for compute capability ``cc``, and the name of its entry."""
    text = f"{kernel!r} {cc}"
    path = folder() / f"{kernel.name[:80]}-{hashlib.sha256(f'{sources()} {text}'.encode()).hexdigest()[:32]}.cubin"
    found = _read(path, text)
    if found is None:
        found = _named(link(kernel, cc))
        _write(path, text, *found)
    return found


def ltoir(kernel: Kernel, cc: tuple[int, int]) -> bytes:
    """Return what Numba makes of a kernel; a number of threads would overrule that of registers."""
    with _lock, _target(cc):
        from numba import cuda, types

        entry = kernel.entry(_memory(cc))
        entry.__name__ = entry.__qualname__ = kernel.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about performance of what is compiled, which is not run by Numba
            code, _ = cuda.compile(
                entry, types.void(*[types.uint64] * kernel.arguments), device=False, abi="numba", cc=cc,
                output="ltoir", launch_bounds=None if kernel.registers else kernel.threads,
            )  # fmt: skip
    return bytes(code)


@cache
def _memory(cc: tuple[int, int]) -> Any:
    """Return the memory that all kernels for ``cc`` share, with the functions made so far."""
    return Device()


@contextmanager
def _target(cc: tuple[int, int]) -> Iterator[None]:
    """Compile for ``cc`` within the block: Numba asks the current device what callees are for, also without one.

    It also asks NumPy for ``row_stack``, which was another name of ``vstack`` and left with NumPy 2.5.
    """
    from numba.cuda import dispatcher

    before, renamed = dispatcher.get_current_device, "row_stack" not in vars(np)
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    if renamed:
        vars(np)["row_stack"] = np.vstack
    try:
        yield
    finally:
        dispatcher.get_current_device = before
        if renamed:
            del vars(np)["row_stack"]


def options(kernel: Kernel, cc: tuple[int, int]) -> list[str]:
    """Return what nvJitLink is told: among it, to contract no multiplication and addition into one."""
    most = [f"-maxrregcount={kernel.registers}"] if kernel.registers else []
    return [f"-arch=sm_{cc[0]}{cc[1]}", "-lto", "-fma=0", *most]


def link(kernel: Kernel, cc: tuple[int, int], to: str = "cubin") -> bytes:
    """Return the machine code of a kernel, or its PTX."""
    from cuda.bindings import nvjitlink

    code, told = ltoir(kernel, cc), [*options(kernel, cc), *["-ptx"] * (to == "ptx")]
    handle = nvjitlink.create(len(told), told)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, code, len(code), "kernel")
        nvjitlink.complete(handle)
        size, get = (
            (nvjitlink.get_linked_ptx_size, nvjitlink.get_linked_ptx)
            if to == "ptx"
            else (nvjitlink.get_linked_cubin_size, nvjitlink.get_linked_cubin)
        )
        linked = bytearray(size(handle))
        get(handle, linked)
    finally:
        nvjitlink.destroy(handle)
    return bytes(linked)


def _named(code: bytes) -> tuple[bytes, str]:
    """Return machine code with the name of its only entry, which stands in the name of its section."""
    found = set(re.findall(rb"\0\.text\.([\w$.]+)\0", code))
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} kernels in what nvJitLink returned: one was expected")
    return code, found.pop().decode()


def _read(path: Path, text: str) -> tuple[bytes, str] | None:
    """Return what a file of the cache holds, or None where it is not there, not readable or not whole."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        given = json.loads(head)
    except (OSError, ValueError):
        return None
    if not isinstance(given, dict) or not isinstance(entry := given.get("entry"), str):
        return None
    whole = given == {"kernel": text, "entry": entry, "sha256": hashlib.sha256(code).hexdigest()}
    return (code, entry) if whole else None


def _write(path: Path, text: str, code: bytes, entry: str) -> None:
    """Keep machine code in the cache, where that is possible."""
    head: dict[str, Any] = {"kernel": text, "entry": entry, "sha256": hashlib.sha256(code).hexdigest()}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps(head).encode() + b"\n" + code)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
