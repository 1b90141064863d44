"""What ``pyopt train --save`` leaves and ``pyopt predict`` reads: networks or linear models, with their scaling."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skops.io

from ..arrays.backend import Array
from ..estimators._models import Linear, Network
from ..kernels.linear_models import softmax
from .data import Scaling

ENDINGS = (".skops", ".npz")


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
    """Write a model, as arrays into an NPZ file or as it is into one of skops."""
    if path.suffix.lower() == ".skops":
        skops.io.dump(model, path)
        return
    arrays: dict[str, Any] = {
        "columns": np.array(model.columns),
        "x_shift": model.features.shift,
        "x_scale": model.features.scale,
        "y_shift": model.target.shift,
        "y_scale": model.target.scale,
    }
    if model.classes is not None:
        arrays["classes"] = model.classes
    first = model.members[0]
    if isinstance(first, Network):
        arrays["activation"] = np.array(first.hidden[0].activation)
    for i, member in enumerate(model.members):
        arrays |= {f"{i}/{name}": array for name, array in named(member).items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def load(path: str | Path) -> Model:
    """Return a model that was saved; ValueError where the file is none."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"model={str(path)!r}: must end in {' or '.join(ENDINGS)}")
    try:
        found = read_skops(path) if path.suffix.lower() == ".skops" else _from_npz(path)
    except OSError as error:
        raise ValueError(f"model={str(path)!r} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file may end in any of them
        raise ValueError(f"model={str(path)!r} is no model of pyopt train: {error}") from None
    if not isinstance(found, Model):
        raise ValueError(f"model={str(path)!r} is no model of pyopt train: it has a {type(found).__name__}")
    return found


def read_skops(path: Path) -> Any:
    """Return what a file of skops holds, which may be types of pyopt and what skops trusts, and nothing else."""
    data = path.read_bytes()
    types = skops.io.get_untrusted_types(data=data)
    if foreign := [name for name in types if not name.startswith("pyopt.")]:
        raise ValueError(f"it holds {', '.join(foreign)}, which pyopt does not write")
    return skops.io.loads(data, trusted=types)


def _from_npz(path: Path) -> Model:
    if not zipfile.is_zipfile(path):
        path.open("rb").close()  # says what is wrong with the path, if that is it
        raise ValueError("it is no NPZ file")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    if lacking := {"columns", "x_shift", "x_scale", "y_shift", "y_scale", "0/w1"} - set(arrays):
        raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    members = []
    for i in itertools.takewhile(lambda i: f"{i}/w1" in arrays, itertools.count()):
        own = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(f"{i}/")}
        members.append(_member(own, str(arrays.get("activation", "relu"))))
    target = Scaling(arrays["y_shift"], arrays["y_scale"])
    features = Scaling(arrays["x_shift"], arrays["x_scale"])
    return Model(members, features, target, arrays["columns"].tolist(), arrays.get("classes"))


def _member(own: dict[str, Array], activation: str) -> Linear | Network:
    """Return a member with the arrays of a file, from whose shapes follows what it is."""
    weights = [own[f"w{i}"] for i in itertools.takewhile(lambda i: f"w{i}" in own, itertools.count(1))]
    outputs = weights[-1].shape[1]
    member: Linear | Network
    if len(weights) == 1:
        member = Linear(len(weights[0]), outputs, np.float32, np.zeros(outputs))
    else:
        sizes = [len(weights[0]), *(w.shape[1] for w in weights)]
        rng = np.random.default_rng(0)
        member = Network(sizes, np.float32, activation, "scale1" in own, 0.0, np.zeros(outputs), 1.0, rng)
    for name, array in named(member).items():
        array[...] = own[name]
    return member
