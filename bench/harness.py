"""Contenders take turns over the same buffers; what counts is the median of their ratios within a round."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

from .noise import Noise

TURN = 5e-3  # seconds of one turn at least: OpenMP's threads spin for milliseconds after the contender before
SLOW = 0.1  # a call of so many seconds does not feel the spinning of others
FEW = 3  # rounds that a contender far slower than the subject takes part in


@dataclass(frozen=True)
class Bar:
    """What is to be reached.

    ``faster``: the peer takes at least ``value`` times the subject's time; ``within``: the subject takes at most
    ``value`` times the peer's; ``seconds``: a call takes at most so long.
    """

    kind: str
    value: float
    peer: str = ""


def faster(peer: str, value: float) -> Bar:
    """The subject is ``value`` times as fast as ``peer``, or more."""
    return Bar("faster", value, peer)


def within(peer: str, value: float) -> Bar:
    """The subject takes ``value`` times as long as ``peer``, or less."""
    return Bar("within", value, peer)


def seconds(value: float) -> Bar:
    """A call takes so long at most."""
    return Bar("seconds", value)


@dataclass(frozen=True)
class Contender:
    """A way to do the work of a case.

    ``bytes`` are read and written for each element, by what the algorithm says; ``prepare`` runs before each turn,
    untimed; ``result`` is what the first call must leave behind: "bits" of the reference, "close" to it, "near" it,
    which is less, "untouched". A call that ``times_itself`` returns its seconds.
    """

    name: str
    call: Callable[[], object]
    bytes: float | None = None
    prepare: Callable[[], object] | None = None
    result: str = "close"
    times_itself: bool = False


class Race:
    """The turns of some contenders, the first of which is the subject: the others are measured against it."""

    def __init__(self, contenders: Sequence[Contender], rounds: int) -> None:
        self.contenders, self.rounds = contenders, rounds
        self.calls: dict[str, int] = {}
        self.every: dict[str, int] = {}
        self.times: dict[str, dict[int, float]] = {c.name: {} for c in contenders}
        first = {c.name: self._first(c) for c in contenders}
        subject = contenders[0].name
        for name, time in first.items():
            self.calls[name] = max(1, math.ceil(TURN / time))
            slow = time > max(8 * first[subject], 2 * TURN)
            self.every[name] = max(1, rounds // FEW) if slow else 1

    def run(self, benchmark: Any) -> None:
        """Take all turns; those of the subject are pytest-benchmark's rounds."""
        subject = self.contenders[0]
        turns = self._turns()

        def others_first() -> None:
            for round, c in turns:
                if c is subject:
                    self._warm(c)
                    self.round = round
                    return
                self._turn(round, c)

        gc.collect()
        gc.disable()  # torch's Python side makes garbage, which would be collected in someone else's turn
        try:
            benchmark.pedantic(lambda: self._time(self.round, subject), setup=others_first, rounds=self.rounds)
            for round, c in turns:
                self._turn(round, c)
        finally:
            gc.enable()

    def results(self) -> dict[str, dict[str, Any]]:
        """Return the median time of a call, and the median over rounds of the ratio to the subject, by contender."""
        base = self.times[self.contenders[0].name]
        return {
            c.name: {
                "seconds": median(self.times[c.name].values()),
                "ratio": median(t / base[round] for round, t in self.times[c.name].items()),
                "rounds": len(self.times[c.name]),
                "bytes": c.bytes,
            }
            for c in self.contenders
        }

    def _turns(self) -> Iterator[tuple[int, Contender]]:
        for round in range(self.rounds):
            k = round % len(self.contenders)
            for c in (*self.contenders[k:], *self.contenders[:k]):
                if round % self.every[c.name] == 0:
                    yield round, c

    def _first(self, c: Contender) -> float:
        for _ in range(2):
            if c.prepare:
                c.prepare()
            start = perf_counter()
            c.call()
            took = perf_counter() - start
            if took > SLOW:  # once is enough
                break
        return took

    def _warm(self, c: Contender) -> None:
        """Bring back a contender's data and threads, and outlast the spinning threads of the one before."""
        if c.prepare:
            c.prepare()
        start = perf_counter()
        while True:
            c.call()
            if perf_counter() - start > TURN:
                return

    def _turn(self, round: int, c: Contender) -> None:
        known = self.times[c.name]
        if c.prepare or not known or known[min(known)] < SLOW:
            self._warm(c)
        self._time(round, c)

    def _time(self, round: int, c: Contender) -> None:
        call, calls = c.call, self.calls[c.name]
        if c.times_itself:
            self.times[c.name][round] = call()
            return
        start = perf_counter()
        for _ in range(calls):
            call()
        self.times[c.name][round] = (perf_counter() - start) / calls


def race(benchmark: Any, title: str, contenders: Sequence[Contender], bar: Sequence[Bar], rounds: int,
         elements: int, errors: dict[str, float] | None = None, **facts: Any) -> None:  # fmt: skip
    """Let the contenders race and leave everything in pytest-benchmark's ``extra_info``."""
    noise = Noise()
    contest = Race(contenders, rounds)
    contest.run(benchmark)
    results = contest.results()
    for name, result in results.items():
        result["max_error"] = (errors or {}).get(name)
        result["gb_per_s"] = result["bytes"] and result["bytes"] * elements / result["seconds"] / 1e9
    limits = [name for name in results if name.startswith("limit ")]
    if limits:  # the better of the variants
        best = min(limits, key=lambda name: results[name]["seconds"])
        results["limit"] = {**results[best], "variant": best}
        for name in limits:
            del results[name]
    subject = contenders[0].name
    benchmark.group = title
    benchmark.extra_info.update(
        title=title, subject=subject, elements=elements, calls=contest.calls[subject], contenders=results,
        bar=[asdict(b) for b in bar], others=noise.share(), **facts,
    )  # fmt: skip
