"""How many threads a step may take: what the user says, else what OpenMP and the container allow.

OpenMP knows OMP_NUM_THREADS, threadpoolctl and the CPU affinity of the process, but not the quota of a container.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from . import engine


def set_num_threads(n: int | None) -> None:
    """Let large steps take ``n`` threads from now on; None returns to the number at import.

    Raises ValueError where n is no integer from 1 to 1024.
    """
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 1024):
        raise ValueError(f"n={n!r}: the number of threads must be an integer from 1 to 1024, or None")
    engine.set_threads(n or 0)


def get_num_threads() -> int:
    """Return how many threads the next large step takes."""
    return engine.threads()  # type: ignore[no-any-return]


def cpu_quota(root: str = "/") -> int | None:
    """Return how many CPUs the control group of this process may use, rounded up, or None where there is no limit."""
    quotas = []
    for cgroup in _cgroups(Path(root)):
        try:
            if (cgroup / "cpu.max").exists():  # version 2
                quota, period = (cgroup / "cpu.max").read_text().split()
            else:
                quota, period = ((cgroup / f"cpu.cfs_{x}_us").read_text().strip() for x in ("quota", "period"))
            if quota not in ("max", "-1"):
                quotas.append(math.ceil(int(quota) / int(period)))
        except (OSError, ValueError):
            continue
    return max(1, min(quotas)) if quotas else None


def _cgroups(root: Path) -> list[Path]:
    """Return the folders of this process's control groups and all their parents, under versions 2 and 1."""
    base = root / "sys/fs/cgroup"
    found = [base, base / "cpu"]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            here = (base if controllers == "" else base / "cpu") / path.strip("/")
            found += [folder for folder in (here, *here.parents) if base in folder.parents]
    return found


def _from_environment() -> None:
    """Take over PYOPT_NUM_THREADS, and the container's quota where OMP_NUM_THREADS does not say otherwise."""
    text = os.environ.get("PYOPT_NUM_THREADS")
    if text is not None:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1024:
            raise ImportError(f"PYOPT_NUM_THREADS={text!r}: must be an integer from 1 to 1024")
        engine.set_threads(int(text))
    if "OMP_NUM_THREADS" not in os.environ:
        engine.set_ceiling(cpu_quota() or 0)


_from_environment()
