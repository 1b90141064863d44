"""What ``pyopt train`` does: estimators trained epoch by epoch, so that a run can be watched, stopped and resumed.

Every sum is taken in a fixed order, and every random number follows from the seed: the same settings give the same
weights, bit for bit, on every instruction set and thread count, in one go or resumed.
"""

from __future__ import annotations

import hashlib
import statistics
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from time import perf_counter_ns
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, mean_squared_error, r2_score
from sklearn.model_selection import KFold, StratifiedKFold

from .. import estimators
from ..arrays.backend import Array, reference
from ..kernels.penalties import PENALTIES
from ..optim import OPTIMIZERS
from ..training.early_stopping import EarlyStopping
from ..validate import integer, one_of
from . import data as tables
from . import model as models
from . import options
from .schedule_text import Scheduled

MODELS = ("linear", "mlp")
NETWORK_ONLY = ("hidden", "dropout", "batch_norm", "augment")
RACE_STEPS = 40


@dataclass(frozen=True)
class Settings:
    """All options that the weights depend on, as text and numbers; see ``pyopt train --help``."""

    data: str = "digits"
    target: str | None = None
    task: str = "auto"
    model: str = "linear"
    hidden: str = "100"
    dropout: float = 0.0
    batch_norm: bool = False
    augment: tuple[str, ...] = ()
    image_shape: str | None = None
    optimizer: str = "adam"
    lr: float | None = None
    schedule: str | None = None
    set_: tuple[str, ...] = ()
    penalty: tuple[str, ...] = ()
    prox: str | None = None
    epochs: int = 30
    batch_size: str = "auto"
    early_stopping: bool = False
    patience: int = 10
    cv: int = 0
    ensemble: int = 1
    seed: int = 0

    def check(self) -> None:
        """Raise ValueError where options do not go together."""
        one_of("model", self.model, MODELS)
        one_of("task", self.task, tables.TASKS)
        for name, low in (("epochs", 1), ("patience", 1), ("ensemble", 1), ("cv", 0), ("seed", 0)):
            integer(name, getattr(self, name), low)
        default = Settings()
        given = [f.name for f in fields(self) if getattr(self, f.name) != getattr(default, f.name)]
        if self.model == "linear" and (wrong := [name for name in given if name in NETWORK_ONLY]):
            raise ValueError(f"--{wrong[0].replace('_', '-')} is for networks: --model mlp")
        if "patience" in given and not self.early_stopping:
            raise ValueError("--patience is for --early-stopping")
        if self.cv == 1:
            raise ValueError("cv=1: must be >= 2 folds")


@dataclass(frozen=True)
class Part:
    """Scaled rows of one split: to train on, to stop early by (none, if not asked for), and held out."""

    x: Array
    y: Array
    watched: tuple[Array, Array]
    held: tuple[Array, Array]
    features: tables.Scaling
    target: tables.Scaling


