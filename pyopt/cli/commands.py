"""The commands of ``pyopt``, for people to try the library out."""

from __future__ import annotations

import contextlib
import csv
import io
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated as An
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import show_config
from ..kernels.cpu.threads import set_num_threads
from . import Refused, archive, plot_schedule, report, schedule_text, training
from . import arguments as a
from . import checkpoint as checkpoints
from . import data as tables
from . import model as models
from .files import check, replaced
from .terminal import console, shown

app = typer.Typer(add_completion=False, help="Fused optimizer kernels: try them on real data.")


@app.command()
def config() -> None:
    """Say which engines, instruction set and threads are in use."""
    show_config()


@app.command()
def train(
    context: typer.Context,
    data: a.Data = "digits",
    target: a.Target = None,
    task: a.Task = "auto",
    image_shape: a.ImageShape = None,
    seed: a.Seed = 0,
    model: a.Model = "linear",
    hidden: a.Hidden = "100",
    dropout: a.Dropout = 0.0,
    batch_norm: a.BatchNorm = False,
    augment: a.Augment = None,
    ensemble: a.Ensemble = 1,
    optimizer: a.Rule = "adam",
    lr: a.Rate = None,
    schedule: a.Schedule = None,
    set_: a.Set = None,
    penalty: a.Penalty = None,
    prox: a.Prox = None,
    epochs: a.Epochs = 30,
    batch_size: a.BatchSize = "auto",
    early_stopping: a.EarlyStopping = False,
    patience: a.Patience = 10,
    cv: a.Folds = 0,
    threads: a.Threads = None,
    checkpoint: a.Checkpoint = None,
    resume: a.Resume = None,
    plot: a.Plot = a.CURVES,
    save: a.Save = None,
) -> None:
    """Train a model; show its curves and score, and the time of a step beside the NumPy reference."""
    with refusals():
        run, files = _run(context, resume)
    set_num_threads(threads)
    if stopped := _train(run, files):
        raise typer.Exit(128 + stopped)
    with refusals():
        if files.save is not None:
            models.save(run.model(), files.save)
        race = run.race()
        report.plot(run, files.plot)
    if resume is not None and (files.save is None or resume.resolve() != files.save.resolve()):
        resume.unlink(missing_ok=True)  # all that it was for is done
    report.show(run, race, files.plot, files.save)
    raise typer.Exit(0 if race.identical else 1)


@app.command()
def predict(
    model: An[Path, typer.Argument(help="What train --save wrote.")],
    data: An[str, typer.Argument(help="A file with the columns that the model was trained on, or digits...")],
    target: An[str | None, typer.Option(help="The column with the truth, to score the predictions.")] = None,
    output: An[Path | None, typer.Option(help="A .csv file for the predictions.", show_default="the terminal")] = None,
) -> None:
    """Predict the target of each row, one per line."""
    with refusals():
        trained = models.load(model)
        x, truth = tables.features(data, trained.columns, target)
        if output is not None:
            check("output", output, (".csv",))
        found = trained.predict(x)
        score = None if truth is None else report.scored(trained, found, truth, target or "target")
    if output is None:
        typer.echo("\n".join(map(shown, found.tolist())))
    else:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([["prediction"], *([x] for x in found.tolist())])
        with refusals(), replaced("output", output) as file:
            file.write(text.getvalue().encode())
        typer.echo(shown(output))
    if score is not None:
        typer.echo(score, err=True)


@app.command("plot-schedule")
def draw_schedule(
    schedules: An[list[str], typer.Argument(
        help=f"Such as 'Cosine(1e-3, 1000)': {', '.join(schedule_text.KINDS)}. Several are overlaid.")],
    steps: An[int, typer.Option(min=2, max=2**53, help="Steps to draw, from 0 on.")] = 1000,
    output: An[Path | None, typer.Option(help=f"A file to draw into: {', '.join(plot_schedule.ENDINGS)}.",
                                         show_default="the terminal")] = None,
) -> None:  # fmt: skip
    """Draw schedules of pyopt.schedules; OneCycle(...).momentum and Cyclic(...).momentum are schedules, too."""
    with refusals():
        curves = [plot_schedule.curve(text, steps) for text in schedules]
        if output is not None:
            check("output", output, plot_schedule.ENDINGS)
    if output is None:
        plot_schedule.draw(curves, console())
    else:
        with refusals():
            plot_schedule.save(curves, output)
        typer.echo(shown(output))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Make one line of what an option or a file is refused for."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Refused(str(error)) from None


