"""Optimizers over NumPy arrays: one class per rule, all of them this base."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from ._arrays import Array, beside, make_plan
from .kernels import checks, step
from .kernels.rules import RULES
from .kernels.spec import Hyper, Penalty, Rule

Params = Iterable[Any]

GRAD_SCALE = Hyper("grad_scale", 1.0, low=float(np.finfo(np.float64).tiny))


class Group:
    """The hyper-parameters of a parameter group as the kernels take them, read anew from its dict at every step."""

    def __init__(self, rule: Rule, values: dict[str, Any]) -> None:
        self.rule = rule
        self.read = itemgetter(*(h.name for h in rule.all_hypers), "penalty")
        self.seen: tuple[Any, ...] = ()
        self.structure: tuple[Any, ...] = ()
        self.refresh(values)

    def refresh(self, group: dict[str, Any]) -> bool:
        """Take over what was written to ``group``, checked; return whether states or stages changed with it."""
        given = self.read(group)
        if given == self.seen:
            return False
        values = {}
        for hyper, value in zip(self.rule.all_hypers, given, strict=False):
            values[hyper.name] = value if hyper.name == "lr" and callable(value) else hyper.check(value)
        self.h = self.rule.Values(**values)
        if wrong := self.rule.check(self.h):
            raise ValueError(wrong)
        penalties = _penalties(given[-1])
        group.update(values, penalty=given[-1])
        self.seen = self.read(group)
        self.penalties = tuple(penalty for penalty in penalties if any(penalty.scalars()))
        before, self.structure = self.structure, (
            tuple(state.when is None or bool(values[state.when]) for state in self.rule.states),
            step.stages(self.rule, self.h, self.penalties),
        )  # fmt: skip
        return self.structure != before

    def work(self, grad_scale: float, t: int, carry: float) -> step.Work:
        """Return what step ``t`` (from 1 on) hands to the stages."""
        h = self.h
        if callable(h.lr):
            h = h._replace(lr=self.rule.hyper("lr").check(h.lr(t - 1)))
        return step.work(self.rule, h, self.penalties, grad_scale, t, carry)

    def states(self, p: Array, have: Sequence[Array | None]) -> list[Array | None]:
        """Return the states of ``p``: those in ``have``, and a new one where one is on and missing."""
        return [
            (array if array is not None else beside(p, self.start(state.start))) if on else array
            for state, on, array in zip(self.rule.states, self.structure[0], have, strict=True)
        ]

    def start(self, value: float | str) -> float:
        """Return the first value of a state."""
        return getattr(self.h, value) if isinstance(value, str) else value


class Optimizer:
    """What all optimizers have in common; use one of the subclasses.

    Parameters
    ----------
    params : iterable of arrays, of ``(name, array)`` pairs, or of dicts
        Dense float32 or float64 arrays of one dtype, updated in place. A dict is a parameter group: ``"params"`` and the
        hyper-parameters in which it differs.
    penalty : Penalty or sequence of them, optional
        Its gradient is added to the loss gradient inside the step; several add up.
    **hypers
        The rule's hyper-parameters, listed in the signature. ``lr`` is a float or a function of the number of steps taken.

    All hyper-parameters can be written between steps, in ``param_groups``.

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
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        hypers = [inspect.Parameter(h.name, kind, default=h.default) for h in cls.rule.all_hypers]
        cls.__signature__ = inspect.Signature(
            [
                inspect.Parameter("params", kind),
                *hypers,
                inspect.Parameter("penalty", inspect.Parameter.KEYWORD_ONLY, default=None),
            ]
        )
        cls.__doc__ = cls.rule.doc

    def __init__(self, params: Params, *args: Any, **kwargs: Any) -> None:
        bound = self.__signature__.bind(params, *args, **kwargs)
        bound.apply_defaults()
        self.defaults = {name: value for name, value in bound.arguments.items() if name != "params"}
        self.param_groups: list[dict[str, Any]] = []
        self._groups: list[Group] = []
        self._own: list[tuple[Array, ...]] = []
        self._names: list[str] = []
        self._states: list[list[Array | None]] = []
        self._plan: Any = None
        given = params if isinstance(params, (np.ndarray, str, Mapping)) else list(params)
        grouped = isinstance(given, list) and given and isinstance(given[0], Mapping)
        for group in given if grouped else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add arrays with hyper-parameters of their own: ``{"params": [...], "lr": ...}``."""
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{group!r}: a parameter group is a dict with 'params' and hyper-parameters")
        if unknown := set(group) - set(self.defaults) - {"params"}:
            raise TypeError(f"{sorted(unknown)} in a parameter group: {type(self).__name__} has {sorted(self.defaults)}")
        pairs = _named(group["params"], len(self._names))
        names, arrays = [name for name, _ in pairs], tuple(array for _, array in pairs)
        if twice := sorted({name for name in names if [*self._names, *names].count(name) > 1}):
            raise ValueError(f"the names {twice} are used twice")
        values = {**self.defaults, **{key: value for key, value in group.items() if key != "params"}}
        new = Group(self.rule, values)
        empty: list[Array | None] = [None] * len(self.rule.states)
        owned = [*self._own, arrays]
        plan, states = self._make([*self._groups, new], owned, [*self._names, *names],
                                  [*self._states, *([empty] * len(arrays))], *self._progress(len(arrays)))  # fmt: skip
        self.param_groups.append({"params": arrays, "param_names": tuple(names), **values})
        self._plan, self._states, self._own = plan, states, owned
        self._groups.append(new)
        self._names += names

    def step(self, grads: Sequence[Array | None], grad_scale: float = 1.0, zero_grads: bool = False) -> None:
        """Update all parameters in place.

        Parameters
        ----------
        grads : sequence of arrays or None
            One for each parameter, of its shape, dtype and memory order; None skips the parameter, whose step count stays.
        grad_scale : float
            What the loss was multiplied by: gradients are divided by it. Greater than 0.
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
        if isinstance(grads, np.ndarray):
            raise TypeError("grads is an array: a list of arrays is needed, such as [grad]")
        if grad_scale != 1.0:
            grad_scale = GRAD_SCALE.check(grad_scale)
        changed = False
        for group, own, values in zip(self._groups, self._own, self.param_groups, strict=True):
            if values["params"] is not own:
                raise ValueError("the 'params' of a parameter group were replaced: use add_param_group")
            if group.refresh(values):
                changed = True
        if changed:
            self._plan, self._states = self._make(
                self._groups, self._own, self._names, self._states, *self._plan.progress()
            )
        self._plan.step(grads, partial(self._work, grad_scale), zero_grads)

    def _work(self, grad_scale: float, group: int, t: int, carry: float) -> step.Work:
        return self._groups[group].work(grad_scale, t, carry)

    def _make(self, groups: Sequence[Group], own: Sequence[Sequence[Array]], names: Sequence[str],
              states: Sequence[Sequence[Array | None]], steps: Sequence[int], carries: Sequence[float],
              ) -> tuple[Any, list[list[Array | None]]]:  # fmt: skip
        params = [array for arrays in own for array in arrays]
        index = [i for i, arrays in enumerate(own) for _ in arrays]
        checks.parameters(names, params)
        filled = [groups[i].states(p, have) for i, p, have in zip(index, params, states, strict=True)]
        stages = [group.structure[1] for group in groups]
        return make_plan(f"rules.{self.rule.kernel}", names, params, filled, index, stages, steps, carries), filled

    def _progress(self, new: int = 0) -> tuple[list[int], list[float]]:
        steps, carries = self._plan.progress() if self._plan is not None else ([], [])
        return [*steps, *[0] * new], [*carries, *[0.0] * new]

    @property
    def state(self) -> list[dict[str, Any]]:
        """The states of each parameter, in order: ``step``, the number of steps taken, and the rule's arrays."""
        names = [state.name for state in self.rule.states]
        return [
            {"step": t, "carry": carry, **{name: array for name, array in zip(names, own, strict=True) if array is not None}}
            for t, carry, own in zip(*self._progress(), self._states, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return a snapshot of states and hyper-parameters, in the shape of torch's; later steps do not change it."""
        states = [
            {key: value.copy(order="K") if isinstance(value, np.ndarray) else value for key, value in state.items()}
            for state in self.state
        ]
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
        saved = state_dict.get("param_groups", ())
        if state_dict.get("version") != 1 or state_dict.get("rule") != self.rule.name:
            raise ValueError(
                f"a state_dict of rule {state_dict.get('rule')!r}, version {state_dict.get('version')!r}: "
                f"must be {self.rule.name!r}, 1"
            )
        if len(saved) != len(self.param_groups):
            raise ValueError(f"the state_dict has {len(saved)} parameter groups, the optimizer {len(self.param_groups)}")
        groups, values = [], []
        for i, (have, given) in enumerate(zip(self.param_groups, saved, strict=True)):
            if tuple(given["param_names"]) != have["param_names"]:
                raise ValueError(
                    f"group {i} of the state_dict has the parameters {list(given['param_names'])}, "
                    f"the optimizer {list(have['param_names'])}"
                )
            if set(given) != set(have):
                raise ValueError(f"group {i} of the state_dict has the keys {sorted(given)}, must be {sorted(have)}")
            values.append({**given, "params": have["params"], "param_names": have["param_names"]})
            groups.append(Group(self.rule, values[-1]))
        states, steps, carries = self._read_states(state_dict["state"], groups)
        plan, states = self._make(groups, self._own, self._names, states, steps, carries)
        for have, given in zip(self.param_groups, values, strict=True):
            have.update(given)
        self._groups, self._states, self._plan = groups, states, plan

    def _read_states(self, saved: Mapping[int, Any], groups: Sequence[Group]) -> Any:
        params = [(group, p) for group, own in zip(groups, self._own, strict=True) for p in own]
        if set(saved) != set(range(len(params))):
            raise ValueError(f"the state_dict has states for {len(saved)} parameters, the optimizer has {len(params)}")
        states: list[list[Array | None]] = []
        for i, (group, p) in enumerate(params):
            entry, name = dict(saved[i]), self._names[i]
            row: list[Array | None] = []
            for state, on in zip(self.rule.states, group.structure[0], strict=True):
                array = entry.get(state.name)
                if array is None and on:
                    raise ValueError(f"{name} has no {state.name} in the state_dict")
                if array is not None and (array.shape != p.shape or array.dtype != p.dtype):
                    raise ValueError(
                        f"{state.name} of {name} is {array.dtype} {array.shape} in the state_dict, "
                        f"must be {p.dtype} {p.shape}"
                    )
                row.append(None if array is None else beside(p, array))
            known = {"step", "carry", *(state.name for state in self.rule.states)}
            if not set(entry) <= known or not {"step", "carry"} <= set(entry):
                raise ValueError(f"{name} has {sorted(entry)} in the state_dict, known are {sorted(known)}")
            if not isinstance(entry["step"], (int, np.integer)) or entry["step"] < 0:
                raise ValueError(f"step of {name} is {entry['step']!r} in the state_dict: must be an integer >= 0")
            states.append(row)
        return states, [int(saved[i]["step"]) for i in saved], [float(saved[i]["carry"]) for i in saved]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}: {len(group['params'])} arrays")
            lines += [f"    {key}: {group[key]!r}" for key in self.defaults]
        return "\n".join([*lines, ")"])


def _named(params: Any, first: int) -> list[tuple[str, Any]]:
    """Return (name, array) pairs, with a name made up where none is given."""
    if isinstance(params, (np.ndarray, str, Mapping)):
        raise TypeError(f"params is {type(params).__name__}: a list of arrays is needed, such as [w, b]")
    pairs = []
    for i, item in enumerate(params, first):
        named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        pairs.append((item[0], item[1]) if named else (f"params[{i}]", item))
    if not pairs:
        raise ValueError("the list of parameters is empty: at least one array is needed")
    return pairs


def _penalties(given: Any) -> tuple[Penalty, ...]:
    """Return the penalties of a group as a tuple."""
    if given is None:
        return ()
    penalties = (given,) if isinstance(given, Penalty) else tuple(given) if isinstance(given, (list, tuple)) else None
    if penalties is None or not all(isinstance(penalty, Penalty) for penalty in penalties):
        raise TypeError(f"penalty={given!r}: must be a Penalty such as pyopt.L1(1e-4), a list of them, or None")
    return penalties


class SGD(Optimizer, rule="sgd"): ...


class Momentum(Optimizer, rule="momentum"): ...


class Adagrad(Optimizer, rule="adagrad"): ...


class RMSprop(Optimizer, rule="rmsprop"): ...


class Adam(Optimizer, rule="adam"): ...


class AdamW(Optimizer, rule="adamw"): ...


class Lion(Optimizer, rule="lion"): ...
