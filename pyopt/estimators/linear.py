"""Linear regression and classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..arrays.backend import Array
from ..kernels.layers import linear
from ..kernels.linear_models import linear_sgd, sparse_linear, sparse_sgd
from ..kernels.penalties.elastic_net import ElasticNet
from ..kernels.penalties.l1 import L1
from ..kernels.penalties.l2 import L2
from ..optim import OPTIMIZERS
from ._docs import documented
from ._models import Linear
from ._rates import DESCENT, linear_rates
from ._targets import REALS, Classes, Numbers, Probabilities, within
from ._trainer import Trainer, _as_list, keep


class LinearModel(Trainer):
    """What regression and classification share: the model, its fast epochs, and its attributes."""

    fit_intercept: bool
    _sparse = True

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for up to ``max_iter`` epochs.

        Parameters
        ----------
        X : array or sparse matrix of shape (rows, features)
        y : array of shape (rows,), or (rows, outputs) for regression
        sample_weight : array of shape (rows,), optional
            Not negative. An integer weight is worth as many copies of the row; a row of weight 0 is not there.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, not (self.warm_start and hasattr(self, "coef_")))

    def _check(self) -> None:
        super()._check()
        if not isinstance(self.fit_intercept, (bool, np.bool_)):
            raise TypeError(f"fit_intercept={self.fit_intercept!r}: must be True or False")

    def _shape(self) -> dict[str, Any]:
        return {"fit_intercept": bool(self.fit_intercept)}

    def _make_model(self, X: Any, target: Array, weight: Array) -> Linear:
        outputs = self._loss.outputs
        start = self._first_intercept(target, weight) if self.fit_intercept else None
        return Linear(X.shape[1], outputs, X.dtype, start)

    def _rates(self, X: Any, target: Array, weight: Array) -> dict[str, Any]:
        if self.lr != "auto":
            return {"weights": self.lr, "intercepts": self.lr}
        momentum = 0.0
        if self.rule in DESCENT and "momentum" in OPTIMIZERS[self.rule].rule.Values._fields:
            hyper = OPTIMIZERS[self.rule].rule.hyper("momentum")
            given = (self.hypers or {}).get("momentum", hyper.default)
            momentum = hyper.check(given(0) if callable(given) else given)
        batch, spread = self._batch(int(np.count_nonzero(weight))), self._spread(target, weight)
        return linear_rates(self.rule, self.loss, momentum, batch, X, spread, weight)

    # ---- whole epochs in one call

    def _penalties(self, sparse: bool) -> linear_sgd.Penalties | None:
        """Return what the fast epoch takes for penalty, prox and weight_decay, or None where it cannot."""
        decay = (self.hypers or {}).get("weight_decay", 0.0)
        if callable(decay):
            return None
        two_alpha = OPTIMIZERS["sgd"].rule.hyper("weight_decay").check(decay)
        l1 = threshold = 0.0
        for penalty in _as_list(self.penalty):
            if type(penalty) not in (L1, L2, ElasticNet):
                return None
            pulls = penalty.scalars()
            if not isinstance(penalty, L2):
                l1, pulls = l1 + pulls[0], pulls[1:]
            two_alpha += pulls[0] if pulls else 0.0
        for prox in _as_list(self.prox):
            if type(prox) is not L1:
                return None
            threshold += prox.alpha
        if sparse and l1:
            return None
        return linear_sgd.Penalties(two_alpha, l1, threshold, 1.0 if self.fit_intercept else 0.0)

    def _fast(self, sparse: bool) -> bool:
        squared = self.loss == "squared_error"
        return (
            self.rule == "sgd"
            and set(self.hypers or {}) <= {"weight_decay"}
            and not self.loss_options
            and (squared or (self.loss == "log_loss" and self._loss.outputs == 1))
            and self._penalties(sparse) is not None
        )

    def _epoch(self, X: Any, target: Array, weight: Array, order: Array, batch: int) -> float:
        sparse = not isinstance(X, np.ndarray)
        if not self._fast(sparse):
            return super()._epoch(X, target, weight, order, batch)
        module = sparse_sgd if sparse else linear_sgd
        lr, steps = self._lr["weights"], -(-len(order) // batch)
        check = OPTIMIZERS["sgd"].rule.hyper("lr").check
        if callable(lr):
            rate = np.array([check(lr(self.t_ + i)) for i in range(steps)], X.dtype)
        else:
            rate = np.full(steps, check(lr), X.dtype)
        w = np.ascontiguousarray(self._model.w.T)
        total = module.epoch(
            "squared" if self.loss == "squared_error" else "logistic", self._model.input(X), order, w, self._model.b,
            np.ascontiguousarray(target.T), weight, rate, batch, self._penalties(sparse),
        )  # fmt: skip
        if not np.may_share_memory(w, self._model.w):
            self._model.w[...] = w.T
        return total / len(order)

    # ---- results

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, within(X), accept_sparse="csr", dtype=REALS, order="C", reset=False)
        w = np.ascontiguousarray(np.atleast_2d(self.coef_).T, X.dtype)
        b = np.ascontiguousarray(np.atleast_1d(self.intercept_), X.dtype)
        if w.shape != (X.shape[1], len(b)):
            raise ValueError(
                f"coef_ has shape {np.shape(self.coef_)}, intercept_ {np.shape(self.intercept_)}: "
                f"they do not fit together, or not to {X.shape[1]} features"
            )
        if isinstance(X, np.ndarray):
            return linear.forward(X, w, b)
        return sparse_linear.forward(Linear.input(X), np.arange(X.shape[0]), w, b)

    def __sklearn_tags__(self) -> Any:
        """Say what scikit-learn may feed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@documented
