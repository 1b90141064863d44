"""What a run leaves for people: a table on the terminal, and curves in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table
from sklearn.metrics import r2_score

from ..arrays.backend import Array
from ..kernels.cpu import isa
from ..kernels.cpu.threads import get_num_threads
from . import files
from .model import Model
from .table import numbers
from .terminal import console, shown
from .training import Race, Run

ENDINGS = (".png",)


def title(run: Run) -> str:
    """Return what was trained, and how."""
    s = run.settings
    rate = "lr auto" if s.lr is None else f"lr {s.lr:g}"
    shape = s.model if s.model == "linear" else f"{s.model} ({s.hidden})"
    several = f"{s.ensemble} x " if s.ensemble > 1 else ""
    return f"{run.rows.name}: {run.rows.task}, {several}{shape} by {s.optimizer}, {rate}"


def show(run: Run, race: Race, plot: Path, save: Path | None) -> None:
    """Print the table."""
    s, table, ratio = run.settings, Table(show_header=False), race.reference_us / race.step_us
    folds = range(len(run.splits))
    rows: dict[str, str] = {}
    if s.cv:
        scores = [run.score(fold) for fold in folds]
        rows[f"{run.score_name}, {s.cv} folds"] = "  ".join(f"{score:.4f}" for score in scores)
        rows[f"{run.score_name}, mean"] = f"{np.mean(scores):.4f} +- {np.std(scores):.4f}"
    else:
        each = [course.held_score[course.kept] for course in run.courses]
        rows["loss, training rows"] = f"{np.mean([course.train_loss[course.kept] for course in run.courses]):.4f}"
        rows["loss, held out"] = f"{np.mean([course.held_loss[course.kept] for course in run.courses]):.4f}"
        if s.ensemble > 1:
            rows[f"{run.score_name}, members"] = "  ".join(f"{score:.4f}" for score in each)
        rows[f"{run.score_name}, held out"] = f"{run.score():.4f}"
        rows["penalty"] = f"{run.penalty():.4g}"
    if s.early_stopping:
        rows["epochs kept"] = "  ".join(str(course.kept + 1) for course in run.courses)
    rows |= {
        "optimizer step, pyopt": f"{race.step_us:.1f} us ({isa.active()}, {get_num_threads()} threads at most)",
        "optimizer step, NumPy reference": f"{race.reference_us:.1f} us ({ratio:.1f}x)",
        "weights of both": "identical bits" if race.identical else "DIFFERENT BITS",
        "SHA-256 of the weights": run.sha256[:16],
        "curves": str(plot),
    }
    if save is not None:
        rows["model"] = str(save)
    for name, value in rows.items():
        table.add_row(name, shown(value))
    out = console()
    out.print(shown(f"{title(run)}, {s.epochs} epochs of batches of {run.batch}"))
    out.print(table)


def plot(run: Run, path: Path) -> None:
    """Write the curves of all courses to a file."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    name, one = run.score_name, len(run.courses) == 1
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if one else {"alpha": 0.6}
    for i, course in enumerate(run.courses):
        epochs = range(1, course.epoch + 1)
        labels = ["training rows", "held out"] if i == 0 else [None, None]
        left.plot(epochs, course.train_loss, label=labels[0], color="C0", **style)
        left.plot(epochs, course.held_loss, label=labels[1], color="C1", linestyle="--", **style)
        last = f"held out, {course.held_score[course.kept]:.3f} in epoch {course.kept + 1}" if one else f"{i + 1}"
        right.plot(epochs, course.held_score, label=last, **style)
        if run.settings.early_stopping:
            left.axvline(course.kept + 1, color="C3", linewidth=1, label="kept" if i == 0 else None)
    left.set(xlabel="epoch", ylabel="loss", title="Loss")
    right.set(xlabel="epoch", ylabel=name, title=name[0].upper() + name[1:])
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    figure.suptitle(shown(title(run)), parse_math=False)  # a file may be called $x$
    with files.replaced("plot", path) as file:
        figure.savefig(file, dpi=130, format="png")


def scored(model: Model, found: Array, truth: Array, name: str) -> str:
    """Return the score of predictions, for people; ValueError where the truth, column ``name``, is of another kind."""
    if model.classes is None:
        return f"R^2 {r2_score(numbers(truth, name), found):.4f} on {len(found)} rows"
    same = numbers(truth, name) == found if model.classes.dtype.kind in "if" else truth.astype(str) == found
    return f"accuracy {np.mean(same):.4f} on {len(found)} rows"
