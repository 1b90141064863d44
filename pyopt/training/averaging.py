"""Averages of weights over a run, and ensembles of the weights at the ends of cycles."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array, check_parameters, placed_like
from ..kernels import checks
from ..kernels.native import Guard, Loan
from ..kernels.numerics import codecs
from ..kernels.sums import absorb
from ..validate import VERSION, integer, saved
from .weights import Weights, array_list, copied, fits


class PolyakAverage:
    """The mean of the weights over the steps or epochs of a run, all of them with equal weight.

    Call ``update()`` after every step, or after every epoch. With ``every`` the steps of an epoch it is stochastic
    weight averaging (SWA). There is no bias to correct: an average of n weights is their mean, whatever was before.

    Parameters
    ----------
    params : list of arrays
        Those of the optimizer, of any dtype that it takes. Averages of bfloat16 and float16 are float32.
    start : int
        Updates before this one, counted from 0, are left out, >= 0.
    every : int
        Of the others, each ``every``-th counts, the first one included, >= 1.

    Attributes
    ----------
    count : int
        How many weights are in the average.

    The mean is m + 1 / (n + 1) * (p - m), in one pass over both with the bits of the reference; subnormal numbers in it
    become 0.

    Source: B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992,
    https://doi.org/10.1137/0330046; P. Izmailov et al., "Averaging weights leads to wider optima and better
    generalization", UAI 2018, https://arxiv.org/abs/1803.05407

    >>> import numpy as np, pyopt
    >>> w = np.zeros(1)
    >>> mean = pyopt.PolyakAverage([w], start=2)
    >>> for step in range(6):
    ...     w[0] = step
    ...     mean.update()
    >>> with mean.swapped(): print(mean.count, w)
    4 [3.5]
    """

    def __init__(self, params: Sequence[Array], start: int = 0, every: int = 1) -> None:
        self._weights = Weights(params)
        if not self._params:
            raise ValueError("the list of parameters is empty: at least one array is needed")
        check_parameters(_names(self._params), self._params)
        self.start, self.every = integer("start", start, 0), integer("every", every, 1)
        self.count = 0
        self.updates = 0
        self._means: list[Array] = []
        self._layout = [_layout(p) for p in self._params]
        self._guard = Guard("this average", "swapped()")

    @property
    def _params(self) -> list[Array]:
        return self._weights.arrays

    def update(self) -> None:
        """Count one more step, and take the weights into the average where it is their turn."""
        self._guard.run(self._update)

    def _update(self) -> None:
        self._check_layout()
        counts = {"updates": self.updates + 1}
        since = self.updates - self.start
        if since < 0 or since % self.every:
            vars(self).update(counts)
            return
        numbers = [codecs.upcast(p) for p in self._params]
        counts["count"] = self.count + 1
        if self._means:
            absorb(self._means, numbers, self.count, (vars(self), counts))
        else:
            means = [placed_like(p, x, x.dtype) for p, x in zip(self._params, numbers, strict=True)]
            vars(self).update(counts, _means=means)

    def average_params(self) -> list[Array]:
        """Return copies of the averages; ValueError before the first one."""
        return copied(self._filled())

    def swapped(self) -> contextlib.AbstractContextManager[None]:
        """Let the parameters hold their averages inside the ``with`` block; what is written to them there is lost."""
        return Loan(self._guard, self._lent, self._weights.put)

    def _lent(self) -> tuple[list[Array], list[Array]]:
        """Return the averages in the dtypes of the parameters, and copies of the parameters."""
        means = self._filled()
        self._check_layout()
        values = [codecs.encode(m, p.dtype) for m, p in zip(means, self._params, strict=True)]
        fits(self._params, values)
        return values, copied(self._params)

    def _filled(self) -> list[Array]:
        if not self._means:
            raise ValueError(f"there is no average yet: {self.updates} updates with start={self.start}")
        return self._means

    def _check_layout(self) -> None:
        for i, (p, layout) in enumerate(zip(self._params, self._layout, strict=True)):
            if _layout(p) != layout:
                checks.changed(p, f"params[{i}]")

    def state_dict(self) -> dict[str, Any]:
        """Return settings, counts and copies of the averages; later updates do not change it."""
        counts = {name: getattr(self, name) for name in ("start", "every", "count", "updates")}
        return {"version": VERSION, **counts, "averages": copied(self._means)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``, to the same bits; ValueError or TypeError, and no change, where it is bad."""
        self._guard.run(self._load, state_dict)

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        state_dict = saved(state_dict, self)
        other = PolyakAverage(self._weights.given, state_dict["start"], state_dict["every"])
        other.updates = integer("updates", state_dict["updates"], 0)
        other.count = integer("count", state_dict["count"], 0)
        due = -(-max(0, other.updates - other.start) // other.every)
        if other.count != due:
            raise ValueError(f"count={other.count!r}: must be {due} after {other.updates} updates")
        given = array_list(state_dict["averages"], "averages")
        have = [f"{m.dtype}{list(m.shape)}" for m in given]
        must = [f"{np.dtype(codecs.compute(p.dtype))}{list(p.shape)}" for p in self._params] if due else []
        if have != must:
            raise ValueError(f"averages are {have}: must be {must}")
        other._means = [placed_like(p, m, m.dtype) for p, m in zip(self._params, given, strict=False)]
        vars(self).update({**vars(other), "_guard": self._guard})


class SnapshotEnsemble:
    """Copies of the weights at the end of each cycle of a schedule: several models from one run.

    Call ``update()`` after every step of the optimizer. Iterating yields the members, the oldest first, each a list of
    read-only arrays in the order of ``params``.

    Parameters
    ----------
    params : list of arrays
    schedule : CosineRestarts or Cyclic
        Or anything with ``ends_cycle(step)``, the number of steps taken before; 0 for the first step.
    max_members : int, optional
        Keep the last ones only, >= 1.

    Source: G. Huang et al., "Snapshot ensembles: train 1, get M for free", ICLR 2017, https://arxiv.org/abs/1704.00109

    >>> import numpy as np, pyopt
    >>> w = np.zeros(1)
    >>> ensemble = pyopt.SnapshotEnsemble([w], pyopt.schedules.CosineRestarts(0.1, T_0=3))
    >>> for step in range(9):
    ...     w[0] = step
    ...     ended = ensemble.update()
    >>> [float(member[0][0]) for member in ensemble]
    [2.0, 5.0, 8.0]
    >>> ensemble.predict(lambda weights: 10 * weights[0])
    array([50.])
    """

    def __init__(self, params: Sequence[Array], schedule: Any, max_members: int | None = None) -> None:
        self._weights = Weights(params)
        if not self._params:
            raise ValueError("the list of parameters is empty: at least one array is needed")
        if not callable(getattr(schedule, "ends_cycle", None)):
            raise TypeError(f"schedule={schedule!r}: must have ends_cycle(step), as CosineRestarts and Cyclic do")
        self.schedule = schedule
        self.max_members = None if max_members is None else integer("max_members", max_members, 1)
        self.updates = 0
        self._members: tuple[list[Array], ...] = ()
        self._guard = Guard("this ensemble", "swapped()")

    @property
    def _params(self) -> list[Array]:
        return self._weights.arrays

    def update(self) -> bool:
        """Count one more step and return whether it ended a cycle; the weights are copied then."""
        return self._guard.run(self._update)  # type: ignore[no-any-return]

    def _update(self) -> bool:
        ended = bool(self.schedule.ends_cycle(self.updates))
        members = (*self._members, _frozen(copied(self._params))) if ended else self._members
        vars(self).update(updates=self.updates + 1, _members=self._last(members))
        return ended

    def _last(self, members: tuple[list[Array], ...]) -> tuple[list[Array], ...]:
        """Return those that are kept."""
        return members if self.max_members is None else members[-self.max_members :]

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, i: int) -> list[Array]:
        return list(self._members[i])

    def __iter__(self) -> Iterator[list[Array]]:
        return (list(member) for member in self._members)

    def swapped(self, i: int) -> contextlib.AbstractContextManager[None]:
        """Let the parameters hold member ``i`` inside the ``with`` block; what is written to them there is lost."""

        def lent() -> tuple[list[Array], list[Array]]:
            fits(self._params, self._members[i])
            return self._members[i], copied(self._params)

        return Loan(self._guard, lent, self._weights.put)

    def predict(self, function: Callable[[list[Array]], Any]) -> Array:
        """Return the mean of ``function(member)`` over all members.

        ``function`` takes the weights as a list in the order of ``params`` and returns an array of a floating-point
        dtype, or a float. The mean is taken in float32 or float64, as averages of weights are.
        """
        if not self._members:
            raise ValueError("the ensemble has no members: no cycle has ended yet")
        mean: Array | None = None
        for n, member in enumerate(self):
            x = np.asarray(function(member))
            checks.plain_array(x, "the result of function", checks.STORED)
            x = np.array(codecs.decode(x, codecs.compute(x.dtype)), order="C")
            if mean is None:
                mean = x
            elif (x.shape, x.dtype) != (mean.shape, mean.dtype):
                raise ValueError(
                    f"function returned {x.dtype} of shape {x.shape} for member {n}: "
                    f"must be {mean.dtype} of shape {mean.shape}, as for those before"
                )
            else:
                absorb([mean], [x], n)
        return mean  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        """Return progress and copies of the members, to be continued with the same schedule."""
        return {"version": VERSION, "updates": self.updates, "members": [copied(member) for member in self._members]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``; ValueError or TypeError, and no change, where it is none of these weights."""
        self._guard.run(self._load, state_dict)

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        state_dict = saved(state_dict, self)
        updates = integer("updates", state_dict["updates"], 0)
        members = [array_list(member, f"members[{i}]") for i, member in enumerate(state_dict["members"])]
        for member in members:
            fits(self._params, member)
        vars(self).update(updates=updates, _members=self._last(tuple(_frozen(copied(member)) for member in members)))


def _names(params: Sequence[Array]) -> list[str]:
    return [f"params[{i}]" for i in range(len(params))]


def _layout(p: Array) -> Any:
    return p.shape, p.strides, p.dtype


def _frozen(arrays: list[Array]) -> list[Array]:
    for a in arrays:
        a.flags.writeable = False
    return arrays
