"""Multi-layer perceptrons for regression and classification."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..arrays.backend import Array
from ..validate import one_of
from ._docs import documented
from ._models import ACTIVATIONS, Network
from ._rates import network_rates
from ._targets import REALS, Classes, Numbers, Probabilities, within
from ._trainer import Trainer, keep


class Perceptron(Trainer):
    """What regression and classification share: the network and its attributes."""

    hidden_layer_sizes: Any
    activation: str
    batch_norm: bool
    dropout: float
    augment: Any
    image_shape: Any
    _sparse = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for up to ``max_iter`` epochs.

        Parameters
        ----------
        X : array of shape (rows, features)
        y : array of shape (rows,), or (rows, outputs) for regression
        sample_weight : array of shape (rows,), optional
            Not negative. An integer weight is worth as many copies of the row; a row of weight 0 is not there.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, not (self.warm_start and hasattr(self, "coefs_")))

    def _check(self) -> None:
        super()._check()
        sizes = self._sizes()
        if not all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size >= 1 for size in sizes):
            raise ValueError(f"hidden_layer_sizes={self.hidden_layer_sizes!r}: must be integers >= 1")
        one_of("activation", self.activation, ACTIVATIONS)
        if not isinstance(self.batch_norm, (bool, np.bool_)):
            raise TypeError(f"batch_norm={self.batch_norm!r}: must be True or False")
        if self.batch_norm and self.batch_size == 1:
            raise ValueError("batch_size=1 with batch_norm=True: batch norm needs 2 rows at least")
        if not isinstance(self.dropout, Real) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r}: must be in [0, 1)")
        if self.augment is not None and not callable(self.augment):
            raise TypeError(f"augment={self.augment!r}: must be a pyopt.augment.Images, a function like it, or None")
        shape = self.image_shape
        if shape is not None and not (isinstance(shape, (tuple, list)) and all(isinstance(n, Integral) for n in shape)):
            raise TypeError(f"image_shape={shape!r}: must be a tuple of integers, or None")

    def _sizes(self) -> tuple[Any, ...]:
        given = self.hidden_layer_sizes
        if isinstance(given, Integral):
            return (given,)
        if not isinstance(given, (tuple, list, np.ndarray)):
            raise TypeError(f"hidden_layer_sizes={given!r}: must be an integer >= 1, or a tuple of them")
        return tuple(given)

    def _shape(self) -> dict[str, Any]:
        return {
            "hidden_layer_sizes": tuple(map(int, self._sizes())), "activation": self.activation,
            "batch_norm": bool(self.batch_norm), "dropout": float(self.dropout),
        }  # fmt: skip

    def _make_model(self, X: Any, target: Array, weight: Array) -> Network:
        sizes = (X.shape[1], *map(int, self._sizes()), self._loss.outputs)
        shape = self.image_shape
        if shape is not None and (math.prod(shape) != X.shape[1] or min(shape) < 1):
            raise ValueError(f"image_shape={shape!r}: X has {X.shape[1]} features, not their product")
        if self.batch_norm and np.count_nonzero(weight) < 2:
            raise ValueError("1 sample with batch_norm=True: batch norm needs 2 rows at least")
        return Network(
            sizes, X.dtype, self.activation, bool(self.batch_norm), float(self.dropout),
            self._first_intercept(target, weight), self._spread(target, weight), self._rng,
        )  # fmt: skip

    def _rates(self, X: Any, target: Array, weight: Array) -> dict[str, Any]:
        if self.lr != "auto":
            return dict.fromkeys(("weights", "last", "intercepts", "last_intercepts"), self.lr)
        return network_rates(self.rule, self._spread(target, weight))

    def _given(self, x: Any, labels: Array, rows: Array, t: int) -> tuple[Any, Array, Array | None]:
        if self.augment is None:
            return super()._given(x, labels, rows, t)
        shape = (len(rows), *(self.image_shape or x.shape[1:]))
        images, labels = self.augment(x[rows].reshape(shape), labels, seed=self._model.seed, step=t, index=rows)
        if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
            kinds = f"{type(images).__name__} and {type(labels).__name__}"
            raise TypeError(f"augment={self.augment!r}: it returned {kinds}, and two arrays are needed")
        if images.size != len(rows) * x.shape[1]:
            raise ValueError(f"augment={self.augment!r}: it made {images.shape} of {shape}, and sizes must not change")
        flat = np.ascontiguousarray(images.reshape(len(rows), -1), x.dtype)
        return flat, labels if labels.dtype.kind == "i" else np.ascontiguousarray(labels, x.dtype), None

    def _publish(self) -> None:
        layers = [*self._model.hidden, self._model]
        self.coefs_ = [layer.w for layer in layers]
        self.intercepts_ = [layer.b for layer in layers]
        self.n_layers_, self.n_outputs_ = len(layers) + 1, self._loss.outputs

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, within(X), dtype=REALS, order="C", reset=False)
        return self._model.infer(X.astype(self._model.w.dtype, copy=False))


@documented
class MLPRegressor(Numbers, MultiOutputMixin, RegressorMixin, Perceptron):  # type: ignore[misc]
    """A multi-layer perceptron for regression by any rule, with batch norm, dropout and augmentation.

    Attributes
    ----------
    coefs_, intercepts_ : lists of arrays, one for each layer
    n_layers_, n_outputs_ : int
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        rule: str = "adam",
        lr: Any = "auto",
        schedule: Any = None,
        hypers: Any = None,
        penalty: Any = None,
        prox: Any = None,
        loss: str = "squared_error",
        loss_options: Any = None,
        batch_norm: bool = False,
        dropout: float = 0.0,
        augment: Any = None,
        image_shape: Any = None,
        batch_size: Any = "auto",
        max_iter: int = 200,
        tol: float | None = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: Any = None,
        verbose: Any = False,
    ) -> None:
        keep(self, locals())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch on these rows, from where training stands."""
        return self._fit(X, y, sample_weight, not hasattr(self, "coefs_"), True)


@documented
class MLPClassifier(Classes, Probabilities, ClassifierMixin, Perceptron):  # type: ignore[misc]
    """A multi-layer perceptron for classification by any rule, with batch norm, dropout and augmentation.

    Attributes
    ----------
    classes_ : array (classes,)
    coefs_, intercepts_ : lists of arrays, one for each layer
    n_layers_, n_outputs_ : int
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        rule: str = "adam",
        lr: Any = "auto",
        schedule: Any = None,
        hypers: Any = None,
        penalty: Any = None,
        prox: Any = None,
        loss: str = "log_loss",
        loss_options: Any = None,
        class_weight: Any = None,
        batch_norm: bool = False,
        dropout: float = 0.0,
        augment: Any = None,
        image_shape: Any = None,
        batch_size: Any = "auto",
        max_iter: int = 200,
        tol: float | None = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: Any = None,
        verbose: Any = False,
    ) -> None:
        keep(self, locals())

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Train for one epoch on these rows, from where training stands; the first call names all ``classes``."""
        return self._fit(X, y, sample_weight, not hasattr(self, "coefs_"), True, classes)