@dataclass
class Course:
    """One estimator on its way: what it has learned so far, and its curves."""

    estimator: Any
    epochs: int
    stopper: EarlyStopping | None
    epoch: int = 0
    train_loss: list[float] = field(default_factory=list)
    held_loss: list[float] = field(default_factory=list)
    held_score: list[float] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether there is no further epoch."""
        return self.epoch == self.epochs or (self.stopper is not None and self.stopper.stopped_epoch is not None)

    @property
    def kept(self) -> int:
        """Which of the epochs, counted from 0, the estimator is of."""
        best = None if self.stopper is None or not self.done else self.stopper.best_epoch
        return self.epoch - 1 if best is None else best

    def advance(self, part: Part, known: dict[str, Any]) -> None:
        """Train for one more epoch, and go back to the best one after the last."""
        self.estimator.partial_fit(part.x, part.y, **known)
        self.epoch += 1
        self.train_loss.append(measure(self.estimator, part.x, part.y)[0])
        loss, score = measure(self.estimator, *part.held)
        self.held_loss.append(loss)
        self.held_score.append(score)
        if self.stopper is not None:
            self.stopper.update(measure(self.estimator, *part.watched)[0], self.estimator._model.state)  # noqa: SLF001
            if self.done:
                self.stopper.restore()
                self.estimator._publish()  # noqa: SLF001


@dataclass(frozen=True)
class Race:
    """Times of an optimizer step, median in microseconds, and whether both left the same bits."""

    step_us: float
    reference_us: float
    identical: bool


class Run:
    """Everything that one call of ``pyopt train`` trains: an estimator for each fold and each member of an ensemble.

    Raises ValueError or TypeError where a setting makes no sense, before any training.
    """

    def __init__(self, settings: Settings) -> None:
        settings.check()
        shape = None if settings.image_shape is None else options.sizes("image-shape", settings.image_shape)
        self.settings = settings
        self.rows = tables.load(settings.data, settings.target, settings.task, shape)
        self.splits = self._splits()
        self.courses: list[Course] = []
        self.batch = options.batch_size(settings.batch_size, min(len(train) for train, _ in self.splits))
        self._make(0)  # says what is wrong with it
        self.part(0)

    @property
    def total(self) -> int:
        """How many epochs there are, at most."""
        return len(self.splits) * self.settings.ensemble * self.settings.epochs

    @property
    def done(self) -> bool:
        """Whether all is trained."""
        jobs = len(self.splits) * self.settings.ensemble
        return len(self.courses) == jobs and self.courses[-1].done

    @property
    def known(self) -> dict[str, Any]:
        """What partial_fit is told of the classes."""
        return {} if self.rows.classes is None else {"classes": np.arange(len(self.rows.classes))}

    @property
    def score_name(self) -> str:
        """What the score is."""
        return "R^2" if self.rows.classes is None else "accuracy"

    def epochs(self) -> Iterator[Course]:
        """Train; yield after each epoch what it was an epoch of. Between epochs a run can be saved, or left."""
        members = self.settings.ensemble
        for job in range(len(self.splits) * members):
            if job == len(self.courses):
                self.courses.append(self.start(job % members))
            course, part = self.courses[job], self.part(job // members)
            while not course.done:
                course.advance(part, self.known)
                yield course

    def model(self, fold: int = 0) -> models.Model:
        """Return what was trained for a fold."""
        n, part = self.settings.ensemble, self.part(fold)
        members = [course.estimator._model for course in self.courses[fold * n : (fold + 1) * n]]  # noqa: SLF001
        return models.Model(members, part.features, part.target, self.rows.columns, self.rows.classes)

    def score(self, fold: int = 0) -> float:
        """Return the score of a fold's model on what was held out."""
        x, y = self.part(fold).held
        z = self.model(fold).outputs(x)
        return float(r2_score(y, z[:, 0]) if self.rows.classes is None else np.mean(z.argmax(axis=1) == y))

    @property
    def sha256(self) -> str:
        """The hash of all weights."""
        digest = hashlib.sha256()
        for course in self.courses:
            for array in models.named(course.estimator._model).values():  # noqa: SLF001
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def penalty(self) -> float:
        """Return the value of all penalties of the first estimator."""
        return float(self.courses[0].estimator._pull())  # noqa: SLF001

    def race(self) -> Race:
        """Step copies of the weights by the optimizer and by the NumPy reference, in turn, with the same gradients."""
        arrays = models.named(self.courses[0].estimator._model)  # noqa: SLF001
        weights = [a for name, a in arrays.items() if name.startswith("w")]
        others = [a for name, a in arrays.items() if name[0] in "bs"]
        kind = OPTIMIZERS[self.settings.optimizer]
        given = options.hypers(self.settings.optimizer, self.settings.set_)
        if self.settings.lr is not None:
            given["lr"] = self.settings.lr
        pulls = self._pulls()
        free: dict[str, Any] = {"weight_decay": 0.0} if "weight_decay" in kind.rule.Values._fields else {}

        def made() -> Any:
            pulled: dict[str, Any] = {"params": [w.copy() for w in weights], **pulls}
            return kind([pulled, {"params": [b.copy() for b in others], **free}], **given)

        fast = made()
        with reference():
            slow = made()
        rng = tables.generator(self.settings.seed, 2)
        times: tuple[list[int], list[int]] = [], []
        contenders = [(fast, times[0]), (slow, times[1])]
        for _ in range(RACE_STEPS):
            grads = [rng.standard_normal(a.shape, np.float32) for a in (*weights, *others)]
            for optimizer, spent in contenders:
                before = perf_counter_ns()
                optimizer.step(grads)
                spent.append(perf_counter_ns() - before)
            contenders.reverse()  # neither always finds the gradient in cache
        bits = [b"".join(p.tobytes() for g in o.param_groups for p in g["params"]) for o in (fast, slow)]
        ours, theirs = (statistics.median(spent) / 1e3 for spent in times)
        return Race(ours, theirs, bits[0] == bits[1])

    # ---- parts

    def _splits(self) -> Sequence[tuple[Array, Array]]:
        if self.settings.cv == 0:
            return [tables.split(len(self.rows.x), self.settings.seed)]
        kind = KFold if self.rows.classes is None else StratifiedKFold
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes with fewer rows than folds
            folds = kind(self.settings.cv, shuffle=True, random_state=self.settings.seed % 2**32)
            try:
                return list(folds.split(self.rows.x, self.rows.y))
            except ValueError as error:
                raise ValueError(f"cv={self.settings.cv}: {error}") from None

    def part(self, fold: int) -> Part:
        """Return the rows of a fold."""
        if fold not in self._parts:
            self._parts.clear()  # one at a time: data may be large
            self._parts[fold] = self._scaled(*self.splits[fold])
        return self._parts[fold]

    @cached_property
    def _parts(self) -> dict[int, Part]:
        return {}

    def _scaled(self, train: Array, held: Array) -> Part:
        x, y = self.rows.x, self.rows.y
        watched = train[:0]
        if self.settings.early_stopping:
            mixed = train[tables.generator(self.settings.seed, 3).permutation(len(train))]
            watched, train = mixed[: -(-len(train) // 10)], np.sort(mixed[-(-len(train) // 10) :])
        features = (tables.standard if self.rows.image_shape is None else tables.pixels)(x[train])
        numbers = self.rows.classes is None
        target = tables.standard(y[train][:, None]) if numbers else tables.Scaling(np.zeros(1), np.ones(1))
        if not numbers and len(np.unique(y[train])) < 2:
            raise ValueError("the training rows have one class only: at least 2 are needed")

        def pair(some: Array) -> tuple[Array, Array]:
            return features(x[some]), target(y[some][:, None])[:, 0] if numbers else y[some]

        return Part(*pair(train), pair(watched), pair(held), features, target)

    def start(self, member: int) -> Course:
        """Return a course of which nothing is trained."""
        s = self.settings
        stopper = EarlyStopping(patience=s.patience, restore_best_weights=True) if s.early_stopping else None
        return Course(self._make(member), s.epochs, stopper)

    def _pulls(self) -> dict[str, Any]:
        s = self.settings
        pulls = [options.penalty("penalty", text, options.GRADIENTS) for text in s.penalty]
        prox = {} if s.prox is None else {"prox": options.penalty("prox", s.prox, PENALTIES)}
        return ({"penalty": pulls} if pulls else {}) | prox

    def _make(self, member: int) -> Any:
        """Return an estimator that has not begun."""
        s, classes = self.settings, self.rows.classes
        given = {
            "rule": s.optimizer, "hypers": options.hypers(s.optimizer, s.set_), "lr": "auto" if s.lr is None else s.lr,
            "schedule": None if s.schedule is None else Scheduled(s.schedule), "batch_size": self.batch,
            "max_iter": s.epochs, "tol": None, "random_state": s.seed + member, **self._pulls(),
        }  # fmt: skip
        if s.model == "mlp":
            augment = options.augmentation(s.augment, 0 if classes is None else len(classes))
            if augment is not None and self.rows.image_shape is None:
                raise ValueError("--augment is for images: --image-shape must be their channels, height and width")
            given |= {
                "hidden_layer_sizes": options.sizes("hidden", s.hidden), "dropout": s.dropout,
                "batch_norm": s.batch_norm, "augment": augment,
                "image_shape": None if augment is None else self.rows.image_shape,
            }  # fmt: skip
        kind = ("Linear" if s.model == "linear" else "MLP") + ("Regressor" if classes is None else "Classifier")
        if s.schedule is not None:
            given["schedule"](0.1, 1000)
        OPTIMIZERS[s.optimizer]([np.zeros((1, 1), np.float32)], **given["hypers"], **self._pulls())
        estimator = getattr(estimators, kind)(**given)
        estimator._check()  # noqa: SLF001 - these three lines find errors before training, not in its first epoch
        return estimator


def measure(estimator: Any, x: Array, y: Array) -> tuple[float, float]:
    """Return the loss without penalties, and the score: log loss and accuracy, or mean squared error and R^2."""
    if not hasattr(estimator, "classes_"):
        z = estimator.predict(x).astype(np.float64)
        return float(mean_squared_error(y, z)), float(r2_score(y, z))
    p = estimator.predict_proba(x).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    return float(log_loss(y, p, labels=estimator.classes_)), float(np.mean(p.argmax(axis=1) == y))
