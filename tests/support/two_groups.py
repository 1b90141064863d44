"""An optimizer that has something of everything to remember, and gradients for it."""

import numpy as np

from support.helpers import GRADIENTS, everything, gradients, like, make, some_penalty, wild

SIZES = (130, 1, 0, 1024, 7)


def schedule(t):
    return 0.25 / (1 + t)


def setup(rule, dtype, seed=0, **hypers):
    """Return an optimizer of two groups that differ, one of them on a schedule, and its parameters."""
    params = [wild(n, dtype, seed + i) for i, n in enumerate(SIZES)]
    params[1] = params[1].reshape(())
    params[3] = np.asfortranarray(params[3].reshape(32, 32))
    groups = [
        {"params": [("w", params[0]), ("b", params[1])], **(everything(rule) | hypers)},
        {"params": params[2:], "lr": schedule, "penalty": [some_penalty(kind) for kind in GRADIENTS.values()]},
    ]
    return make(rule, groups), params


def draw(params, steps, seed=50):
    """Return gradients with some of them missing, so that the step counts differ."""
    rows = [[like(p, g) for p, g in zip(params, row, strict=True)] for row in gradients(params, steps, seed)]
    for t, row in enumerate(rows):
        row[t % 3] = None
    return rows
