"""The commands of ``pyopt``, for people to try the library out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from . import _plot_schedule
from . import train as training
from ._config import show_config
from .kernels import isa
from .kernels.penalties import PENALTIES
from .kernels.spec import Penalty, Projection
from .kernels.threads import get_num_threads, set_num_threads

DATA = {"digits": "multinomial logistic regression", "diabetes": "linear regression on standardised columns"}

app = typer.Typer(add_completion=False, help="Fused optimizer kernels: try them on real data.")


@app.command()
def config() -> None:
    """Say which engines, instruction set and threads are in use."""
    show_config()


@app.command()
def train(
    data: Annotated[str, typer.Option(help="digits (classification) or diabetes (regression).")] = "digits",
    optimizer: Annotated[str, typer.Option(help=", ".join(training.OPTIMIZERS) + ".")] = "adam",
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default="one that suits the others")] = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(help="On the weights: l1:1e-4, l2:1e-4, elastic_net:1e-4,0.5. Several add up."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another hyper-parameter: momentum=0.9, betas=0.9,0.99.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Trips through the training rows.")] = 30,
    batch_size: Annotated[str, typer.Option(help="Rows a step sees, 1 for stochastic steps, or full.")] = "32",
    seed: Annotated[int, typer.Option(min=0, help="Of the split and the order of rows.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a large step.", show_default="all")] = None,
    output: Annotated[Path, typer.Option(help="Where the curves go, a .png file.")] = Path("curves.png"),
) -> None:
    """Train a linear model beside the NumPy reference, and show curves, accuracy, times and the hash of the weights."""
    try:
        _one_of("data", data, DATA)
        _one_of("optimizer", optimizer, training.OPTIMIZERS)
        penalties = [_penalty(text) for text in penalty or ()]
        hypers = _hypers(optimizer, set_ or ())
        _check_output(output, (".png",))
        rows = training.load(data, seed)
        rate = training.OPTIMIZERS[optimizer].rule.hyper("lr").default
        hypers["lr"] = training.RATES[data].get(optimizer, rate) if lr is None else lr
        size = _batch_size(batch_size, len(rows.x))
        run = training.fit(rows, optimizer, hypers, penalties, epochs, size, seed)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    set_num_threads(threads)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        *_, result = progress.track(run, total=epochs, description=f"{optimizer} on {data}")
    title = f"{data}: {DATA[data]} by {optimizer}, lr {hypers['lr']:g}"
    _plot(result, rows.score_name, title, output)
    _report(result, rows.score_name, f"{title}, {epochs} epochs of batches of {size}", output)
    if not all(map(math.isfinite, (result.train_loss[-1], result.held_loss[-1]))):
        typer.echo("pyopt: the loss is not finite any more: a smaller --lr may help", err=True)
    raise typer.Exit(0 if result.identical else 1)


@app.command("plot-schedule")
def plot_schedule(
    schedules: Annotated[
        list[str],
        typer.Argument(help=f"Such as 'Cosine(1e-3, 1000)': {', '.join(_plot_schedule.KINDS)}. Several are overlaid."),
    ],
    steps: Annotated[int, typer.Option(min=2, max=2**53, help="Steps to draw, from 0 on.")] = 1000,
    output: Annotated[
        Path | None,
        typer.Option(help=f"A file to draw into: {', '.join(_plot_schedule.ENDINGS)}.", show_default="the terminal"),
    ] = None,
) -> None:
    """Draw schedules of pyopt.schedules; OneCycle(...).momentum and Cyclic(...).momentum are schedules, too."""
    try:
        curves = [_plot_schedule.curve(text, steps) for text in schedules]
        if output is not None:
            _check_output(output, _plot_schedule.ENDINGS)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    if output is None:
        _plot_schedule.draw(curves, Console())
    else:
        _plot_schedule.save(curves, output)
        typer.echo(output)


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(known)}")


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is not a number") from None


def _penalty(text: str) -> Penalty:
    name, colon, values = text.partition(":")
    _one_of("penalty", name, [stem for stem, kind in PENALTIES.items() if not issubclass(kind, Projection)])
    if not colon:
        raise ValueError(f"penalty={text!r}: its coefficient is missing, as in {name}:1e-4")
    numbers = [_number(f"penalty={text!r}", value) for value in values.split(",")]
    try:
        return PENALTIES[name](*numbers)
    except TypeError:
        raise ValueError(f"penalty={text!r}: {len(numbers)} coefficients are the wrong number for {name}") from None


def _hypers(optimizer: str, settings: Sequence[str]) -> dict[str, Any]:
    """Return the hyper-parameters given as name=value; the optimizer checks their ranges."""
    known = [hyper.name for hyper in training.OPTIMIZERS[optimizer].rule.all_hypers if hyper.name != "lr"]
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in known:
            raise ValueError(f"set={setting!r}: must be name=value, with a name out of {', '.join(known)}")
        if text.lower() in ("true", "false"):
            found[name] = text.lower() == "true"
        else:
            numbers = tuple(_number(f"set={setting!r}", part) for part in text.split(","))
            found[name] = numbers if len(numbers) > 1 else numbers[0]
    return found


def _batch_size(text: str, rows: int) -> int:
    if text == "full":
        return rows
    size = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= size <= rows:
        raise ValueError(f"batch-size={text!r}: must be full or an integer in [1, {rows}], the number of training rows")
    return size


def _check_output(path: Path, endings: Sequence[str]) -> None:
    """Raise ValueError where a file cannot be written: before the work, not after."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"output={str(path)!r}: must end in {' or '.join(endings)}")
    existed = os.path.lexists(path)
    try:
        path.open("ab").close()
    except OSError as error:
        raise ValueError(f"output={str(path)!r} cannot be written: {error.strerror}") from None
    if not existed:
        path.unlink()


def _report(result: training.Result, score: str, title: str, output: Path) -> None:
    table, ratio = Table(show_header=False), result.reference_us / result.step_us
    rows = {
        "loss, training rows": f"{result.train_loss[-1]:.4f}",
        "loss, held out": f"{result.held_loss[-1]:.4f}",
        f"{score}, held out": f"{result.held_score[-1]:.4f}",
        "penalty": f"{result.penalty:.4g}",
        "optimizer step, pyopt": f"{result.step_us:.1f} us ({isa.active()}, {get_num_threads()} threads at most)",
        "optimizer step, NumPy reference": f"{result.reference_us:.1f} us ({ratio:.1f}x)",
        "weights of both": "identical bits" if result.identical else "DIFFERENT BITS",
        "SHA-256 of the weights": result.sha256[:16],
        "curves": str(output),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console()
    console.print(title, highlight=False)
    console.print(table)


def _plot(result: training.Result, score: str, title: str, output: Path) -> None:
    epochs = range(1, len(result.train_loss) + 1)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    style: dict[str, Any] = {"marker": "o", "markersize": 3}
    left.plot(epochs, result.train_loss, label="training rows", **style)
    left.plot(epochs, result.held_loss, label="held out", linestyle="--", **style)
    left.set(xlabel="epoch", ylabel="loss", title="Loss")
    last = f"held out, {result.held_score[-1]:.3f} at the end"
    right.plot(epochs, result.held_score, label=last, color="C2", **style)
    right.set(xlabel="epoch", ylabel=score, title=score[0].upper() + score[1:])
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title)
    figure.savefig(output, dpi=130)
