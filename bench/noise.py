"""How much of the machine others used meanwhile: a contender with two threads waits for the slower one."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter

STAT = Path("/proc/stat")


class Noise:
    """CPUs that other processes kept busy since this was made."""

    def __init__(self) -> None:
        self.start = self._now()

    def share(self) -> float | None:
        """Return busy CPUs besides this process and its children, on average; None where the system does not say."""
        before, now = self.start, self._now()
        if before is None or now is None:
            return None
        busy, own, time = (b - a for a, b in zip(before, now, strict=True))
        return max(0.0, busy - own) / time

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        if not STAT.exists():
            return None
        user, nice, system, _, _, irq, softirq, steal = map(int, STAT.read_text().split()[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy, sum(os.times()[:4]), perf_counter()
