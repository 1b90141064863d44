"""What ``pyopt plot-schedule`` draws: curves of schedules, on the terminal or into a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from .. import schedules
from . import files
from .schedule_text import parse

ENDINGS = (".png", ".svg", ".pdf")
POINTS = 20_000  # steps that are looked at, at most
COLOURS = ("cyan", "magenta", "yellow", "green", "red", "blue")
QUADRANTS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"  # by their bits: 1 upper left, 2 upper right, 4 lower left, 8 lower right
MARKS = "*o+x#@%&"


@dataclass(frozen=True)
class Curve:
    """A schedule, how it is written, and its values at some steps."""

    text: str
    schedule: schedules.Schedule
    steps: list[int]
    values: list[float]

    @property
    def panel(self) -> str:
        """What it is drawn among."""
        return "momentum" if isinstance(self.schedule, schedules.MomentumOf) else "learning rate"


def curve(text: str, steps: int) -> Curve:
    """Return the curve of a schedule such as ``Cosine(1e-3, 1000)``; ValueError or TypeError where it is none."""
    schedule, text = parse(text)
    at = sorted({i * (steps - 1) // (min(steps, POINTS) - 1) for i in range(min(steps, POINTS))})
    values = [schedule(t) for t in at]
    for t, value in zip(at, values, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is {value} at step {t}: draw fewer steps")
    return Curve(text, schedule, at, values)


# ---- to the terminal


def draw(curves: Sequence[Curve], console: Console) -> None:
    """Print the curves, learning rates and momenta apart."""
    for panel in dict.fromkeys(curve.panel for curve in curves):
        among = [curve for curve in curves if curve.panel == panel]
        _draw_panel(among, panel, console)


def _draw_panel(curves: Sequence[Curve], title: str, console: Console, height: int = 16) -> None:
    ascii_only = bool(console.options.ascii_only)
    marked = ascii_only or (len(curves) > 1 and console.color_system is None)  # what tells curves apart
    low, high = limits(curves)
    names = [f"{value:.3g}" for value in (high, (low + high) / 2, low)]
    margin = max(map(len, names))
    width = max(10, min(console.width, 110) - margin - 3)
    side, corner, line = "|+-" if ascii_only else "│└─"
    label = {0: names[0], height // 2: names[1], height - 1: names[2]}
    console.print(title, style="bold", highlight=False)
    cells = _cells(curves, width, height, low, high)
    for row in range(height):
        text = Text(f"{label.get(row, ''):>{margin}} {side}", no_wrap=True)
        for column in range(width):
            bits, which = cells.get((row, column), (0, 0))
            mark = MARKS[which % len(MARKS)] if marked and bits else QUADRANTS[bits]
            text.append(mark, COLOURS[which % len(COLOURS)] if bits else None)
        text.rstrip()
        console.print(text, highlight=False)
    console.print(f"{'':{margin}} {corner}{line * width}", highlight=False)
    console.print(f"{'':{margin}}  0{curves[0].steps[-1]:>{width - 1}}", highlight=False)
    for i, curve in enumerate(curves):
        mark = MARKS[i % len(MARKS)] if marked else QUADRANTS[12]
        text = Text(f"{'':{margin}}  ").append(mark * 2, COLOURS[i % len(COLOURS)])
        console.print(text.append(f" {curve.text}: {curve.values[0]:.4g} to {curve.values[-1]:.4g}"), highlight=False)


def limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the ends of the axis: learning rates stand on 0."""
    values = [value for curve in curves for value in curve.values]
    high = max(values)
    low = 0.0 if curves[0].panel == "learning rate" or min(values) == high else min(values)
    return low, high or 1.0


def _cells(curves: Sequence[Curve], width: int, height: int, low: float, high: float) -> dict[tuple[int, int], Any]:
    """Return the quadrants that are filled and the curve they belong to, by row and column; later curves lie above."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for i, curve in enumerate(curves):
        spans: dict[int, tuple[int, int]] = {}
        for t, value in zip(curve.steps, curve.values, strict=True):
            x = t * (2 * width - 1) // curve.steps[-1]
            y = round((high - value) / (high - low) * (2 * height - 1))
            first, last = spans.get(x, (y, y))
            spans[x] = min(first, y), max(last, y)
        first = last = 0
        for x in range(2 * width):
            first, last = spans.get(x, (last, last))  # between two steps that lie apart, the value of the one before
            for y in range(first, last + 1):
                bits, owner = found.get((y // 2, x // 2), (0, i))
                bit = 1 << (x % 2 + 2 * (y % 2))
                found[y // 2, x // 2] = (bits if owner == i else 0) | bit, i
    return found


# ---- into a file


def save(curves: Sequence[Curve], path: Path) -> None:
    """Write the curves to a file, learning rates above momenta."""
    panels = list(dict.fromkeys(curve.panel for curve in curves))
    figure = Figure(figsize=(9, 1.0 + 3.6 * len(panels)), layout="constrained")
    for panel, axes in zip(panels, figure.subplots(len(panels), 1, squeeze=False)[:, 0], strict=True):
        among = [curve for curve in curves if curve.panel == panel]
        for curve in among:
            axes.plot(curve.steps, curve.values, label=curve.text)
        low, high = limits(among)
        axes.set(xlabel="step", ylabel=panel, ylim=(low - 0.01 * (high - low), high + 0.05 * (high - low)))
        axes.grid(alpha=0.3)
        axes.legend()
    with files.replaced("output", path) as file:
        figure.savefig(file, dpi=130, format=path.suffix[1:].lower())
