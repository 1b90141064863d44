"""Runs that were stopped: what they need to go on to the same bits, and what their files are to be called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..optim import Optimizer
from ..validate import integer
from . import archive
from . import model as models
from .training import Course, Run, Settings

TEXT, MAYBE = (str,), (str, type(None))
SETTINGS: dict[str, tuple[type, ...]] = {  # types of JSON by the types of Settings
    "str": TEXT, "str | None": MAYBE, "int": (int,), "float": (float, int), "float | None": (float, int, type(None)),
    "bool": (bool,), "tuple[str, ...]": (list,),
}  # fmt: skip
CURVES = ("train_loss", "held_loss", "held_score")
STOPPER: dict[str, tuple[type, ...]] = {
    "epoch": (int,), "wait": (int,), "best": (float, int, type(None)), "best_epoch": (int, type(None)),
    "stopped_epoch": (int, type(None)),
}  # fmt: skip
GENERATOR: dict[str, tuple[type, ...]] = {
    "bit_generator": TEXT, "state": (dict,), "has_uint32": (int,), "uinteger": (int,),
}  # fmt: skip


def save(run: Run, path: Path, outputs: Mapping[str, str | None]) -> None:
    """Write a checkpoint, with the paths that the run will write to; ValueError where that cannot be."""
    header: dict[str, Any] = {"settings": asdict(run.settings), "sha256": run.rows.sha256, "outputs": dict(outputs)}
    arrays: dict[str, Array] = {}
    header["courses"] = []
    for i, course in enumerate(run.courses):
        numbers, own = _parts(course)
        header["courses"].append(numbers)
        arrays |= {f"{i}/{name}": array for name, array in own.items()}
    archive.write("checkpoint", path, "checkpoint", header, arrays)


def load(path: Path) -> tuple[Run, dict[str, str | None]]:
    """Return the run of a checkpoint, and the paths it will write to.

    ValueError where the file is none, or the data is not what it was.
    """
    with archive.reading("resume", path, "checkpoint"):
        header, arrays = archive.read(path, "checkpoint")
        kinds = {"settings": (dict,), "sha256": TEXT, "outputs": (dict,), "courses": (list,)}
        archive.fields("checkpoint", header, kinds)
        outputs = archive.fields("outputs", header["outputs"], {"save": MAYBE, "plot": TEXT})
        settings = _settings(header["settings"])
    run = Run(settings)
    if run.rows.sha256 != header["sha256"]:
        raise ValueError(f"resume={str(path)!r}: {run.rows.name} is not what it was when the run began")
    with archive.reading("resume", path, "checkpoint"):
        if len(header["courses"]) > run.total // settings.epochs:
            raise ValueError(f"it has {len(header['courses'])} models in training: the run has fewer")
        for numbers in header["courses"]:
            if run.courses and not run.courses[-1].done:
                raise ValueError("it has two models in training at a time")
            run.courses.append(_course(run, len(run.courses), numbers, arrays))
        archive.all_taken(arrays)
    return run, outputs


def _settings(given: dict[str, Any]) -> Settings:
    archive.fields("settings", given, {f.name: SETTINGS[str(f.type)] for f in fields(Settings)})
    made: dict[str, Any] = {name: tuple(value) if type(value) is list else value for name, value in given.items()}
    if not all(type(x) is str for value in made.values() if type(value) is tuple for x in value):
        raise ValueError("settings of its header has lists of something else than words")
    return Settings(**made)


def _parts(course: Course) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the numbers and the arrays of what is trained."""
    estimator, stopper = course.estimator, course.stopper
    arrays = dict(models.named(estimator._model))  # noqa: SLF001
    arrays |= {name: np.array(getattr(course, name), np.float64) for name in CURVES}
    states = None
    if isinstance(estimator._optimizer, Optimizer):  # noqa: SLF001 - the fast epochs of SGD have none
        states = []
        for i, state in estimator._optimizer.state_dict()["state"].items():  # noqa: SLF001
            states.append({name: x for name, x in state.items() if not isinstance(x, np.ndarray)})
            arrays |= {f"state{i}/{name}": x for name, x in state.items() if isinstance(x, np.ndarray)}
    progress = None
    if stopper is not None:
        found = stopper.state_dict()
        progress = {name: found[name] for name in STOPPER}
        arrays |= {f"best{i}": array for i, array in enumerate(found["best_weights"])}
    numbers = {
        "epoch": course.epoch, "t": estimator.t_, "generator": estimator._rng.bit_generator.state,  # noqa: SLF001
        "states": states, "stopper": progress,
    }  # fmt: skip
    return numbers, arrays


def _course(run: Run, job: int, numbers: Any, arrays: dict[str, Array]) -> Course:
    """Return what is trained: made anew from the settings and the data, and filled with what a file has."""
    kinds = {"epoch": (int,), "t": (int,), "generator": (dict,), "states": (list, type(None)),
             "stopper": (dict, type(None))}  # fmt: skip
    archive.fields("a model", numbers, kinds)
    fold, member = divmod(job, run.settings.ensemble)
    course, part = run.start(member), run.part(fold)
    estimator = course.estimator
    estimator._begin(part.x, part.y, None, True, True, run.known.get("classes"))  # noqa: SLF001
    model = estimator._model  # noqa: SLF001
    models.fill(model, arrays, f"{job}/")
    course.epoch = estimator.n_iter_ = integer("epoch", numbers["epoch"], 1)
    if course.epoch > run.settings.epochs:
        raise ValueError(f"epoch={course.epoch}: the run has {run.settings.epochs}")
    estimator.t_ = integer("t", numbers["t"], 1)
    archive.fields("generator", numbers["generator"], GENERATOR)
    archive.fields("generator", numbers["generator"]["state"], {"state": (int,), "inc": (int,)})
    estimator._rng.bit_generator.state = numbers["generator"]  # noqa: SLF001
    for name in CURVES:
        curve = archive.take(arrays, f"{job}/{name}", np.float64, (course.epoch,), finite=False)
        setattr(course, name, curve.tolist())
    if numbers["states"] is not None:
        _load_states(estimator._make_optimizer(), numbers["states"], arrays, f"{job}/state")  # noqa: SLF001
    estimator._publish()  # noqa: SLF001
    if (course.stopper is None) != (numbers["stopper"] is None):
        raise ValueError("the early stopping of its header is not that of the settings")
    if course.stopper is not None:
        progress = archive.fields("stopper", numbers["stopper"], STOPPER)
        shapes = [array.shape for array in model.state]
        best = [archive.take(arrays, f"{job}/best{i}", np.float32, shape) for i, shape in enumerate(shapes)]
        course.stopper.load_state_dict({**course.stopper.state_dict(), **progress, "best_weights": best})
        if not (progress["best_epoch"] or 0) < course.epoch == progress["epoch"]:
            raise ValueError("the early stopping of its header is of other epochs")
    return course


def _load_states(optimizer: Optimizer, numbers: list[Any], arrays: dict[str, Array], prefix: str) -> None:
    """Give an optimizer, which checks them, the states of a file."""
    state: dict[int, dict[str, Any]] = {}
    for i, own in enumerate(numbers):
        archive.fields("a state", own, {"step": (int,), "carry": (float, int)})
        names = [name for name in arrays if name.startswith(f"{prefix}{i}/")]
        state[i] = own | {name.rpartition("/")[2]: arrays.pop(name) for name in names}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
