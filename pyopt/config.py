"""What is in use, and why something is not."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from .kernels.cpu import engine, isa, threads


def show_config() -> dict[str, Any]:
    """Print which engines, instruction set and threads are in use, and return it as a dict.

    What is unavailable stands there with the original error.
    """
    available = isa.available()
    config = {
        "pyopt": version(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "instruction set": f"{isa.active()} (available: {', '.join(available)})",
        "openmp": "yes" if engine.has_openmp() else "no: built without it, every step is serial",
        "threads": threads.get_num_threads(),
        "container's quota": threads.cpu_quota() or "none",
    }
    config |= {f"not available: {name}": _why_not(name) for name in isa.NAMES if name not in available}
    gpu = _gpu()
    config["cuda" if gpu[0] else "not available: cuda"] = gpu[1]
    width = max(map(len, config))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in config.items()))
    return config


def _gpu() -> tuple[bool, str]:
    """Return whether a GPU can be used, and which or why not."""
    from .kernels.cuda import driver

    reason = driver.why_not()
    if reason is not None:
        return False, reason
    gpu = driver.find(0)
    return True, f"{gpu.device.name}, compute capability {gpu.cc[0]}.{gpu.cc[1]}"


def version() -> str:
    """Return the version of the installed distribution."""
    from importlib import metadata  # a third of what `import pyopt` takes

    try:
        return metadata.version("pyopt-kernels")
    except metadata.PackageNotFoundError:
        return "unknown: not installed as a distribution"


def _why_not(name: str) -> str:
    try:
        isa.tiles(name)
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    return "this CPU does not run it"
