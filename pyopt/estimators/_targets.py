"""What the targets are: numbers or classes; how they are checked, encoded and scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from ..arrays.backend import Array
from ..arrays.gpu import as_numpy
from ..kernels.linear_models import softmax
from ..kernels.numerics.elementary import exp_any
from ..validate import one_of
from ._losses import CLASSIFICATION, REGRESSION, Loss
from ._rates import centre_and_spread

REALS = (np.float64, np.float32)


class Targets:
    """What regression and classification have from the estimator."""

    _sparse: bool
    _model: Any
    _outputs: Callable[[Any], Array]
    _outputs_of: Callable[[Any, Array], Array]


class Numbers(Targets):
    """Regression: targets of one or more columns, as the features' dtype."""

    losses = REGRESSION
    loss: str
    loss_options: Any
    validation_fraction: float

    def _read(self, X: Any, y: Any, fresh: bool, classes: Any) -> tuple[Any, Array]:
        one_of("loss", self.loss, REGRESSION)
        X, y = validate_data(
            self, within(X), as_numpy(y), accept_sparse="csr" if self._sparse else False,
            dtype=REALS if fresh else self._model.w.dtype, order="C", multi_output=True, y_numeric=True, reset=fresh,
        )  # fmt: skip
        if fresh:
            self._columns = None if y.ndim == 1 else y.shape[1]
        elif self._columns != (None if y.ndim == 1 else y.shape[1]):
            raise ValueError(f"y has shape {y.shape}: the columns must be those of the first call, {self._columns}")
        return X, y

    def _targets(self, y: Array, weight: Array | None, dtype: Any) -> tuple[Array, Array | None]:
        self._loss = Loss(self.loss, self._columns or 1, self.loss_options)
        return np.ascontiguousarray(y.reshape(len(y), -1), dtype), weight

    def _first_intercept(self, target: Array, weight: Array) -> Array:
        centre = centre_and_spread(target, weight)[0]
        if self.loss != "poisson":
            return centre
        if (target < 0).any():
            raise ValueError(f"y has {target.min()} among its numbers: loss='poisson' is for counts, which are >= 0")
        return np.array([math.log(x) if x > 0 else 0.0 for x in centre.tolist()])

    def _spread(self, target: Array, weight: Array) -> float:
        return 1.0 if self.loss == "poisson" else centre_and_spread(target, weight)[1]

    def _score_rows(self, X: Any, y: Array, weight: Array, rows: Array) -> float:
        if len(rows) < 2:
            raise ValueError(f"validation_fraction={self.validation_fraction!r}: holds 1 sample out, and R^2 needs 2")
        return float(r2_score(y[rows], self._shaped(self._outputs_of(X, rows)), sample_weight=weight[rows]))

    def _shaped(self, z: Array) -> Array:
        if self.loss == "poisson":
            z = exp_any(z)  # the outputs are logarithms of rates
        return z[:, 0] if self._columns is None else z

    def predict(self, X: Any) -> Array:
        """Return the predicted targets, of the shape of ``y`` in ``fit``."""
        return self._shaped(self._outputs(X))


