"""Merge what pytest-benchmark wrote in several processes: ``python -m bench.report FILES... --out FOLDER``.

Every figure is the median over processes, with the lowest and the highest beside it: a process has its luck with the
pages of its buffers, and keeps it to its end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """A figure over processes."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Return the spread of what is there, if anything."""
        known = [x for x in values if x is not None]
        return cls(min(known), median(known), max(known)) if known else None

    def show(self, form: Callable[[float], str]) -> str:
        """Return the median and, where there is one, the range."""
        if self.low == self.high:
            return form(self.middle)
        return f"{form(self.middle)} ({form(self.low)}..{form(self.high)})"


@dataclass(frozen=True)
class Measured:
    """A case, from all processes."""

    title: str
    subject: str
    elements: int
    isa: str
    bar: list[dict[str, Any]]
    infos: list[dict[str, Any]]

    @classmethod
    def of(cls, benches: Sequence[dict[str, Any]]) -> Measured:
        """Return what the records of one case say."""
        infos = [bench["extra_info"] for bench in benches]
        last = infos[-1]
        return cls(last["title"], last["subject"], last["elements"], last.get("isa", ""), last["bar"], infos)

    @property
    def peers(self) -> list[str]:
        """The contenders besides the subject."""
        return [name for name in self.infos[-1]["contenders"] if name != self.subject]

    def figure(self, contender: str, key: str) -> Spread | None:
        """Return a figure of a contender: seconds, ratio, gb_per_s, bytes, max_error."""
        return Spread.of(info["contenders"].get(contender, {}).get(key) for info in self.infos)

    def against(self, bar: dict[str, Any]) -> Spread | None:
        """Return the figure that a bar is about."""
        if bar["kind"] == "seconds":
            return self.figure(self.subject, "seconds")
        ratio = self.figure(bar["peer"], "ratio")
        if ratio is None or bar["kind"] == "faster":
            return ratio
        return Spread(1 / ratio.high, 1 / ratio.middle, 1 / ratio.low)


def duration(x: float) -> str:
    """Return seconds in a readable unit."""
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if x >= s), (1e-9, "ns"))
    return f"{x / scale:.3g} {unit}"


def factor(x: float) -> str:
    """Return a ratio with three digits."""
    return f"{x:.0f}x" if x >= 100 else f"{x:.3g}x"


def bars(measured: Iterable[Measured]) -> list[list[str]]:
    """Return a row for each bar: case, what is to be reached, the figure, the verdict."""
    rows = []
    for case in measured:
        for bar in case.bar:
            form = duration if bar["kind"] == "seconds" else factor
            goal = {
                "seconds": f"at most {duration(bar['value'])} a call",
                "faster": f"at least {factor(bar['value'])} as fast as {bar['peer']}",
                "within": f"at most {factor(bar['value'])} the time of {bar['peer']}",
            }[bar["kind"]]
            figure = case.against(bar)
            if figure is None:
                rows.append([case.title, goal, "-", "not measured"])
                continue
            low = bar["kind"] == "faster"
            reached = figure.middle >= bar["value"] if low else figure.middle <= bar["value"]
            rows.append([case.title, goal, figure.show(form), "reached" if reached else "**missed**"])
    return rows


def cases(measured: Sequence[Measured]) -> list[list[str]]:
    """Return a row for each contender of each case."""
    rows = []
    for case in measured:
        for name in (case.subject, *case.peers):
            time, ratio = case.figure(name, "seconds"), case.figure(name, "ratio")
            moved, rate, off = (case.figure(name, key) for key in ("bytes", "gb_per_s", "max_error"))
            share = case.figure("limit", "ratio") if name == case.subject else None
            rows.append([
                case.title if name == case.subject else "",
                name,
                time.show(duration) if time else "",
                f"{moved.middle:g}" if moved else "",
                f"{rate.middle:.3g}" if rate else "",
                share.show(lambda x: f"{x:.1%}") if share else "",
                ratio.show(factor) if ratio and name != case.subject else "",
                f"{off.high:.2g}" if off else "",
            ])  # fmt: skip
    return rows


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (header, *rows))


CASES = ("case", "contender", "time", "B/element", "GB/s", "share of limit", "time / subject's", "max error (eps)")
BARS = ("case", "to reach", "measured", "")


def summary(measured: Sequence[Measured]) -> str:
    """Return both tables as text for a terminal."""
    return f"{plain(CASES, cases(measured))}\n\n{plain(BARS, bars(measured))}".replace("**", "")


def merge(runs: Iterable[dict[str, Any]]) -> list[Measured]:
    """Put together what the processes measured of each case, in the order of the first run that has it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for bench in run["benchmarks"]:
            if "contenders" in bench["extra_info"]:  # one that failed has nothing to say
                found.setdefault(bench["fullname"], []).append(bench)
    return [Measured.of(benches) for benches in found.values()]


def conditions(runs: Sequence[dict[str, Any]], measured: Sequence[Measured]) -> str:
    """Return on what, with what and how was measured."""
    lines = []
    for run in runs:
        machine, commit = run["machine_info"], run["commit_info"]
        cpu = machine["cpu"]
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        changed = " with changes" if commit.get("dirty") else ""
        lines.append(
            f"- {cpu.get('brand_raw', cpu.get('arch', '?'))}, {cpu.get('count', '?')} cores, {machine['system']}; "
            f"Python {machine['python_version']}, {versions}; commit {str(commit.get('id'))[:10]}{changed}"
        )
    least = min(len(case.infos) for case in measured)
    noise = Spread.of(info.get("others") for case in measured for info in case.infos)
    others = noise.show(lambda x: f"{x:.2f}") if noise else "an unknown number of"
    isas = sorted({case.isa for case in measured if case.isa})
    return "\n".join(
        [
            *dict.fromkeys(lines),
            "",
            f"Medians over {least} or more processes (lowest..highest); instruction sets {', '.join(isas)}.",
            f"Other processes kept {others} CPUs busy meanwhile.",
            "In each process all contenders of a case take turns over the same buffers; ratios are taken within a",
            "round. The limit is a plain loop with the same reads and writes. Errors are against the float64",
            "reference, in units of float32's eps, of the larger of 1 and the value.",
        ]
    )


def main() -> None:
    """Write report.md and the plots."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="what --benchmark-json wrote")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for report.md and the plots")
    given = parser.parse_args()
    runs = [json.loads(path.read_text()) for path in given.files]
    measured = merge(runs)
    given.out.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Benchmarks", conditions(runs, measured), "## Bars", markdown(BARS, bars(measured)), "## Figures",
        markdown(CASES, cases(measured)),
    ]  # fmt: skip
    try:
        from .plots import draw
    except ImportError as error:
        print(f"no plots: {error}")
    else:
        parts += [f"![{name}]({name}.png)" for name in draw(measured, given.out)]
    path = given.out / "report.md"
    path.write_text("\n\n".join(parts) + "\n")
    print(path)


if __name__ == "__main__":
    main()