@dataclass(frozen=True)
class Files:
    """What a run writes."""

    plot: Path
    save: Path | None
    checkpoint: Path

    def check(self, run: training.Run) -> None:
        """Raise ValueError where one of them cannot be written."""
        for name, ending in (("plot", report.ENDINGS), ("save", archive.ENDINGS), ("checkpoint", archive.ENDINGS)):
            if (path := getattr(self, name)) is not None:
                check(name, path, ending)
                if path.resolve() == Path(run.settings.data).resolve():
                    raise ValueError(f"{name}={str(path)!r}: this is the data")
        if run.settings.cv and self.save is not None:
            raise ValueError("--save with --cv: a cross-validation measures, and leaves no model")


def _run(context: typer.Context, resume: Path | None) -> tuple[training.Run, Files]:
    """Return a new run, or one that goes on, and its files.

    The settings given with --resume must be those that it began with; the files are those of then, unless given anew.
    """
    params = context.params
    given: dict[str, Any] = {
        f.name: tuple(params[f.name] or ()) if f.type == "tuple[str, ...]" else params[f.name]
        for f in fields(training.Settings)
    }
    if resume is None:
        run = training.Run(training.Settings(**given))
        files = Files(params["plot"], params["save"], params["checkpoint"] or Path("checkpoint.npz"))
    else:
        run, asked = checkpoints.load(resume)
        for name, value in given.items():
            if _typed(context, name) and value != getattr(run.settings, name):
                option, began = name.strip("_").replace("_", "-"), getattr(run.settings, name)
                raise ValueError(
                    f"--{option} {value}: the run that is resumed has {began}, and only goes on as it began"
                )
        save = params["save"] or (None if asked["save"] is None else Path(asked["save"]))
        plot = params["plot"] if _typed(context, "plot") else Path(str(asked["plot"]))
        files = Files(plot, save, params["checkpoint"] or resume)
    files.check(run)
    return run, files


def _typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _train(run: training.Run, files: Files) -> int:
    """Train with a progress bar; return 0, or the signal that has ended it, after saving a checkpoint."""
    screen = console(stderr=True)
    done = sum(course.epoch for course in run.courses)
    columns = [TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[noted]}")]  # fmt: skip
    if screen.width < 60:
        del columns[1]  # the numbers say more than a short bar
    with (
        stops(screen) as stop,
        Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress,
        refusals(),
    ):
        bar = progress.add_task(run.settings.optimizer, total=run.total, completed=done, noted="")
        for course in run.epochs():
            left = run.settings.epochs - course.epoch if course.done else 0  # of early stopping
            progress.update(bar, advance=1 + left, noted=f"{run.score_name} {course.held_score[-1]:.3f}")
            if stop and not run.done:
                save = None if files.save is None else str(files.save)
                checkpoints.save(run, files.checkpoint, {"save": save, "plot": str(files.plot)})
                break
        else:
            return 0
    words = ["pyopt", "train", "--resume", files.checkpoint]
    words += ["--plot", files.plot] if files.plot != a.CURVES else []
    words += ["--save", files.save] if files.save is not None else []
    typer.echo(f"pyopt: stopped; go on with: {shown(shlex.join(map(str, words)))}", err=True)
    return stop[0]


@contextlib.contextmanager
def stops(screen: Console) -> Iterator[list[int]]:
    """Yield a list to which Ctrl-C, SIGTERM and SIGHUP add their number, for a loop to end at the next epoch.

    A further Ctrl-C ends it at once. The others may come twice when a terminal is closed.
    """
    seen: list[int] = []

    def note(number: int, _: Any) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        seen.append(number)
        with contextlib.suppress(OSError):  # of a terminal that is gone
            screen.print("stopping after this epoch; Ctrl-C again stops at once, and saves nothing")

    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, note)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
