"""What the options of ``pyopt train`` are called and what ``--help`` says of them."""

from pathlib import Path
from typing import Annotated as An
from typing import Any, TypeAlias

import typer

from ..optim import OPTIMIZERS
from .schedule_text import SHORT
from .training import MODELS


def _option(panel: str, help: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **limits)


Text: TypeAlias = str | None
Several: TypeAlias = list[str] | None

FILES = "digits, breast_cancer, diabetes, or a file: .csv with names in its first line, .npz or .parquet."
Data = An[str, _option("Data", FILES)]
Target = An[Text, _option("Data", "The column of a file that is to be predicted.")]
Task = An[str, _option("Data", "classification, regression, or auto: by the target's values.")]
ImageShape = An[Text, _option("Data", "Rows are images: channels,height,width.")]
Seed = An[int, _option("Data", "Of everything random.", min=0)]

Model = An[str, _option("Model", " or ".join(MODELS) + ".")]
Hidden = An[str, _option("Model", "Units of the hidden layers: 100,50.")]
Dropout = An[float, _option("Model", "Share of the hidden units that is left out, in [0, 1).")]
BatchNorm = An[bool, _option("Model", "Normalise each layer.", "--batch-norm")]
Augment = An[Several, _option("Model", "Of images: rotate=10, scale=0.9,1.1, crop_padding=1, mixup=0.2. Several.")]
Ensemble = An[int, _option("Model", "Average so many models, each with a seed of its own.", min=1)]

Rule = An[str, _option("Optimizer", ", ".join(OPTIMIZERS) + ".")]
Rate = An[float | None, _option("Optimizer", "Learning rate.", show_default="by the scale of the data")]
BY_STEP = f"{', '.join(SHORT)}; or as in plot-schedule, with lr and steps: 'Cosine(lr, steps)'."
Schedule = An[Text, _option("Optimizer", BY_STEP)]
Set = An[Several, _option("Optimizer", "Another hyper-parameter: momentum=0.9, betas=0.9,0.99.", "--set")]
Penalty = An[Several, _option("Optimizer", "Of the weights: l1:1e-4, l2:1e-4, elastic_net:1e-4,0.5. Several add up.")]
Prox = An[Text, _option("Optimizer", "The same in its proximal form, for exact zeros: l1:1e-4, non_negative.")]

Epochs = An[int, _option("Training", "Trips through the training rows.", min=1)]
BatchSize = An[str, _option("Training", "Rows of a step, 1 for stochastic steps, or full; auto: 32.")]
STOPPING = "Watch a tenth of the training rows, and keep the best weights."
EarlyStopping = An[bool, _option("Training", STOPPING, "--early-stopping")]
Patience = An[int, _option("Training", "Epochs without progress before it stops early.", min=1)]
Folds = An[int, _option("Training", "Cross-validate with so many folds.", min=0, show_default="hold out a fifth")]
Threads = An[int | None, _option("Training", "Threads of a large step.", min=1, show_default="all")]
SAVED = "checkpoint.npz, or what --resume names"
Checkpoint = An[Path | None, _option("Training", "Where Ctrl-C saves the run, a .npz file.", show_default=SAVED)]
Resume = An[Path | None, _option("Training", "Go on with a run that was stopped.")]

CURVES = Path("curves.png")
Plot = An[Path, _option("Results", "Where the curves go, a .png file.")]
Save = An[Path | None, _option("Results", "Where the model goes, a .npz file.")]
