"""Times on a GPU: events on its stream, contenders in turn, buffers rotated so that none is found in the L2 cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

ROUNDS = 7
LEAST = 2e-3  # seconds of one turn at least


def l2_bytes() -> int:
    """Return the size of the L2 cache."""
    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def sets_beyond_l2(bytes_of_one: int) -> int:
    """Return how many copies of the buffers a contender goes through in turn."""
    return max(1, min(64, -(-4 * l2_bytes() // max(1, bytes_of_one))))


def elapsed(calls: Sequence[Callable[[], object]], count: int) -> float:
    """Return the seconds of a call on the device, the mean over ``count`` calls in turn."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for k in range(count):
        calls[k % len(calls)]()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / count


def captured(calls: Sequence[Callable[[], object]]) -> list[Callable[[], object]]:
    """Return the calls as CUDA graphs, without what they cost the host."""
    graphs = []
    for call in calls:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        graphs.append(graph.replay)
    return graphs


def race(contenders: dict[str, Sequence[Callable[[], object]]]) -> dict[str, dict[str, Any]]:
    """Return the seconds of each contender in each round, the rounds in rotating order, and the first call apart."""
    found: dict[str, dict[str, Any]] = {}
    for name, calls in contenders.items():
        torch.cuda.synchronize()
        first = elapsed(calls, 1)
        found[name] = {"first": first, "count": max(len(calls), int(LEAST / max(elapsed(calls, len(calls)), 1e-7)))}
        found[name]["seconds"] = []
    names = list(contenders)
    for k in range(ROUNDS):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            found[name]["seconds"].append(elapsed(contenders[name], found[name]["count"]))
    for entry in found.values():
        entry["median"] = median(entry["seconds"])
    return found
