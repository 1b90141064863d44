"""Optimizers over NumPy arrays: one class per rule, all of them this base."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..arrays.backend import Array, check_parameters, copy_like, is_list, kept, named, put, stored
from ..arrays.gpu import as_numpy, integers, written
from ..kernels.hyper import Hyper
from ..kernels.native import Guard, Loan, write
from ..kernels.rules import RULES
from ..kernels.spec import Rule
from ..kernels.step import Request
from ..training.loss_scale import DynamicLossScale
from .assembly import Assembly, brief
from .checkpoint import loaded, snapshot
from .group import GRAD_SCALE, ZERO_GRADS, ParamGroup
from .signature import documentation, signature
from .slots import slots

Params = Iterable[Any]

_MAX_GRAD_NORM = Hyper("max_grad_norm", None)
_SKIP_NONFINITE = Hyper("skip_nonfinite", False)


class Optimizer:
    """What all optimizers have in common; use one of the subclasses.

    Parameters
    ----------
    params : iterable of arrays, of ``(name, array)`` pairs, or of dicts
        Dense arrays of float64, float32, bfloat16 (of ml_dtypes) or float16, updated in place; each is computed in
        float32, those of float64 in float64. A dict is a parameter group: ``"params"`` and the hyper-parameters and
        options in which it differs.
    **hypers
        The rule's hyper-parameters, listed in the signature. In the place of a number, also of one in a pair, may stand
        a function of the number of steps taken, such as one of ``pyopt.schedules``; flags and the first value of a
        state take none. A state that belongs to it is kept, also while it returns 0.
    maximize : bool
        Flip the sign of the gradients.
    clip_value, max_tensor_norm : float, optional
        Bound of each element of a gradient, and of the Euclidean norm of each gradient. Of several limits
        ``max_grad_norm`` comes first and ``clip_value`` last, each for what the one before has left.
    ema_decay : float, optional
        Keep an exponential moving average of the parameters, from their first values on: see ``ema_params``.
    ema_bias_correction : bool
        Let the first values count for nothing: the average is that of Adam's means, divided by 1 - ema_decay^t.
    penalty : Penalty or sequence of them, optional
        Its gradient is added to the loss gradient inside the step; several add up.
    prox : Penalty, Projection or sequence of them, optional
        Applied to the new parameters in its proximal form, which sets them to exact zeros or bounds where it should.
        Several only where the form of their sum is known: a convex penalty by element, such as L1, followed by Box
        or NonNegative; L1 followed by GroupLasso.
    metric : None or "lr"
        What a proximal form takes for the step: None, how far the rule moves each element by a constant gradient of 1
        in the long run, which leaves the minimum where it is; "lr", the learning rate.
    rounding : "nearest", "stochastic" or "remainder"
        How parameters and states of 16 bits are rounded. Nearest loses steps below half a unit in the last place.
        Stochastic keeps them in the mean. Remainder keeps the 16 bits that a bfloat16 parameter lacks in an array
        beside it, and so is as exact as float32 (states are rounded to the nearest).
    seed : int
        Of stochastic rounding, in [0, 2**64).
    state_dtype : dtype or dict, optional
        How states and the EMA are stored, by their names if they differ; what their parameter is computed in by
        default.
    shadow_dtype : dtype, optional
        Keep a copy of the parameters in bfloat16 or float16, written in the same pass: see ``shadow_params``.
    max_grad_norm : float, optional
        Bound of the norm of all gradients together.
    skip_nonfinite : bool
        Take no step where a gradient has an infinite or NaN element; ``skipped`` says so afterwards.

    All of them can be written between steps, in ``param_groups``; ``max_grad_norm`` and ``skip_nonfinite`` are
    attributes.

    Raises
    ------
    TypeError, ValueError
        Where a parameter cannot be updated in place or a hyper-parameter is out of range.
    """

    rule: ClassVar[Rule]
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, rule: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.rule = RULES[rule]
        cls.__signature__ = signature(cls.rule)
        cls.__doc__ = documentation(cls.rule, Optimizer.__doc__)

    def __init__(self, params: Params, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "rule"):
            raise TypeError("Optimizer is what all optimizers have in common: use one of them, such as pyopt.SGD")
        try:
            bound = self.__signature__.bind(params, *args, **kwargs)
        except TypeError as error:
            allowed = ", ".join(self.__signature__.parameters)
            raise TypeError(f"{type(self).__name__}(): {error}; its arguments are {allowed}") from None
        bound.apply_defaults()
        self.defaults = {name: value for name, value in bound.arguments.items() if name != "params"}
        self.max_grad_norm = _MAX_GRAD_NORM.check(self.defaults.pop("max_grad_norm"))
        self.skip_nonfinite = _SKIP_NONFINITE.check(self.defaults.pop("skip_nonfinite"))
        self.param_groups: list[dict[str, Any]] = []
        self._guard = Guard()
        self._assembly = Assembly([], [], [], [], [], False, [], [], [], [], None)  # type: ignore[arg-type]  # a plan needs parameters
        given: Any = list(params) if is_list(params) else params
        grouped = isinstance(given, list) and given and isinstance(given[0], Mapping)
        for group in given if grouped else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add arrays with hyper-parameters of their own: ``{"params": [...], "lr": ...}``."""
        self._guard.run(self._add, group)

    def _add(self, group: Mapping[str, Any]) -> None:
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{brief(group)}: a parameter group is a dict with 'params' and hyper-parameters")
        self._known(set(group))
        pairs = named(group["params"], len(self._assembly.names))
        values = {**self.defaults, **{key: value for key, value in group.items() if key != "params"}}
        made = self._assembly.extended(ParamGroup(self.rule, values), pairs)
        group = {"params": made.own[-1], "param_names": tuple(name for name, _ in pairs), **values}
        vars(self).update(param_groups=[*self.param_groups, group], _assembly=made)  # at once

    def _known(self, keys: set[str]) -> None:
        """Raise where one of the keys of a parameter group means nothing."""
        if unknown := sorted(keys - set(self.defaults) - {"params"}):
            raise TypeError(f"{unknown} in a parameter group: {type(self).__name__} has {sorted(self.defaults)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self).get("defaults", ()):
            raise AttributeError(
                f"{type(self).__name__} has no {name}: write param_groups[0][{name!r}], and that of each other group"
            )
        super().__setattr__(name, value)

    def step(self, grads: Sequence[Array | None], grad_scale: float | DynamicLossScale = 1.0,
             zero_grads: bool = False) -> None:  # fmt: skip
        """Update all parameters in place.

        Parameters
        ----------
        grads : sequence of arrays or None
            One for each parameter, of its shape and memory order, in its dtype or in float32, bfloat16 or float16; None
            skips the parameter, and its step count stays.
        grad_scale : float or DynamicLossScale
            What the loss was multiplied by: gradients are divided by it. At least 2**-126, so that float32 has its
            inverse. A DynamicLossScale turns ``skip_nonfinite`` on and is told what was found.
        zero_grads : bool
            Fill the gradients with zeros in the same pass.

        Raises
        ------
        TypeError, ValueError
            Before anything is touched, where a gradient does not go with its parameter, memory is shared, or a
            hyper-parameter is out of range.
        RuntimeError
            Where another thread is in the middle of a step of this optimizer, or inside ``swapped_ema()``.
        """
        self._guard.run(self._step, grads, grad_scale, zero_grads)

    def step_rows(self, indices: Any, values: Array, param: str | int | None = None,
                  grad_scale: float | DynamicLossScale = 1.0) -> None:  # fmt: skip
        """Update some rows of one parameter, such as the embeddings that a batch has used.

        Only these rows are touched, of the parameter, its states, EMA and shadow. With ``SGD`` without momentum and
        with ``Adagrad`` the result is that of ``step`` with a gradient of 0 for all other rows. Where zero gradients
        would move a row further, because the rule remembers earlier ones, a row stays between its steps, as in torch's
        SparseAdam, and the step count is that of the parameter. Decoupled weight decay (and that of ``SGD`` without
        momentum) is made up for when a row is touched, at the next ``step`` with a gradient of the parameter, or by
        ``catch_up_rows``; penalties and proximal forms act on the rows given.

        Parameters
        ----------
        indices : sequence of integers, shape (k,)
            In [0, len(parameter)). The gradients of a row that comes twice are added, in their order.
        values : array of shape (k, ...)
            A gradient for each index, C-contiguous, of the dtypes that ``step`` takes.
        param : str or int, optional
            The name or the position of the parameter; not needed where there is one only.
        grad_scale : float or DynamicLossScale
            As in ``step``. The limits of norms are those of these gradients.

        Raises
        ------
        TypeError, ValueError
            Before anything is touched: as ``step``, and where a coupled weight decay would move all other rows as well.
        """
        self._guard.run(self._step_rows, indices, values, param, grad_scale)

    def catch_up_rows(self) -> None:
        """Bring all rows up to date that ``step_rows`` has left behind, before the weights are used as a whole.

        The EMA and the shadow of a row wait for a step that touches it.
        """
        self._guard.run(self._catch_up)

    def _catch_up(self) -> None:
        made = self._current()
        made.plan.catch_up()
        written(p for p, own in zip(made.given, made.beside, strict=True) if own.row_decay is not None)

    def _step(self, grads: Sequence[Array | None], grad_scale: float | DynamicLossScale, zero_grads: bool) -> None:
        if not is_list(grads):
            raise TypeError(f"grads is {type(grads).__name__}: a list of arrays is needed, such as [grad]")
        if zero_grads is not True and zero_grads is not False:
            zero_grads = ZERO_GRADS.check(zero_grads)
        made, request = self._refresh(grad_scale, zero_grads)
        given = list(grads) if made.torch else grads
        if made.torch:
            grads = [as_numpy(g) for g in given]
        made.plan.step(grads, request)
        if made.torch:
            written(p for p, g in zip(made.given, grads, strict=True) if g is not None)
            written(given if zero_grads else ())
        if isinstance(grad_scale, DynamicLossScale) and made.plan.skipped:
            grad_scale.found_nonfinite = True

    def _step_rows(self, indices: Any, values: Array, param: str | int | None,
                   grad_scale: float | DynamicLossScale) -> None:  # fmt: skip
        made, request = self._refresh(grad_scale)
        i = made.position(param)
        group = made.of_each(made.groups)[i]
        lazy = group.lazy_decay(made.plan.progress()[0][i] + 1 if group.group.schedules else 1)
        rows, values = integers(indices), as_numpy(values)
        if lazy != 1 and made.beside[i].row_decay is None:
            made.plan.check_rows(i, rows, values)
            p, beside = made.params[i], [*made.beside]
            beside[i] = beside[i]._replace(row_decay=copy_like(p, np.ones(slots(group, p).row_decay.shape)))
            made = made.over(beside)
            request = request._replace(notes=self._notes(made))
        made.plan.step_rows(i, rows, values, request, lazy)
        written(made.given[i : i + 1])
        if isinstance(grad_scale, DynamicLossScale) and made.plan.skipped:
            grad_scale.found_nonfinite = True

    def _notes(self, made: Assembly) -> tuple[Any, ...]:
        """Return what a plan takes to let ``made`` be the optimizer's from its step on."""
        return () if made is self._assembly else ((), (vars(self), {"_assembly": made}))

    def _refresh(self, grad_scale: float | DynamicLossScale, zero: bool = False) -> tuple[Assembly, Request]:
        """Take over what was written to the groups; return what is made of it, and what the step is asked for.

        It is the optimizer's when it takes the step, and not before.
        """
        scaler = grad_scale if isinstance(grad_scale, DynamicLossScale) else None
        plain = type(grad_scale) is float and grad_scale == 1.0  # as nearly always
        scale = 1.0 if plain else GRAD_SCALE.check(scaler.scale if scaler else grad_scale)
        made = self._current()
        if made.renewed(self.param_groups):
            made = made.over(made.beside)
        largest = math.inf if self.max_grad_norm is None else _MAX_GRAD_NORM.check(self.max_grad_norm)
        skip = scaler is not None or (self.skip_nonfinite is not False and _SKIP_NONFINITE.check(self.skip_nonfinite))
        still = made.still if made.tensors and any(group.group.schedules for group in made.groups) else None
        groups = [group.group for group in made.groups]
        return made, Request(groups, scale, zero, largest, skip, self._notes(made), still)

    def _current(self) -> Assembly:
        """Return what was made of the groups, over the memory that tensors have now."""
        made = self._intact().followed()
        if made is not self._assembly:
            self._assembly = made
        return made

    def _intact(self) -> Assembly:
        """Return what was made of the groups; ValueError where their list is another one."""
        for values in self.param_groups:
            if len(values) > len(self.defaults) + 2:
                self._known(set(values) - {"param_names"})
        return self._assembly.intact(self.param_groups)

    def write_hypers(self) -> None:
        """Bring changed hyper-parameters to the GPU, for a CUDA graph that holds a step to be replayed with them.

        ``step`` does so itself; on the CPU there is nothing to do.
        """
        self._guard.run(self._write)

    def _write(self) -> None:
        made = self._intact()
        if made.renewed(self.param_groups):
            raise ValueError("a hyper-parameter that was written changes which kernels run: capture a new graph")
        made.plan.refresh([group.group for group in made.groups])

    def to(self, params: Params) -> None:
        """Step these arrays from now on: copies of the parameters on another device, in their order.

        States and step counts move along, to the same bits.

        Raises
        ------
        ValueError, TypeError
            Where number, shapes or dtypes differ, or an array cannot be updated in place; nothing has changed then.
        """
        self._guard.run(self._move, params)

    def _move(self, params: Params) -> None:
        made = self._current().over_copies([array for _, array in named(params, 0)])
        changes = [(values, {"params": arrays}) for values, arrays in zip(self.param_groups, made.own, strict=True)]
        write((), *changes, (vars(self), {"_assembly": made}))

    @property
    def grad_norm(self) -> float | None:
        """The norm of all gradients of the last step, after ``grad_scale`` and before clipping.

        None where neither a limit of a norm nor ``skip_nonfinite`` asked for it.
        """
        return self._assembly.plan.norm

    @property
    def skipped(self) -> bool:
        """Whether the last step was none, because a gradient was infinite or NaN."""
        return self._assembly.plan.skipped

    def ema_params(self) -> list[Array]:
        """Return copies of the moving averages of the parameters; ValueError where one has no ``ema_decay``."""
        self._guard.closed()
        return [ema.copy(order="K") for ema in self._emas()]

    def swapped_ema(self) -> contextlib.AbstractContextManager[None]:
        """Let the parameters hold their moving averages inside the ``with`` block, for evaluation.

        What is written to them there is lost. Nothing else can be done with the optimizer there: RuntimeError.
        """
        return Loan(self._guard, self._averages, self._put)

    def _averages(self) -> tuple[list[Array], list[Array]]:
        """Return the averages in the dtypes of the parameters, and copies of the parameters."""
        made = self._current()
        check_parameters(made.names, params := made.params)
        return [stored(ema, p) for p, ema in zip(params, self._emas(), strict=True)], [kept(p) for p in params]

    def _put(self, values: Sequence[Array]) -> None:
        made = self._current()
        put(made.params, values)
        written(made.given)

    def _emas(self) -> list[Array]:
        return self._assembly.kept("ema", "has no moving average: ema_decay is None")

    def shadow_params(self) -> list[Array]:
        """Return the copies in ``shadow_dtype``, which every step writes anew; ValueError where there is none."""
        return self._assembly.kept("shadow", "has no shadow: shadow_dtype is None")

    @property
    def state(self) -> list[dict[str, Any]]:
        """What belongs to each parameter: ``step``, the number of steps taken, ``carry``, and the live arrays."""
        return self._assembly.described(self.rule, self._assembly.beside)

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot of states and hyper-parameters, in the shape of torch's; later steps do not change it.

        What was written to ``param_groups`` since the last step is in it: ValueError or TypeError where a step would
        refuse it.
        """
        return self._guard.run(self._snapshot)  # type: ignore[no-any-return]

    def _snapshot(self) -> dict[str, Any]:
        return snapshot(self.rule, self._current(), self.param_groups)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a snapshot, to the same bits.

        One of an older version of pyopt may lack hyper-parameters and options: they get their defaults.

        Raises
        ------
        ValueError, TypeError
            Where rule, number of groups or parameters, names, shapes or dtypes differ, or where it has keys that this
            version does not know; nothing has changed then.
        """
        self._guard.run(self._load, state_dict)

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        values, made = loaded(state_dict, self.rule, self._current, self.param_groups)
        vars(self).update(param_groups=values, _assembly=made)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{type(self).__name__} is bound to the memory of its arrays: copy or pickle state_dict() instead"
        )

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}: {len(group['params'])} arrays")
            lines += [f"    {key}: {group[key]!r}" for key in self.defaults]
        return "\n".join([*lines, ")"])
