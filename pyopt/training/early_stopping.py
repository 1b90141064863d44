"""Early stopping: end a training loop when a metric no longer improves, and go back to the best weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array
from ..kernels.hyper import Hyper
from ..kernels.native import write
from ..validate import VERSION, integer, one_of, real, saved
from .weights import Weights, array_list, copied, fits

_SETTINGS = ("monitor", "min_delta", "patience", "mode", "baseline", "restore_best_weights", "start_from_epoch")


class EarlyStopping:
    """Say when a training loop is to end: ``if stopper.update(metric, params): break``, once an epoch.

    Parameters
    ----------
    monitor : str
        The name of the metric: of its entry where ``update`` is given a dict, and in errors.
    min_delta : float
        A metric must be better than the best one by more than this to count as an improvement, >= 0.
    patience : int
        Epochs without an improvement after which to stop, >= 0; 0 and 1 stop at the first.
    mode : "min" or "max"
        Whether the metric is to fall or to rise.
    baseline : float, optional
        An improvement ends the waiting only where the metric is better than this, too. An epoch that improves never
        stops the training, so a run that gets a little better each time goes on without ever reaching it.
    restore_best_weights : bool
        Keep copies of the weights of the best epoch, and write them back when it is time to stop; ``restore`` does so
        at any time.
    start_from_epoch : int
        Epochs before this one, counted from 0, are not looked at, >= 0.

    A NaN is never an improvement, not even in the first epoch. Names, defaults and behaviour are those of Keras, but
    for the mode, which is never guessed from the name; after a loop that ends by itself call ``restore``.

    Attributes
    ----------
    best, best_epoch : float or None, int or None
        The best metric so far and its epoch.
    stopped_epoch : int or None
        The epoch that ended the training.

    Source: L. Prechelt, "Early stopping - but when?", 1998, https://doi.org/10.1007/3-540-49430-8_3

    >>> import numpy as np, pyopt
    >>> w = np.zeros(1)
    >>> stopper = pyopt.EarlyStopping(patience=2, restore_best_weights=True)
    >>> for epoch, loss in enumerate([3.0, 1.0, 2.0, 1.5, 0.5]):
    ...     w[0] = epoch
    ...     if stopper.update(loss, [w]): break
    >>> epoch, stopper.best, w.tolist()
    (3, 1.0, [1.0])
    """

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 0, mode: str = "min",
                 baseline: float | None = None, restore_best_weights: bool = False,
                 start_from_epoch: int = 0) -> None:  # fmt: skip
        if not isinstance(monitor, str):
            raise TypeError(f"monitor={monitor!r}: must be a name")
        self.monitor = monitor
        self.min_delta: float = Hyper("min_delta", 0.0).check(min_delta)
        self.patience = integer("patience", patience, 0)
        self.mode = one_of("mode", mode, ("min", "max"))
        self.baseline = None if baseline is None else _finite("baseline", baseline)
        self.restore_best_weights: bool = Hyper("restore_best_weights", False).check(restore_best_weights)
        self.start_from_epoch = integer("start_from_epoch", start_from_epoch, 0)
        self.epoch = 0  # the number of calls of update
        self.wait = 0
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_weights: list[Array] | None = None
        self._weights = Weights([])  # of the last update

    def update(self, metric: float | Mapping[str, float], params: Sequence[Array] = ()) -> bool:
        """Take in the metric of an epoch and return whether to stop.

        Parameters
        ----------
        metric : float, or dict with an entry called ``monitor``
        params : list of arrays
            The weights; needed with ``restore_best_weights`` only. Those of the best epoch are copied, and written back
            into these arrays when the answer is True.

        Raises
        ------
        TypeError, ValueError
            Before anything has changed, where the metric is no number or the weights cannot be restored.
        """
        current = self._read(metric)
        weights = Weights(params if self.restore_best_weights else [])
        arrays = weights.arrays
        epoch = self.epoch
        if self.restore_best_weights and not arrays:
            raise ValueError("params is empty: restore_best_weights=True needs the weights")
        fits(arrays, self._best_weights or arrays)
        changes: dict[str, Any] = {"epoch": epoch + 1, "_weights": weights}
        if epoch < self.start_from_epoch:
            vars(self).update(changes)
            return False
        better = self._improves(current, self.best)
        changes["wait"] = 0 if better and self._improves(current, self.baseline) else self.wait + 1
        stops = not better and changes["wait"] >= self.patience and epoch > 0
        keeps = better or (self.restore_best_weights and self._best_weights is None)
        changes |= ({"best": current} if better else {}) | ({"stopped_epoch": epoch} if stops else {})
        changes |= {"best_epoch": epoch} if keeps else {}
        self._take(weights, keeps, stops, changes)
        return stops

    def _take(self, weights: Weights, keeps: bool, stops: bool, changes: dict[str, Any]) -> None:
        """Copy the best weights, or write them back, and note the rest at once."""
        best = self._best_weights
        pairs: Iterable[tuple[Array, Array]] = ()
        if self.restore_best_weights and keeps:
            if best is None:
                changes["_best_weights"] = copied(weights.arrays)
            else:
                pairs = zip(best, weights.arrays, strict=True)
        elif stops and best is not None:
            weights.put(best, (vars(self), changes))
            return
        write(pairs, (vars(self), changes))

    def restore(self, params: Sequence[Array] | None = None) -> None:
        """Write the best weights back, in place.

        ``params`` are the arrays to fill, those of the last ``update`` if not given. ValueError where no weights were
        kept, or arrays differ from them in number, shape or dtype; nothing has changed then.
        """
        if self._best_weights is None:
            raise ValueError("there are no best weights: restore_best_weights=True and an update come before")
        weights = self._weights if params is None else Weights(params)
        if params is None and not weights.given:
            raise ValueError("params is missing: it is known after the first update since load_state_dict")
        fits(weights.arrays, self._best_weights)
        weights.put(self._best_weights)

    def _improves(self, x: float, other: float | None) -> bool:
        if other is None:
            return not math.isnan(x)
        return x + self.min_delta < other if self.mode == "min" else x - self.min_delta > other

    def _read(self, metric: Any) -> float:
        if isinstance(metric, Mapping):
            if self.monitor not in metric:
                raise ValueError(f"monitor={self.monitor!r} is not among the metrics {sorted(map(str, metric))}")
            metric = metric[self.monitor]
        return real(self.monitor, metric)

    def state_dict(self) -> dict[str, Any]:
        """Return settings, progress and copies of the best weights; later updates do not change it."""
        names = (*_SETTINGS, "epoch", "wait", "best", "best_epoch", "stopped_epoch")
        weights = None if self._best_weights is None else copied(self._best_weights)
        return {"version": VERSION, **{name: getattr(self, name) for name in names}, "best_weights": weights}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``; ValueError or TypeError, and no change, where a value is out of range."""
        state_dict = saved(state_dict, self)
        other = EarlyStopping(**{name: state_dict[name] for name in _SETTINGS})
        other.epoch, other.wait = (integer(name, state_dict[name], 0) for name in ("epoch", "wait"))
        best, weights = state_dict["best"], state_dict["best_weights"]
        other.best = None if best is None else _finite("best", best, infinite=True)
        other.best_epoch, other.stopped_epoch = (
            None if state_dict[name] is None else integer(name, state_dict[name], 0)
            for name in ("best_epoch", "stopped_epoch")
        )
        other._best_weights = None if weights is None else copied(array_list(weights, "best_weights"))
        if weights is not None and not other.restore_best_weights:
            raise ValueError("the state_dict has best_weights and restore_best_weights=False: must be one or the other")
        self.__dict__.update(vars(other))


def _finite(name: str, x: Any, infinite: bool = False) -> float:
    """Return a number; ``infinite`` ones only if allowed."""
    allowed = "a number" if infinite else "None or a finite number"
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, (int, float, np.number)):
        raise TypeError(f"{name}={x!r}: must be {allowed}")
    if math.isnan(x) or (math.isinf(x) and not infinite):
        raise ValueError(f"{name}={x!r}: must be {allowed}")
    return float(x)