class Classes(Targets):
    """Classification: labels of any kind; ``class_weight`` multiplies the weights of the samples."""

    losses = CLASSIFICATION
    loss: str
    loss_options: Any
    class_weight: Any
    classes_: Array

    def _read(self, X: Any, y: Any, fresh: bool, classes: Any) -> tuple[Any, Array]:
        one_of("loss", self.loss, CLASSIFICATION)
        X, y = validate_data(
            self, within(X), as_numpy(y), accept_sparse="csr" if self._sparse else False,
            dtype=REALS if fresh else self._model.w.dtype, order="C", reset=fresh,
        )  # fmt: skip
        y = column_or_1d(y, warn=True)
        if y.dtype.kind not in "iu":  # integers are no continuous target, and the look at all of them takes time
            check_classification_targets(y)
        if fresh:
            self.classes_ = distinct(y if classes is None else np.asarray(classes))
            if len(self.classes_) < 2:
                name = "y" if classes is None else "classes"
                found = f"one class, {self.classes_.tolist()[0]!r}" if len(self.classes_) else "no class"
                raise ValueError(f"{name} has {found}: a classifier needs at least 2 classes")
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes={classes!r}: must be those of the first call, {self.classes_.tolist()}")
        known = fresh and classes is None
        if not known and not np.isin(y, self.classes_).all():
            wrong = np.setdiff1d(y, self.classes_).tolist()
            raise ValueError(f"y has the labels {wrong}, which are not among the classes {self.classes_.tolist()}")
        return X, y

    def _targets(self, y: Array, weight: Array | None, dtype: Any) -> tuple[Array, Array | None]:
        self._loss = Loss(self.loss, 1 if len(self.classes_) == 2 else len(self.classes_), self.loss_options)
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, y).astype(dtype)
            if not ((by_class >= 0) & (by_class < math.inf)).all():
                raise ValueError(f"class_weight={self.class_weight!r}: must be finite numbers >= 0 by class")
            weight = by_class if weight is None else weight * by_class
        labels = y == self.classes_[1] if len(self.classes_) == 2 else numbered(y, self.classes_)
        return self._loss.encode(labels, dtype), weight

    def _first_intercept(self, target: Array, weight: Array) -> Array:
        return np.zeros(self._loss.outputs, weight.dtype)

    def _spread(self, target: Array, weight: Array) -> float:
        return 1.0

    def _strata(self, y: Array, rows: Array) -> Array:
        return y[rows]

    def _score_rows(self, X: Any, y: Array, weight: Array, rows: Array) -> float:
        return float(accuracy_score(y[rows], self._labels(self._outputs_of(X, rows)), sample_weight=weight[rows]))

    def _labels(self, z: Array) -> Array:
        return self.classes_[(z[:, 0] > 0).astype(np.int64) if z.shape[1] == 1 else z.argmax(axis=1)]

    def decision_function(self, X: Any) -> Array:
        """Return the model's outputs: (rows,) for two classes, the second one where positive, else (rows, classes)."""
        z = self._outputs(X)
        return z[:, 0] if z.shape[1] == 1 else z

    def predict(self, X: Any) -> Array:
        """Return the most likely class of each row."""
        return self._labels(self._outputs(X))


def within(X: Any) -> Any:
    """Return X, a tensor by view and a sparse matrix with indices of its own; raise where they reach beyond it.

    Neither the kernels nor SciPy's conversions to CSR look at each index, and schedules may write to those of a caller.
    """
    X = as_numpy(X)
    if not sparse.issparse(X) or X.ndim != 2 or X.format not in ("csr", "csc", "bsr", "coo"):
        return X
    if max(X.shape) >= 2**31:
        raise ValueError(f"X has shape {X.shape}: a sparse matrix must have fewer than 2^31 rows and columns")
    try:
        if X.format == "coo":
            return type(X)((X.data, (X.row, X.col)), shape=X.shape)
        own = np.ascontiguousarray(X.data), X.indices.copy(), X.indptr.copy()
        found = type(X)(own, shape=X.shape)
        found.check_format()
    except (TypeError, ValueError) as error:
        raise ValueError(f"X is a {X.format.upper()} matrix of shape {X.shape} that is not valid: {error}") from error
    return found


def distinct(y: Array) -> Array:
    """Return the labels that there are, in order: integers close together by a look at each, others by sorting."""
    bounds = _bounds(y)
    if bounds is None:
        return np.unique(y)
    seen = np.zeros(bounds[1] - bounds[0] + 1, np.bool_)
    seen[y.astype(np.int64, copy=False) - bounds[0]] = True
    return (np.flatnonzero(seen) + bounds[0]).astype(y.dtype)


def numbered(y: Array, classes: Array) -> Array:
    """Return the places of labels among the classes, where all of them are."""
    bounds = _bounds(classes)
    if bounds is None or y.dtype != classes.dtype:
        return np.searchsorted(classes, y)
    places = np.zeros(bounds[1] - bounds[0] + 1, np.int64)
    places[classes.astype(np.int64) - bounds[0]] = np.arange(len(classes))
    return places[y.astype(np.int64, copy=False) - bounds[0]]


def _bounds(y: Array) -> tuple[int, int] | None:
    """Return the least and the largest of labels that are integers which a table can hold, else None."""
    if y.dtype.kind not in "iu" or y.dtype == np.uint64 or not y.size:
        return None
    low, high = int(y.min()), int(y.max())
    return (low, high) if high - low < 2**16 else None


def _has_probabilities(estimator: Any) -> bool:
    if estimator.loss != "log_loss":
        raise AttributeError(f"probabilities need loss='log_loss', not {estimator.loss!r}")
    return True


class Probabilities(Targets):
    """The probabilities of classes, for losses that have them."""

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, (rows, classes)."""
        return softmax.forward(self._outputs(X))

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))
