"""A user's program. ``.ci/types`` lets mypy check it, to which a mistake that it does not find is an error as well."""

from collections.abc import Callable

import numpy as np

import pyopt

w, g = np.zeros(3), np.ones(3)


def accepted() -> None:
    """Make and use optimizers in all the ways that their types allow."""
    decay = pyopt.schedules.Exponential(lr=0.1, gamma=0.9)
    adam: pyopt.AdamW = pyopt.AdamW([w], decay, (0.8, lambda step: 0.9), penalty=[pyopt.L1(0.1)], prox=pyopt.Box(-1, 1))
    adam.step([g], zero_grads=False)
    optimizers: list[pyopt.Optimizer] = [
        adam,
        pyopt.SGD([{"params": [w], "lr": 0.1}], momentum=0.5, nesterov=True, max_grad_norm=1.0),
        pyopt.Adagrad([("w", w)], initial_accumulator_value=1.0, rounding="stochastic", state_dtype=np.float16),
    ]
    for kind in pyopt.optim.OPTIMIZERS.values():
        optimizers.append(kind([w]))
    for opt in optimizers:
        opt.step([g])
    pyopt.functional.lion([w], [g], [g.copy()], np.zeros(1), lr=0.1, beta1=0.5, rounding="nearest")
    pyopt.functional.accumulate([w], [g])


def refused() -> list[Callable[[], object]]:
    """Return calls that mypy has to object to, as pyopt does when they are made."""
    return [
        lambda: pyopt.AdamW([w], lr="fast"),  # type: ignore[arg-type]
        lambda: pyopt.AdamW([w], betas=0.9),  # type: ignore[arg-type]
        lambda: pyopt.AdamW([w], momentum=0.9),  # type: ignore[call-arg]
        lambda: pyopt.SGD([w], nesterov=pyopt.schedules.Constant(0.1)),  # type: ignore[arg-type]
        lambda: pyopt.Adagrad([w], initial_accumulator_value=lambda step: 1.0),  # type: ignore[arg-type]
        lambda: pyopt.RMSprop([w], rounding="up"),  # type: ignore[arg-type]
        lambda: pyopt.functional.lion([w], [g], [g], np.zeros(1), betas=(0.9, 0.99)),  # type: ignore[call-arg]
        lambda: pyopt.functional.sgd([w], [g], [g]),  # type: ignore[call-arg]
    ]
