"""What models are trained on: data that scikit-learn brings along, or a file; its split, and its scaling."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..arrays.backend import Array
from ..kernels.numerics import reductions
from . import table

BUNDLED = ("digits", "breast_cancer", "diabetes")
TASKS = ("auto", "classification", "regression")
FEW = 20  # whole numbers with no more different values than this are taken for classes


@dataclass(frozen=True)
class Rows:
    """Features (rows, columns) and targets (rows,) as they were read.

    Attributes
    ----------
    classes : array, or None for a regression
        All labels; ``y`` then has the number of each row's label.
    image_shape : (channels, height, width) of a row, or None
    """

    name: str
    x: Array
    y: Array
    columns: list[str]
    classes: Array | None
    image_shape: tuple[int, ...] | None

    @property
    def task(self) -> str:
        """What is learned, for people."""
        return "regression" if self.classes is None else f"classification of {len(self.classes)} classes"

    @property
    def sha256(self) -> str:
        """The hash of features and targets."""
        return hashlib.sha256(self.x.tobytes() + self.y.tobytes()).hexdigest()


@dataclass(frozen=True)
class Scaling:
    """Subtract ``shift`` and divide by ``scale``, arrays with a number for each column."""

    shift: Array
    scale: Array

    def __call__(self, x: Array) -> Array:
        """Return the scaled columns, as float32; ValueError where one is too large for that."""
        with np.errstate(over="ignore"):
            scaled = np.ascontiguousarray((x - self.shift) / self.scale, np.float32)
        if not np.isfinite(scaled).all():
            raise ValueError("a number of the data is too large for float32, also after scaling")
        return scaled

    def back(self, z: Array) -> Array:
        """Return the columns of which ``z`` is the scaled form, as float64."""
        return np.asarray(z * self.scale + self.shift)


def standard(x: Array) -> Scaling:
    """Return what gives columns mean 0 and variance 1; sums are taken in a fixed order, for the same bits anywhere."""
    shift = np.array([reductions.tree_sum(column) for column in x.T]) / len(x)
    variance = np.array([reductions.tree_sum(column * column) for column in (x - shift).T]) / len(x)
    scale = np.sqrt(variance)
    constant = (x == x[0]).all(axis=0)  # the mean is rounded: the variance need not be 0
    return Scaling(shift, np.where(~constant & (scale > 0) & np.isfinite(scale), scale, 1.0))


def pixels(x: Array) -> Scaling:
    """Return what brings all columns into [-1, 1] by one factor: 0 stays 0, as augmentation wants it."""
    top = float(np.abs(x).max())
    return Scaling(np.zeros(x.shape[1]), np.full(x.shape[1], top if top > 0 else 1.0))


def load(data: str, target: str | None, task: str = "auto", image_shape: tuple[int, ...] | None = None) -> Rows:
    """Return the data called ``data``, or in the file of that name.

    Raises
    ------
    ValueError
        Where there is no such data, a column is missing, or something in it is no finite number.
    """
    if data in BUNDLED:
        rows = _bundled(data, target)
        own, shape = rows.task.split()[0], rows.image_shape
        if task not in ("auto", own):
            raise ValueError(f"task={task!r}: {data} is a {own}")
        if image_shape not in (None, shape):
            raise ValueError(f"image-shape={image_shape!r}: {data} has {shape or 'none'}")
        return rows
    path = Path(data)
    if not path.suffix and not path.exists():
        raise ValueError(f"data={data!r}: must be one of {', '.join(BUNDLED)}, or a file {', '.join(table.READERS)}")
    columns, shape = table.read(path)
    if target is None:
        raise ValueError(f"target is missing: --target must name one of the columns {_named(columns)}")
    features = [name for name in columns if name != target]
    if len(features) == len(columns) or not features:
        raise ValueError(f"target={target!r}: must be one of several columns; {path.name} has {_named(columns)}")
    y, classes = targets(columns[target], target, task)
    given = image_shape or (shape if shape is None or len(shape) == 3 else (1, *shape) if len(shape) == 2 else None)
    x = matrix(columns, features)
    if given is not None and np.prod(given) != x.shape[1]:
        raise ValueError(f"image-shape={given!r}: {path.name} has {x.shape[1]} features, not their product")
    return Rows(path.name, x, y, features, classes, given)


def features(data: str, columns: Sequence[str], target: str | None) -> tuple[Array, Array | None]:
    """Return the features called ``columns``, and the column ``target`` where it is given."""
    if data in BUNDLED:
        rows = _bundled(data, target)
        found: table.Columns = dict(zip(rows.columns, rows.x.T, strict=True))
        labels: Array | None = rows.y if rows.classes is None else rows.classes[rows.y]
    else:
        found, _ = table.read(Path(data))
        labels = found.get(target) if target is not None else None
        if target is not None and labels is None:
            raise ValueError(f"target={target!r}: must be one of the columns {_named(found)}")
    if lacking := [name for name in columns if name not in found]:
        raise ValueError(f"{Path(data).name} lacks columns that the model was trained on: {_named(lacking)}")
    return matrix(found, columns), labels


def matrix(columns: table.Columns, names: Sequence[str]) -> Array:
    """Return the columns called ``names`` side by side, as float64."""
    return np.stack([table.numbers(columns[name], name) for name in names], axis=1)


def targets(column: Array, name: str, task: str) -> tuple[Array, Array | None]:
    """Return the targets, and the classes where they are such: words, or few different whole numbers, if not said."""
    if (gaps := table.missing(column)).any():
        raise ValueError(f"target {name!r} is missing or NaN in row {int(gaps.argmax()) + 1}: leave such rows out")
    try:
        values: Array | None = table.numbers(column, name)
    except ValueError:
        if task == "regression" or not table.words(column).any():
            raise
        values = None
    if values is not None:
        whole = bool((values == np.floor(values)).all())
        large = bool(np.abs(values).max() >= 2**53)
        digits = large and column.dtype.kind != "f"  # float64 takes several of them for one
        few = whole and len(np.unique(column.astype(str) if digits else values)) <= FEW
        if task == "regression" or (task == "auto" and not few and column.dtype.kind != "b"):
            return values, None
        if digits:
            values = None
        else:
            column = values.astype(np.int64) if whole and not large else values
    classes, y = np.unique(column.astype(str) if values is None else column, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"target {name!r} has one class only, {classes[0]!s}: at least 2 are needed")
    return y.astype(np.int64), classes


def split(rows: int, seed: int) -> tuple[Array, Array]:
    """Return the numbers of the rows to train on, four fifths chosen by ``seed``, and of those held out."""
    if rows < 10:
        raise ValueError(f"the data has {rows} rows: at least 10 are needed, of which a fifth is held out")
    order = generator(seed, 0).permutation(rows)
    return order[rows // 5 :], order[: rows // 5]


def generator(seed: int, stream: int) -> np.random.Generator:
    """Return random numbers that depend on nothing else."""
    return np.random.Generator(np.random.PCG64([seed, stream]))


def _bundled(name: str, target: str | None) -> Rows:
    from sklearn import datasets

    if target is not None:
        raise ValueError(f"target={target!r}: {name} has a target of its own")
    found = getattr(datasets, f"load_{name}")()
    x, columns = np.asarray(found.data, np.float64), [str(column) for column in found.feature_names]
    if name == "diabetes":
        return Rows(name, x, np.asarray(found.target, np.float64), columns, None, None)
    shape = (1, 8, 8) if name == "digits" else None
    return Rows(name, x, found.target.astype(np.int64), columns, np.asarray(found.target_names), shape)


def _named(names: Sequence[str] | table.Columns, limit: int = 8) -> str:
    """Return names for an error message: the first ones, where there are many."""
    some = ", ".join(repr(name) for name in list(names)[:limit])
    return some if len(names) <= limit else f"{some} and {len(names) - limit} more"
