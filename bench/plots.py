"""Plots of the ratios to a peer, a horizontal bar for each case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, NullLocator

from .report import Measured, Spread, factor

PEERS = {  # file, peer, what stands above, whether ratios span orders of magnitude
    "limit": ("limit", "pyopt's share of the limit: a plain loop with the same reads and writes", False),
    "torch_fused": ("torch fused", "Speed of pyopt relative to torch, fused", True),
    "numpy": ("numpy", "Speed of pyopt relative to in-place NumPy", True),
    "normal_numbers": ("normal numbers", "Speed on dead states relative to the same step on normal numbers", False),
}
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
REACHED, MISSED, UNJUDGED, INK = "#2a7f62", "#c8553d", "#7a8ca3", "#222222"


def draw(measured: Sequence[Measured], folder: Path) -> list[str]:
    """Write the plots that there are figures for; return their names."""
    names = []
    for name, (peer, title, log) in PEERS.items():
        found = [(case, ratio) for case in measured if (ratio := case.figure(peer, "ratio"))]
        if found:
            _plot(found, peer, title, log, folder / f"{name}.png")
            names.append(name)
    return names


def _plot(found: list[tuple[Measured, Spread]], peer: str, title: str, log: bool, path: Path) -> None:
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    for y, (case, ratio) in enumerate(found):
        _bar(axes, y, case, ratio, peer, 1.0 if log else 0.0)
    axes.axvline(1, color=INK, lw=0.8, zorder=1)
    axes.set_yticks(range(len(found)), [case.title for case, _ in found])
    axes.invert_yaxis()
    largest = max(ratio.high for _, ratio in found)
    if log:
        low, high = 0.8 * min(1.0, *(ratio.low for _, ratio in found)), 2 * largest
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_xticks([tick for tick in TICKS if low <= tick <= high])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, max(1, largest) * 1.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: factor(x)))
    axes.grid(axis="x", color="#ddd", lw=0.7, zorder=0)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(title, fontsize=11, loc="left", pad=10)
    axes.set_xlabel("line: from the lowest to the highest process; dashes: to be reached", fontsize=8, loc="right")
    figure.savefig(path, dpi=150)


def _bar(axes: Axes, y: int, case: Measured, ratio: Spread, peer: str, base: float) -> None:
    goal = next((bar for bar in case.bar if bar["peer"] == peer), None)
    least = goal and (goal["value"] if goal["kind"] == "faster" else 1 / goal["value"])
    color = UNJUDGED if least is None else REACHED if ratio.middle >= least else MISSED
    axes.barh(y, ratio.middle - base, left=base, color=color, height=0.62, zorder=2)
    axes.plot([ratio.low, ratio.high], [y, y], color=INK, lw=1.2, zorder=3, solid_capstyle="butt")
    end = max(ratio.high, base, least or 0)
    text = axes.annotate(factor(ratio.middle), (end, y), (5, 0), textcoords="offset points", va="center", fontsize=9)
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])  # grid lines end before it
    if least is not None:
        axes.plot([least, least], [y - 0.42, y + 0.42], color=INK, lw=1.6, ls=(0, (1.5, 1)), zorder=4)
