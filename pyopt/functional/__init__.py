"""Optimizer updates on lists that the caller owns, in the argument order of torch.optim.functional.

``adamw(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, *, lr, beta1, ...)`` updates params, states
and steps in place. Each list has one entry for each parameter; that of a state which the hyper-parameters switch off is
not looked at. ``state_steps`` is a list of one-element arrays, or one vector: the number of steps taken before. A
gradient of None skips its parameter. Errors come before anything is touched, as in ``Optimizer.step``.
"""

from ..arrays.gpu import by_view
from ..kernels import sums
from ..kernels.rules import RULES
from .lists import on_lists

__all__ = ["accumulate", *RULES]  # noqa: PLE0604

accumulate = by_view("totals")(sums.accumulate)
globals().update({name: on_lists(rule) for name, rule in RULES.items()})


def __dir__() -> list[str]:
    """Return what users call."""
    return __all__
