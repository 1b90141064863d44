"""Optimizers over NumPy arrays: one class per rule, all of them this base."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ._arrays import Array, beside, check_parameters, copied, make_plan, swap
from ._device import adopt, adopted, described
from ._group import GRAD_SCALE, Given, Group
from .kernels import engine
from .kernels.rules import RULES
from .kernels.spec import Hyper, Rule
from .loss_scale import DynamicLossScale

Params = Iterable[Any]

_MAX_GRAD_NORM = Hyper("max_grad_norm", None)
_SKIP_NONFINITE = Hyper("skip_nonfinite", False)


class Made(NamedTuple):
    """All that an optimizer was made of, replaced as one: a change takes effect as a whole or not at all."""

    groups: list[Group]
    own: list[tuple[Array, ...]]  # the parameters by group; names, states and plan go through them in order
    names: list[str]
    states: list[list[Array | None]]  # those of the rule, and the EMA
    structures: list[Any]
    plan: Any


class Optimizer:
    """What all optimizers have in common; use one of the subclasses.

    Parameters
    ----------
    params : iterable of arrays, of ``(name, array)`` pairs, or of dicts
        Dense float32 or float64 arrays of one dtype, updated in place. A dict is a parameter group: ``"params"`` and
        the hyper-parameters in which it differs.
    penalty : Penalty or sequence of them, optional
        Its gradient is added to the loss gradient inside the step; several add up.
    **hypers
        The rule's hyper-parameters, listed in the signature. ``lr`` is a float or a function of the number of steps
        taken.
    clip_value, max_tensor_norm : float, optional
        Bound of each element of a gradient, and of the Euclidean norm of each gradient.
    ema_decay : float, optional
        Keep an exponential moving average of the parameters, from their first values on: see ``ema_params``.
    max_grad_norm : float, optional
        Bound of the norm of all gradients together.
    skip_nonfinite : bool
        Take no step where a gradient has an infinite or NaN element; ``skipped`` says so afterwards.

    All hyper-parameters can be written between steps, in ``param_groups``; ``max_grad_norm`` and ``skip_nonfinite`` are
    attributes.

    Raises
    ------
    TypeError, ValueError
        Where a parameter cannot be updated in place or a hyper-parameter is out of range.
    """

    rule: ClassVar[Rule]
    _state_names: ClassVar[list[str]]
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, rule: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.rule = RULES[rule]
        cls._state_names = [*(state.name for state in cls.rule.states), "ema"]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        hypers = [inspect.Parameter(h.name, kind, default=h.default) for h in cls.rule.all_hypers]
        cls.__signature__ = inspect.Signature(
            [
                inspect.Parameter("params", kind),
                *hypers,
                *(
                    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
                    for name, default in (("penalty", None), ("max_grad_norm", None), ("skip_nonfinite", False))
                ),
            ]
        )
        cls.__doc__ = cls.rule.doc

    def __init__(self, params: Params, *args: Any, **kwargs: Any) -> None:
        bound = self.__signature__.bind(params, *args, **kwargs)
        bound.apply_defaults()
        self.defaults = {name: value for name, value in bound.arguments.items() if name != "params"}
        self.max_grad_norm = _MAX_GRAD_NORM.check(self.defaults.pop("max_grad_norm"))
        self.skip_nonfinite = _SKIP_NONFINITE.check(self.defaults.pop("skip_nonfinite"))
        self.param_groups: list[dict[str, Any]] = []
        self._guard = engine.Guard()
        self._made = Made([], [], [], [], [], None)
        self._tensors = False  # whether a parameter came as a tensor of PyTorch in this process's memory
        given: Any = params if isinstance(params, (np.ndarray, str, Mapping)) else list(params)
        grouped = isinstance(given, list) and given and isinstance(given[0], Mapping)
        for group in given if grouped else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add arrays with hyper-parameters of their own: ``{"params": [...], "lr": ...}``."""
        self._guard.run(self._add, group)

    def _add(self, group: Mapping[str, Any]) -> None:
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{_brief(group)}: a parameter group is a dict with 'params' and hyper-parameters")
        if unknown := set(group) - set(self.defaults) - {"params"}:
            raise TypeError(
                f"{sorted(unknown)} in a parameter group: {type(self).__name__} has {sorted(self.defaults)}"
            )
        had = self._made
        pairs = _named(group["params"], len(had.names))
        arrays = tuple(array for _, array in pairs)
        names = [*had.names, *(name for name, _ in pairs)]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"the names {twice} are used twice")
        values = {**self.defaults, **{key: value for key, value in group.items() if key != "params"}}
        new = Group(self.rule, values)
        steps, carries = had.plan.progress() if had.plan is not None else ([], [])
        states: list[Sequence[Array | None]] = [*had.states, *([None] * len(self._state_names) for _ in arrays)]
        made = self._make([*had.groups, new], [*had.own, arrays], names, states,
                          [*steps, *[0] * len(arrays)], [*carries, *[0.0] * len(arrays)])  # fmt: skip
        self._tensors |= any(map(adopted, arrays))
        self.param_groups.append({"params": arrays, "param_names": tuple(name for name, _ in pairs), **values})
        self._made = made

    def step(self, grads: Sequence[Array | None], grad_scale: float | DynamicLossScale = 1.0,
             zero_grads: bool = False) -> None:  # fmt: skip
        """Update all parameters in place.

        Parameters
        ----------
        grads : sequence of arrays or None
            One for each parameter, of its shape, dtype and memory order; None skips the parameter, and its step count
            stays.
        grad_scale : float or DynamicLossScale
            What the loss was multiplied by: gradients are divided by it. Greater than 0. A DynamicLossScale turns
            ``skip_nonfinite`` on and is told what was found.
        zero_grads : bool
            Fill the gradients with zeros in the same pass.

        Raises
        ------
        TypeError, ValueError
            Before anything is touched, where a gradient does not go with its parameter, memory is shared, or a
            hyper-parameter is out of range.
        RuntimeError
            Where another thread is in the middle of a step of this optimizer.
        """
        self._guard.run(self._step, grads, grad_scale, zero_grads)

    def _step(self, grads: Sequence[Array | None], grad_scale: float | DynamicLossScale, zero_grads: bool) -> None:
        if isinstance(grads, np.ndarray):
            raise TypeError("grads is an array: a list of arrays is needed, such as [grad]")
        if self._tensors:
            grads = [adopt(g) for g in grads]
        scaler = grad_scale if isinstance(grad_scale, DynamicLossScale) else None
        scale = 1.0 if grad_scale == 1.0 else GRAD_SCALE.check(scaler.scale if scaler else grad_scale)
        made = self._made
        for group, own, values in zip(made.groups, made.own, self.param_groups, strict=True):
            if values["params"] is not own:
                raise ValueError("the 'params' of a parameter group were replaced: use add_param_group")
            group.refresh(values)
        if made.structures != [group.structure for group in made.groups]:
            made = self._made = self._make(made.groups, made.own, made.names, made.states, *made.plan.progress())
        largest = math.inf if self.max_grad_norm is None else _MAX_GRAD_NORM.check(self.max_grad_norm)
        skip = scaler is not None or (self.skip_nonfinite is not False and _SKIP_NONFINITE.check(self.skip_nonfinite))
        made.plan.step(grads, Given(made.groups, scale), zero_grads, largest, skip)
        if scaler is not None and made.plan.skipped:
            scaler.found_nonfinite = True

    def write_hypers(self) -> None:
        """Bring changed hyper-parameters to the GPU, for a CUDA graph that holds a step to be replayed with them.

        ``step`` does so itself; on the CPU there is nothing to do.
        """
        self._guard.run(self._write)

    def _write(self) -> None:
        for group, values in zip(self._made.groups, self.param_groups, strict=True):
            group.refresh(values)
        if self._made.structures != [group.structure for group in self._made.groups]:
            raise ValueError("a hyper-parameter that was written changes which kernels run: capture a new graph")
        if hasattr(self._made.plan, "refresh"):
            self._made.plan.refresh(Given(self._made.groups, 1.0))

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
        new = [array for _, array in _named(params, 0)]
        had = self._made
        old = [p for own in had.own for p in own]
        if [described(p) for p in new] != [described(p) for p in old]:
            raise ValueError(f"{_brief([described(p) for p in new])}: must have the shapes and dtypes of the "
                             "parameters")  # fmt: skip
        check_parameters(had.names, new)
        states = [[None if a is None else beside(p, copied(a)) for a in row]
                  for p, row in zip(new, had.states, strict=True)]  # fmt: skip
        left = iter(new)
        own = [tuple(next(left) for _ in arrays) for arrays in had.own]
        made = self._make(had.groups, own, had.names, states, *had.plan.progress())
        for values, arrays in zip(self.param_groups, own, strict=True):
            values["params"] = arrays
        self._made = made

    @property
    def grad_norm(self) -> float | None:
        """The norm of all gradients of the last step, after ``grad_scale`` and before clipping.

        None where neither a limit of a norm nor ``skip_nonfinite`` asked for it.
        """
        return self._made.plan.norm  # type: ignore[no-any-return]

    @property
    def skipped(self) -> bool:
        """Whether the last step was none, because a gradient was infinite or NaN."""
        return self._made.plan.skipped  # type: ignore[no-any-return]

    def ema_params(self) -> list[Array]:
        """Return copies of the moving averages of the parameters; ValueError where one has no ``ema_decay``."""
        return [ema.copy(order="K") for ema in self._emas()]

    @contextlib.contextmanager
    def swapped_ema(self) -> Iterator[None]:
        """Let the parameters hold their moving averages inside the ``with`` block, for evaluation."""
        emas = self._emas()
        params = [p for own in self._made.own for p in own]
        self._guard.run(_swap, params, emas)
        try:
            yield
        finally:
            self._guard.run(_swap, params, emas)

    def _emas(self) -> list[Array]:
        emas = [states[-1] for states in self._made.states]
        for name, ema in zip(self._made.names, emas, strict=True):
            if ema is None:
                raise ValueError(f"{name} has no moving average: ema_decay is None")
        return emas  # type: ignore[return-value]

    def _make(self, groups: list[Group], own: list[tuple[Array, ...]], names: list[str],
              states: Sequence[Sequence[Array | None]], steps: list[int], carries: list[float]) -> Made:  # fmt: skip
        params = [array for arrays in own for array in arrays]
        index = [i for i, arrays in enumerate(own) for _ in arrays]
        check_parameters(names, params)
        filled = [groups[i].states(p, have) for i, p, have in zip(index, params, states, strict=True)]
        structures = [group.structure for group in groups]
        stages = [stages for _, stages in structures]
        used = [
            [array if on else None for array, on in zip(row, structures[i][0], strict=True)]
            for i, row in zip(index, filled, strict=True)
        ]
        plan = make_plan(f"rules.{self.rule.kernel}", names, params, used, index, stages, steps, carries)
        return Made(groups, own, names, filled, structures, plan)

    @property
    def state(self) -> list[dict[str, Any]]:
        """What belongs to each parameter: ``step``, the number of steps taken, ``carry``, and the live arrays."""
        names = self._state_names
        return [
            {"step": t, "carry": carry}
            | {name: array for name, array in zip(names, own, strict=True) if array is not None}
            for t, carry, own in zip(*self._made.plan.progress(), self._made.states, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot of states and hyper-parameters, in the shape of torch's; later steps do not change it."""
        return self._guard.run(self._snapshot)  # type: ignore[no-any-return]

    def _snapshot(self) -> dict[str, Any]:
        states = [{key: copied(value) for key, value in state.items()} for state in self.state]
        groups, first = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            groups.append({**group, "params": list(range(first, first + count))})
            first += count
        return {"version": 1, "rule": self.rule.name, "state": dict(enumerate(states)), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a snapshot, to the same bits.

        Raises
        ------
        ValueError, TypeError
            Where rule, number of groups or parameters, names, shapes or dtypes differ; nothing has changed then.
        """
        self._guard.run(self._load, state_dict)

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        keys = {"version", "rule", "state", "param_groups"}
        if not isinstance(state_dict, Mapping) or set(state_dict) != keys:
            raise ValueError(f"a state_dict is a dict with the keys {sorted(keys)}, got {_brief(state_dict)}")
        for key, must in (("version", 1), ("rule", self.rule.name)):
            if state_dict[key] != must:
                raise ValueError(f"{key} of the state_dict is {state_dict[key]!r}: must be {must!r}")
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"the state_dict has {len(saved)} parameter groups, the optimizer {len(self.param_groups)}"
            )
        values = []
        for i, (have, given) in enumerate(zip(self.param_groups, saved, strict=True)):
            if set(given) != set(have):
                raise ValueError(f"group {i} of the state_dict has the keys {sorted(given)}: must be {sorted(have)}")
            if tuple(given["param_names"]) != have["param_names"]:
                raise ValueError(
                    f"group {i} of the state_dict has the parameters {list(given['param_names'])}: "
                    f"must be {list(have['param_names'])}"
                )
            values.append({**given, "params": have["params"], "param_names": have["param_names"]})
        groups = [Group(self.rule, value) for value in values]
        states, steps, carries = self._read(state_dict["state"], groups)
        made = self._make(groups, self._made.own, self._made.names, states, steps, carries)
        self._made, self.param_groups = made, values

    def _read(self, saved: Mapping[int, Any], groups: list[Group]) -> tuple[Any, list[int], list[float]]:
        """Return checked copies of the states, and the step counts and carries."""
        params = [(group, p) for group, own in zip(groups, self._made.own, strict=True) for p in own]
        if not isinstance(saved, Mapping) or set(saved) != set(range(len(params))):
            raise ValueError(f"the state_dict has states for {_brief(saved)}: must be for 0 to {len(params) - 1}")
        names = self._state_names
        known = {"step", "carry", *names}
        states: list[list[Array | None]] = []
        for i, (group, p) in enumerate(params):
            entry, name = saved[i], self._made.names[i]
            needed = {state for state, on in zip(names, group.structure[0], strict=True) if on}
            if not needed | {"step", "carry"} <= set(entry) <= known:
                raise ValueError(
                    f"{name} has {sorted(entry)} in the state_dict: must be {sorted(needed)}, step and carry"
                )
            t = entry["step"]
            if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or t < 0:
                raise ValueError(f"step of {name} is {t!r} in the state_dict: must be an integer >= 0")
            carry = entry["carry"]
            if isinstance(carry, bool) or not isinstance(carry, (int, float)) or not math.isfinite(carry):
                raise ValueError(f"carry of {name} is {carry!r} in the state_dict: must be a finite number")
            arrays = [entry.get(state) for state in names]
            for state, array in zip(names, arrays, strict=True):
                if array is not None and described(array) != described(p):
                    shape, dtype = described(p)
                    raise ValueError(f"{state} of {name} is {_brief(array)}: must be {dtype} of shape {shape}")
            states.append([None if array is None else beside(p, array) for array in arrays])
        order = range(len(params))
        return states, [int(saved[i]["step"]) for i in order], [float(saved[i]["carry"]) for i in order]

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


def _swap(params: Sequence[Array], emas: Sequence[Array]) -> None:
    for p, ema in zip(params, emas, strict=True):
        swap(p, ema)


def _brief(value: Any) -> str:
    """Return what ``value`` is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    text = repr(sorted(value, key=str)) if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _named(params: Any, first: int) -> list[tuple[str, Any]]:
    """Return (name, array) pairs, with a name made up where none is given."""
    if isinstance(params, (np.ndarray, str, Mapping)):
        raise TypeError(f"params is {type(params).__name__}: a list of arrays is needed, such as [w, b]")
    pairs = []
    for i, item in enumerate(params, first):
        named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        name, array = item if named else (f"params[{i}]", item)
        pairs.append((name, adopt(array)))
    if not pairs:
        raise ValueError("the list of parameters is empty: at least one array is needed")
    return pairs


class SGD(Optimizer, rule="sgd"): ...


class Momentum(Optimizer, rule="momentum"): ...


class Adagrad(Optimizer, rule="adagrad"): ...


class RMSprop(Optimizer, rule="rmsprop"): ...


class Adam(Optimizer, rule="adam"): ...


class AdamW(Optimizer, rule="adamw"): ...


class Lion(Optimizer, rule="lion"): ...
