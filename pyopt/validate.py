"""Argument validation: each function returns the checked value, or raises TypeError or ValueError."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from .arrays.backend import Array
from .kernels import checks
from .kernels.hyper import Hyper

VERSION = 1  # of all state_dicts; another one comes with what reads those before it


def planes(x: Any) -> Array:
    """Return x, of what is computed in, as (samples, channels, pixels)."""
    checks.rows_array(x, "x")
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}: must be (samples, channels) or (samples, channels, ...)")
    made: Array = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    return made


def rows(x: Any) -> Array:
    """Return x as (rows, columns)."""
    checks.rows_array(x, "x", checks.STORED)
    if x.ndim == 0:
        raise ValueError("x has shape (): must be (..., columns)")
    made: Array = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return made


def normed(x: Any) -> tuple[Array, tuple[int]]:
    """Return x as (rows, columns), and the shape of a vector for its columns, of which there must be one at least."""
    matrix = rows(x)
    if x.shape[-1] == 0:
        raise ValueError(f"x has shape {x.shape}: the mean of nothing is undefined, the last axis is empty")
    return matrix, (x.shape[-1],)


def biased(x: Any, bias: Any, taken: Any, dy: Any = None) -> tuple[Array, Array]:
    """Check the arrays of a layer that adds a bias; return x as (rows, columns), and what takes the result."""
    matrix = rows(x)
    vector(bias, x, "bias", x.shape[-1:])
    if dy is not None:
        like(dy, x, "dy", "x")
    return matrix, out(taken, x=x, dy=dy, bias=bias)


def vector(a: Any, x: Array, name: str, shape: tuple[int, ...]) -> None:
    """Check a vector of x's dtype and the shape given."""
    checks.rows_array(a, name, checks.STORED)
    if a.dtype != x.dtype:
        raise TypeError(f"{name} has dtype {a.dtype}, x {x.dtype}: they must agree")
    if a.shape != shape:
        raise ValueError(f"{name} has shape {a.shape}: must be {shape}, as x has shape {x.shape}")


def running(mean: Array | None, var: Array | None, training: bool, **others: Array | None) -> None:
    """Check that running statistics are there where they are needed, and can be updated in training."""
    if (mean is None) != (var is None):
        raise ValueError("running_mean and running_var: give both or neither")
    if not training and mean is None:
        raise ValueError("running_mean=None, running_var=None: training=False needs them")
    if training and mean is not None and var is not None:
        written(mean, "running_mean", running_var=var, **others)
        written(var, "running_var", **others)


def statistic(a: Any, name: str, shape: tuple[int, ...]) -> None:
    """Check what a forward pass returned in float64."""
    checks.rows_array(a, name)
    if a.dtype != np.float64:
        raise TypeError(f"{name} has dtype {a.dtype}: must be float64, as the forward pass returned it")
    if a.shape != shape:
        raise ValueError(f"{name} has shape {a.shape}: must be {shape}, as the forward pass returned it")


def like(a: Any, other: Array, name: str, other_name: str) -> None:
    """Check an array that goes with another one element by element."""
    checks.rows_array(a, name, checks.STORED)
    if a.dtype != other.dtype:
        raise TypeError(f"{name} has dtype {a.dtype}, {other_name} {other.dtype}: they must agree")
    if a.shape != other.shape:
        raise ValueError(f"{name} has shape {a.shape}, {other_name} {other.shape}: they must agree")


def out(given: Any, /, **inputs: Any) -> Array:
    """Return the array that takes the result, which is like the first of the inputs."""
    name, first = next(iter(inputs.items()))
    taken: Array = np.empty_like(first, subok=False) if given is None else given
    if given is not None:
        like(given, first, "out", name)
        written(given, "out", **inputs)
    return taken


def written(a: Array, name: str, /, **others: Array | None) -> None:
    """Refuse an array that cannot be written to, or that shares memory with another one."""
    if not a.flags.writeable:
        raise ValueError(f"{name} is read-only: it is written to")
    for other_name, other in others.items():
        if other is not None and np.may_share_memory(a, other):
            raise ValueError(f"{name} shares memory with {other_name}, which it would overwrite")


def ones(a: Array | None, x: Array, shape: tuple[int, ...]) -> Array:
    """Return a, or ones."""
    return np.ones(shape, x.dtype) if a is None else a


def zeros(a: Array | None, x: Array, shape: tuple[int, ...]) -> Array:
    """Return a, or zeros."""
    return np.zeros(shape, x.dtype) if a is None else a


def flag(name: str, value: Any) -> bool:
    """Return a checked bool."""
    checked: bool = Hyper(name, False).check(value)
    return checked


def natural(name: str, value: Any, bits: int = 31) -> int:
    """Return a checked integer of so many bits."""
    try:
        number = -1 if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}: must be an integer in [0, 2^{bits})") from None
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{name}={value!r}: must be an integer in [0, 2^{bits})")
    return number


def integer(name: str, value: Any, low: int) -> int:
    """Return ``value`` as an int, or raise where it is no integer >= ``low``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}={value!r}: must be an integer >= {low}")
    if value < low:
        raise ValueError(f"{name}={value!r}: must be an integer >= {low}")
    if value >= 1 << 63:
        raise ValueError(f"{name}={value!r}: must be < 2**63")
    return int(value)


def real(name: str, value: Any) -> float:
    """Return a number, NaN and infinity among them, as a float."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name}={value!r}: must be a number") from None


def one_of(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return ``value``, or raise where it is none of the words allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(allowed)}")
    return value


def version(state_dict: Any) -> None:
    """Raise where a state_dict is of a form that this version of pyopt does not know."""
    found = state_dict.get("version", 1) if isinstance(state_dict, Mapping) else 1
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ValueError(f"version of the state_dict is {found!r}: must be an integer from 1 to {VERSION}")
    if found > VERSION:
        raise ValueError(
            f"version of the state_dict is {found}: a newer pyopt wrote it, this one reads up to {VERSION}"
        )


def fields(what: str, given: Any, known: Collection[str], optional: Collection[str] = ()) -> None:
    """Raise where ``given`` is no dict, has a key that is not ``known``, or lacks one that is not ``optional``."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} is {given!r:.80}: must be a dict with the keys {sorted(known)}")
    if unknown := sorted(set(given) - set(known), key=str):
        raise ValueError(f"{what} has unknown keys {unknown}: must be among {sorted(known)}")
    if missing := sorted(set(known) - set(given) - set(optional)):
        raise ValueError(f"{what} lacks the keys {missing}: they must be there")


def saved(state_dict: Any, owner: Any) -> dict[str, Any]:
    """Return a state_dict of an older or of this version as ``owner``, whose settings have defaults, has it now."""
    version(state_dict)
    known = owner.state_dict()
    settings = inspect.signature(type(owner)).parameters
    defaults = {name: settings[name].default for name in known if name in settings}
    fields("the state_dict", state_dict, {"version", *known}, {"version", *defaults})
    return {"version": VERSION, **defaults, **state_dict}
