"""The commands of ``pyopt``, for people to try the library out."""

from __future__ import annotations

import contextlib
import csv
import signal
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated as An
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import show_config
from ..kernels.cpu.threads import set_num_threads
from . import Refused, options, plot_schedule, report, schedule_text, training
from . import arguments as a
from . import data as tables
from . import model as models

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
    checkpoint: a.Checkpoint = Path("checkpoint.skops"),
    resume: a.Resume = None,
    plot: a.Plot = Path("curves.png"),
    save: a.Save = None,
) -> None:
    """Train a model; show its curves and score, and the time of a step beside the NumPy reference."""
    with refusals():
        run = _run(context, resume)
        for name, path, endings in (("plot", plot, (".png",)), ("save", save, models.ENDINGS),
                                    ("checkpoint", checkpoint, (".skops",))):  # fmt: skip
            if path is not None:
                options.check_output(name, path, endings)
        if run.settings.cv and save is not None:
            raise ValueError("--save with --cv: a cross-validation measures, and leaves no model")
    set_num_threads(threads)
    if not _train(run, checkpoint):
        raise typer.Exit(130)
    race = run.race()
    report.plot(run, plot)
    if save is not None:
        models.save(run.model(), save)
    if resume is not None and (save is None or resume.resolve() != save.resolve()):
        resume.unlink(missing_ok=True)  # all that it was for is done
    report.show(run, race, plot, save)
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
            options.check_output("output", output, (".csv",))
        found = trained.predict(x)
        score = None if truth is None else report.scored(trained, found, truth, target or "target")
    if output is None:
        typer.echo("\n".join(map(str, found.tolist())))
    else:
        with output.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([["prediction"], *([x] for x in found.tolist())])
        typer.echo(output)
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
            options.check_output("output", output, plot_schedule.ENDINGS)
    if output is None:
        plot_schedule.draw(curves, Console())
    else:
        plot_schedule.save(curves, output)
        typer.echo(output)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Make one line of what an option or a file is refused for."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Refused(str(error)) from None


def _run(context: typer.Context, resume: Path | None) -> training.Run:
    """Return a new run, or one that goes on; the options given with --resume must be those that it began with."""
    names = {f.name for f in fields(training.Settings)}
    given: dict[str, Any] = {
        name: tuple(value or ()) if name in ("augment", "set_", "penalty") else value
        for name, value in context.params.items()
        if name in names
    }
    if resume is None:
        return training.Run(training.Settings(**given))
    run = training.Run.resumed(resume)
    for name, value in given.items():
        source = context.get_parameter_source(name)
        typed = source is not None and source.name == "COMMANDLINE"
        if typed and value != getattr(run.settings, name):
            option, began = name.strip("_").replace("_", "-"), getattr(run.settings, name)
            raise ValueError(f"--{option} {value}: the run that is resumed has {began}, and only goes on as it began")
    return run


def _train(run: training.Run, checkpoint: Path) -> bool:
    """Train with a progress bar; return False where Ctrl-C has ended it, after saving a checkpoint."""
    console = Console(stderr=True)
    done = sum(course.epoch for course in run.courses)
    columns = [TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[noted]}")]  # fmt: skip
    if console.width < 60:
        del columns[1]  # the numbers say more than a short bar
    with (
        stops(console) as stop,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        refusals(),
    ):
        bar = progress.add_task(run.settings.optimizer, total=run.total, completed=done, noted="")
        for course in run.epochs():
            left = run.settings.epochs - course.epoch if course.done else 0  # of early stopping
            progress.update(bar, advance=1 + left, noted=f"{run.score_name} {course.held_score[-1]:.3f}")
            if stop and not run.done:
                run.save(checkpoint)
                break
        else:
            return True
    typer.echo(f"pyopt: stopped; go on with: pyopt train --resume {checkpoint}", err=True)
    return False


@contextlib.contextmanager
def stops(console: Console) -> Iterator[list[int]]:
    """Yield a list that Ctrl-C makes non-empty, for a loop to end at the next epoch; a second one ends it at once."""
    pressed: list[int] = []

    def note(number: int, _: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        console.print("stopping after this epoch; Ctrl-C again stops at once, and saves nothing")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