class LinearRegressor(Numbers, MultiOutputMixin, RegressorMixin, LinearModel):  # type: ignore[misc]
    """Linear regression by any rule: y = X coef_ + intercept_, for one target or several.

    With rule="sgd" and the squared loss an epoch is one call of a kernel, whatever the batch size.

    Attributes
    ----------
    coef_ : array (features,), or (targets, features)
    intercept_ : float, or array (targets,)
    """

    def __init__(
        self,
        rule: str = "adam",
        *,
        lr: Any = "auto",
        schedule: Any = None,
        hypers: Any = None,
        penalty: Any = None,
        prox: Any = None,
        loss: str = "squared_error",
        loss_options: Any = None,
        batch_size: Any = "auto",
        max_iter: int = 1000,
        tol: float | None = 1e-4,
        fit_intercept: bool = True,
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
        return self._fit(X, y, sample_weight, not hasattr(self, "coef_"), True)

    def _publish(self) -> None:
        w, b = self._model.w, self._model.b
        self.coef_ = w[:, 0] if self._columns is None else w.T
        self.intercept_ = b if self._columns is not None else b[0]


@documented
class LinearClassifier(Classes, Probabilities, ClassifierMixin, LinearModel):  # type: ignore[misc]
    """Linear classification by any rule: logistic and softmax regression, support vector machines.

    More than two classes are one softmax with loss="log_loss", else one against all others each. With rule="sgd", the
    log loss and two classes an epoch is one call of a kernel, whatever the batch size.

    Attributes
    ----------
    classes_ : array (classes,)
    coef_ : array (classes, features), or (1, features) for two classes
    intercept_ : array (classes,) or (1,)
    """

    def __init__(
        self,
        rule: str = "adam",
        *,
        lr: Any = "auto",
        schedule: Any = None,
        hypers: Any = None,
        penalty: Any = None,
        prox: Any = None,
        loss: str = "log_loss",
        loss_options: Any = None,
        class_weight: Any = None,
        batch_size: Any = "auto",
        max_iter: int = 1000,
        tol: float | None = 1e-4,
        fit_intercept: bool = True,
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
        return self._fit(X, y, sample_weight, not hasattr(self, "coef_"), True, classes)

    def _publish(self) -> None:
        self.coef_, self.intercept_ = self._model.w.T, self._model.b
