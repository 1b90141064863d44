"""What the estimators have in common: checks, the loop over epochs, its history, and when it stops."""

from __future__ import annotations

import contextlib
import math
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight

from ..arrays.backend import Array
from ..kernels.linear_models import moments
from ..kernels.native import write
from ..optim import OPTIMIZERS, Optimizer
from ..training.early_stopping import EarlyStopping
from ..validate import one_of
from ._losses import Loss
from ._progress import Progress

MAKING = ("rule", "lr", "schedule", "hypers", "penalty", "prox", "loss", "loss_options")


def keep(estimator: Any, given: dict[str, Any]) -> None:
    """Store the arguments of a constructor as they are, as scikit-learn asks."""
    for name, value in given.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


class Trainer(BaseEstimator):  # type: ignore[misc]
    """The base of all estimators: subclasses say what is trained, the mixins of _targets.py what the targets are."""

    rule: str
    lr: Any
    schedule: Any
    hypers: Any
    penalty: Any
    prox: Any
    loss: str
    loss_options: Any
    batch_size: Any
    max_iter: int
    tol: float | None
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    shuffle: bool
    random_state: Any
    verbose: Any
    _model: Any
    _loss: Loss
    _optimizer: Any
    _made_with: tuple[Any, ...]
    _made_as: dict[str, Any]
    _base: dict[str, Any]

    # ---- what subclasses and mixins fill in

    def _read(self, X: Any, y: Any, fresh: bool, classes: Any) -> tuple[Any, Array]:
        """Return X and y as scikit-learn checks them, and take note of features and classes."""
        raise NotImplementedError

    def _targets(self, y: Array, weight: Array | None, dtype: Any) -> tuple[Array, Array | None]:
        """Return the targets as the loss takes them, and the weights of the rows times those of their classes."""
        raise NotImplementedError

    def _make_model(self, X: Any, target: Array, weight: Array) -> Any:
        """Return a model with its first weights."""
        raise NotImplementedError

    def _shape(self) -> dict[str, Any]:
        """Return the parameters that a model is made with and keeps."""
        raise NotImplementedError

    def _rates(self, X: Any, target: Array, weight: Array) -> dict[str, Any]:
        """Return the learning rates by the role of the model's groups."""
        raise NotImplementedError

    def _publish(self) -> None:
        """Set the attributes that users read."""
        raise NotImplementedError

    # ---- training

    def _fit(self, X: Any, y: Any, sample_weight: Any, fresh: bool, partial: bool = False,
             classes: Any = None) -> Any:  # fmt: skip
        """Train; an error or Ctrl-C leaves all as it was."""
        known, back = dict(vars(self)), contextlib.ExitStack()
        try:
            if not fresh:
                self.history_: dict[str, list[float]] = {name: [*noted] for name, noted in known["history_"].items()}
                self._keep(back)
            rows = self._begin(X, y, sample_weight, fresh, partial, classes)
            self._epochs(*rows, 1 if partial else self.max_iter)
            self._publish()
        except BaseException:
            self.__dict__ = known
            back.close()
            raise
        return self

    def _keep(self, back: contextlib.ExitStack) -> None:
        """Let ``back`` undo what training does to what stays where it is."""
        state = self._rng.bit_generator.state
        back.callback(setattr, self._rng.bit_generator, "state", state)
        if isinstance(self._optimizer, Optimizer):
            back.callback(self._optimizer.load_state_dict, self._optimizer.state_dict())
        if all(a.flags.writeable for a in self._model.state):  # if not, it trains others
            back.callback(write, [(a, a.copy(order="K")) for a in self._model.state])

    def _begin(self, X: Any, y: Any, sample_weight: Any, fresh: bool, partial: bool,
               classes: Any) -> tuple[Any, Array, Array, Array, Array, Array]:  # fmt: skip
        """Make all that the first epoch needs, or go on with what is there; return the rows for ``_epochs``."""
        self._check()
        for name, value in self._shape().items():
            if not fresh and self._made_as[name] != value:
                raise ValueError(f"{name}={value!r}: training goes on with a model that has {self._made_as[name]!r}")
        if self.early_stopping and partial:
            raise ValueError("early_stopping=True: partial_fit takes one epoch, and holds nothing out")
        X, y = self._read(X, y, fresh, classes)
        given = None
        if sample_weight is not None:
            given = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        target, weight = self._targets(y, given, X.dtype)
        rows = np.arange(X.shape[0]) if weight is None else np.flatnonzero(weight > 0)
        if not len(rows):
            raise ValueError("all sample weights are zero: at least one sample must have a positive weight")
        if fresh:
            self._rng = np.random.Generator(np.random.PCG64(_seed(self.random_state)))
            self.history_ = {"loss": []}
            self.n_iter_ = self.t_ = 0
        rows, held = self._split(rows, y) if self.early_stopping else (rows, rows[:0])
        weight = np.ones(X.shape[0], X.dtype) if weight is None else _mean_one(weight, rows)
        self._start(X, target, weight, rows, fresh)
        return X, y, target, weight, rows, held

    def _start(self, X: Any, target: Array, weight: Array, rows: Array, fresh: bool) -> None:
        """Make model and optimizer, or go on with those that are there."""
        made_with = tuple(getattr(self, name) for name in MAKING)
        if not fresh and not self._model.trainable:  # read from a file, as it may have been
            self._model, self._optimizer = self._model.owned(), _snapshot(self._optimizer)
        if not fresh and made_with == self._made_with and hasattr(self, "_lr"):
            return
        if fresh:
            inside = weight
            if len(rows) < len(weight):
                inside = np.zeros_like(weight)
                inside[rows] = weight[rows]
            self._model, self._made_as = self._make_model(X, target, inside), self._shape()
        if fresh or made_with != self._made_with:
            self._base = self._rates(X, target, inside if fresh else weight)
            self._planned = self.max_iter * len(self._cuts(len(rows), self._batch(len(rows))))
        before, self._made_with = None if fresh else self._optimizer, made_with
        self._lr = self._base
        if self.schedule is not None:
            self._lr = {role: self.schedule(rate, self._planned) for role, rate in self._base.items()}
        self._optimizer = None if before is None else _snapshot(before)

    def _make_optimizer(self) -> Optimizer:
        """Return the optimizer, made now where it is not there: with the states of the one before, if they fit."""
        if not isinstance(self._optimizer, Optimizer):
            before = self._optimizer
            groups = [self._group(role, arrays) for role, arrays in self._model.groups.items() if arrays]
            self._optimizer = OPTIMIZERS[self.rule](groups, **(self.hypers or {}))
            if before is not None and before["rule"] == self.rule:
                with contextlib.suppress(ValueError):  # other states than before: they start anew
                    self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": before["state"]})
        return self._optimizer

    def _group(self, role: str, arrays: list[Array]) -> dict[str, Any]:
        """Return a parameter group: nothing pulls at intercepts."""
        group = {"params": arrays, "lr": self._lr[role]}
        if "intercepts" not in role:
            pulls = {"penalty": self.penalty, "prox": self.prox}
            return {**group, **{name: pull for name, pull in pulls.items() if pull is not None}}
        return {**group, "weight_decay": 0.0} if "weight_decay" in OPTIMIZERS[self.rule].rule.Values._fields else group

    def _epochs(self, X: Any, y: Array, target: Array, weight: Array, rows: Array, held: Array,
                epochs: int) -> None:  # fmt: skip
        """Train until nothing gets better, or for so many epochs."""
        batch = self._batch(len(rows))
        stopper: EarlyStopping | None = None
        stopped = self.tol is None
        with Progress(self.verbose, type(self).__name__, epochs) as progress:
            for _ in range(epochs):
                order = self._rng.permutation(rows) if self.shuffle and batch < len(rows) else rows
                noted = {"loss": self._epoch(X, target, weight, order, batch) + self._pull()}
                self.n_iter_ += 1
                self.t_ += len(self._cuts(len(rows), batch))
                self._refuse_nonfinite(noted["loss"])
                if len(held):
                    noted["validation_score"] = self._score_rows(X, y, weight, held)
                for name, number in noted.items():
                    self.history_.setdefault(name, []).append(number)
                progress.advance(noted)
                stopper = stopper or self._make_early_stopping(noted, epochs)
                if stopper.update(noted, self._model.state):
                    stopped = True
                    break
        if stopper is not None and stopper.restore_best_weights:
            stopper.restore()
        if not stopped and epochs > 1:
            warnings.warn(
                f"{type(self).__name__} has not converged in max_iter={epochs} epochs: raise max_iter or lr",
                ConvergenceWarning, stacklevel=4,
            )  # fmt: skip

    def _make_early_stopping(self, noted: dict[str, float], epochs: int) -> EarlyStopping:
        """Return what says when to stop, from what was noted of the first epoch; with tol=None it never does."""
        held = "validation_score" in noted
        tol = (self.tol or 0.0) * (1.0 if held else abs(noted["loss"]))
        return EarlyStopping(
            "validation_score" if held else "loss", tol, epochs if self.tol is None else self.n_iter_no_change,
            "max" if held else "min", restore_best_weights=held,
        )  # fmt: skip

    def _epoch(self, X: Any, target: Array, weight: Array, order: Array, batch: int) -> float:
        """Take an epoch step by step; return the mean loss of the rows, each before its step."""
        x, total, cuts = self._model.input(X), 0.0, self._cuts(len(order), batch)
        optimizer = self._make_optimizer()
        for i, (start, stop) in enumerate(zip(cuts, [*cuts[1:], len(order)], strict=True)):
            rows = order[start:stop]
            given, labels, some = self._given(x, target[rows], rows, self.t_ + i)
            z, tape = self._model.forward(given, some, self.t_ + i)
            value, dz = self._loss(z, labels, weight[rows])
            optimizer.step(self._model.backward(tape, dz), grad_scale=self._loss.scale * len(rows))
            total += value
        return total / len(order)

    def _given(self, x: Any, labels: Array, rows: Array, t: int) -> tuple[Any, Array, Array | None]:
        """Return features and targets of step ``t``, and which rows of the features it takes, or None for all."""
        whole = not isinstance(x, tuple) and len(rows) == len(x)
        return x, labels, None if whole else rows

    def _cuts(self, rows: int, batch: int) -> range:
        """Return where the batches of an epoch start; a last one that is too small goes with the one before it."""
        cuts = range(0, rows, batch)
        return cuts[:-1] if len(cuts) > 1 and rows - cuts[-1] < self._model.least else cuts

    def _pull(self) -> float:
        """Return the value of the penalties, prox among them, that the weights pay."""
        pulls = [*_as_list(self.penalty), *_as_list(self.prox)]
        weights = [w for role, arrays in self._model.groups.items() if "intercepts" not in role for w in arrays]
        return float(sum(pull.value(weights) for pull in pulls if hasattr(pull, "value")))

    def _refuse_nonfinite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} after {self.n_iter_} epochs with lr={self.lr!r}: take a smaller learning rate, or "
                "bring the features to one scale, as StandardScaler does"
            )

    def _split(self, rows: Array, y: Array) -> tuple[Array, Array]:
        """Return the rows to train on and those held out."""
        seed = int(self._rng.integers(2**31))
        train, held = train_test_split(
            rows, test_size=self.validation_fraction, random_state=seed, stratify=self._strata(y, rows)
        )
        return np.sort(train), np.sort(held)

    def _strata(self, y: Array, rows: Array) -> Array | None:
        return None

    def _batch(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        return rows if self.batch_size == "full" else min(int(self.batch_size), rows)

    def _outputs_of(self, X: Any, rows: Array) -> Array:
        """Return the model's outputs for some rows, while it is trained."""
        return self._model.infer(self._model.input(X), rows)

    # ---- checks and copies

    def _check(self) -> None:
        """Raise where a parameter has no meaning, before anything is touched."""
        self._check_rule()
        _check_number(self, "max_iter", Integral, 1)
        _check_number(self, "n_iter_no_change", Integral, 1)
        if self.tol is not None:
            _check_number(self, "tol", Real, 0)
        if not isinstance(self.batch_size, str) or self.batch_size not in ("auto", "full"):
            _check_number(self, "batch_size", Integral, 1, ', or "auto" or "full"')
        if not isinstance(self.validation_fraction, Real) or not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction={self.validation_fraction!r}: must be in (0, 1)")
        for name in ("early_stopping", "warm_start", "shuffle"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(f"{name}={getattr(self, name)!r}: must be True or False")

    def _check_rule(self) -> None:
        """Raise where there is no such rule, or where it does not go with the rest."""
        one_of("rule", self.rule, sorted(OPTIMIZERS))
        if self.lr != "auto" and not callable(self.lr):
            OPTIMIZERS[self.rule].rule.hyper("lr").check(self.lr)
        if self.schedule is not None and not callable(self.schedule):
            raise TypeError(f"schedule={self.schedule!r}: must be a function of learning rate and steps, or None")
        if self.schedule is not None and callable(self.lr):
            raise ValueError(f"lr={self.lr!r} with schedule={self.schedule!r}: only one of them can be a function")
        for name in ("hypers", "loss_options"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), dict):
                raise TypeError(f"{name}={getattr(self, name)!r}: must be a dict, or None")
        if taken := {"lr", "penalty", "prox"} & set(self.hypers or {}):
            raise ValueError(f"{sorted(taken)} in hypers: these are parameters of {type(self).__name__}")

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: of the optimizer its states, from which training goes on."""
        state = dict(super().__getstate__())
        state.pop("_lr", None)  # functions of the step may be closures, which a pickle refuses
        return {key: _snapshot(value) for key, value in state.items()}


def _snapshot(optimizer: Any) -> Any:
    """Return rule and states of an optimizer; what is no optimizer stays."""
    if not isinstance(optimizer, Optimizer):
        return optimizer
    snapshot = optimizer.state_dict()
    return {"rule": snapshot["rule"], "state": snapshot["state"]}


def _mean_one(weight: Array, rows: Array) -> Array:
    """Return the weights times what makes their mean over ``rows`` 1, so that they do not change the learning rate."""
    inside = np.ascontiguousarray(weight[rows])
    total = moments.first(np.ones((len(rows), 1), weight.dtype), inside)
    factor = weight.dtype.type(len(rows) / total)
    if not 0 < factor < math.inf:
        raise ValueError(f"the weights of the samples sum to {total:g}: bring them nearer to 1")
    return weight * factor


def _seed(random_state: Any) -> int:
    if isinstance(random_state, Integral):
        if random_state < 0:
            raise ValueError(f"random_state={random_state!r}: must be an integer >= 0, a RandomState, or None")
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _as_list(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def _check_number(estimator: Any, name: str, kind: Any, low: float, more: str = "") -> None:
    value = getattr(estimator, name)
    what = "an integer" if kind is Integral else "a finite number"
    text = f"{name}={value!r}: must be {what} >= {low}{more}"
    if not isinstance(value, kind) or isinstance(value, (bool, np.bool_)):
        raise TypeError(text)
    if not low <= value < math.inf:
        raise ValueError(text)
