"""What ``pyopt train --save`` leaves and ``pyopt predict`` reads: networks or linear models, with their scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..estimators._models import ACTIVATIONS, Linear, Network
from ..kernels.linear_models import softmax
from ..validate import one_of
from . import archive
from .data import Scaling


@dataclass(frozen=True)
class Model:
    """Members of one kind, whose predictions are averaged, and what happens to features before and to numbers after.

    Attributes
    ----------
    members : list of Linear or Network
    features : Scaling of the features
    target : Scaling; for a classification it does nothing
    columns : names of the features
    classes : array of labels, or None for a regression
    """

    members: Sequence[Linear | Network]
    features: Scaling
    target: Scaling
    columns: list[str]
    classes: Array | None

    def outputs(self, x: Array) -> Array:
        """Return the mean of the members' probabilities (rows, classes), or numbers (rows, 1), for scaled features."""
        each = [member.infer(x) for member in self.members]
        if self.classes is not None:
            each = [softmax.forward(z) for z in each]
        return np.asarray(sum(z.astype(np.float64) for z in each) / len(each))

    def predict(self, x: Array) -> Array:
        """Return the class or number of each row of ``x`` (rows, columns), features as they are in a file."""
        z = self.outputs(self.features(np.asarray(x, np.float64)))
        if self.classes is not None:
            return np.asarray(self.classes[z.argmax(axis=1)])
        assert self.target is not None
        return np.asarray(z[:, 0] * self.target.scale[0] + self.target.shift[0])

    def predict_proba(self, x: Array) -> Array:
        """Return the probability of each class, (rows, classes); AttributeError for a regression."""
        if self.classes is None:
            raise AttributeError("probabilities are for classification")
        return self.outputs(self.features(np.asarray(x, np.float64)))


def named(member: Linear | Network) -> dict[str, Array]:
    """Return the arrays of a member by the names that they have in a file."""
    found: dict[str, Array] = {}
    layers = member.hidden if isinstance(member, Network) else []
    for i, layer in enumerate(layers, 1):
        found |= {f"w{i}": layer.w, f"b{i}": layer.b}
        if layer.scale is not None:
            found |= {f"scale{i}": layer.scale, f"mean{i}": layer.running[0], f"variance{i}": layer.running[1]}
    last = len(layers) + 1
    return found | {f"w{last}": member.w, f"b{last}": member.b}


def save(model: Model, path: Path) -> None:
    """Write a model; ValueError, and an older file stays, where that cannot be."""
    arrays = {
        "columns": np.array(model.columns),
        "x_shift": model.features.shift,
        "x_scale": model.features.scale,
        "y_shift": model.target.shift,
        "y_scale": model.target.scale,
    }
    if model.classes is not None:
        arrays["classes"] = model.classes
    first = model.members[0]
    header = {"activation": first.hidden[0].activation if isinstance(first, Network) else None}
    for i, member in enumerate(model.members):
        arrays |= {f"{i}/{name}": array for name, array in named(member).items()}
    archive.write("save", path, "model", header, arrays)


def load(path: str | Path) -> Model:
    """Return a model that was saved; ValueError where the file is none."""
    path = Path(path)
    with archive.reading("model", path, "model"):
        return _built(*archive.read(path, "model"))


def _built(header: dict[str, Any], arrays: dict[str, Array]) -> Model:
    activation = archive.fields("model", header, {"activation": (str, type(None))})["activation"]
    columns = archive.take(arrays, "columns", np.str_, (None,)).tolist()
    if len(set(columns)) < len(columns):
        raise ValueError("columns has a name twice")
    features, target = _scaling(arrays, "x", len(columns)), _scaling(arrays, "y", 1)
    classes = archive.take(arrays, "classes", np.generic, (None,)) if "classes" in arrays else None
    if classes is not None and not 2 <= len(classes) == len(np.unique(classes)):
        raise ValueError("classes must be 2 labels or more, each once")
    sizes = [len(columns)]
    while (w := arrays.get(f"0/w{len(sizes)}")) is not None:
        if w.ndim != 2 or len(w) != sizes[-1]:
            raise ValueError(f"0/w{len(sizes)} has shape {w.shape}: must be ({sizes[-1]}, outputs)")
        sizes.append(w.shape[1])
    outputs = 1 if classes is None or len(classes) == 2 else len(classes)
    if len(sizes) == 1 or sizes[-1] != outputs:
        raise ValueError(f"0/w{max(1, len(sizes) - 1)} must be there, with {outputs} outputs")
    if len(sizes) > 2:
        one_of("activation", activation, ACTIVATIONS)
    members: list[Linear | Network] = []
    while not members or f"{len(members)}/w1" in arrays:
        members.append(_member(arrays, len(members), sizes, activation))
    archive.all_taken(arrays)
    return Model(members, features, target, columns, classes)


def _scaling(arrays: dict[str, Array], of: str, columns: int) -> Scaling:
    shift, scale = (archive.take(arrays, f"{of}_{part}", np.float64, (columns,)) for part in ("shift", "scale"))
    if not (scale > 0).all():
        raise ValueError(f"{of}_scale has {scale.min()}: must be > 0")
    return Scaling(shift, scale)


def _member(arrays: dict[str, Array], number: int, sizes: Sequence[int], activation: str) -> Linear | Network:
    """Return a member with the arrays of a file, from whose shapes follows what it is."""
    member: Linear | Network
    start = np.zeros(sizes[-1])
    if len(sizes) == 2:
        member = Linear(sizes[0], sizes[1], np.float32, start)
    else:
        norm, rng = f"{number}/scale1" in arrays, np.random.default_rng(0)
        member = Network(sizes, np.float32, activation, norm, 0.0, start, 1.0, rng)
    fill(member, arrays, f"{number}/")
    return member


def fill(member: Linear | Network, arrays: dict[str, Array], prefix: str) -> None:
    """Write arrays of a file, which are taken from among ``arrays``, into those of a member."""
    for name, array in named(member).items():
        array[...] = archive.take(arrays, prefix + name, np.float32, array.shape)
        if name.startswith("variance") and (array < 0).any():
            raise ValueError(f"{prefix}{name} has {array.min()}: must be >= 0")
