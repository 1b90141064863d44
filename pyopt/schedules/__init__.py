"""Learning rates as functions of the number of steps taken.

``pyopt.Adam(params, lr=pyopt.schedules.Cosine(1e-3, 1000))``: an optimizer calls its schedule with 0 for the first step
of a parameter. Each has a closed form and no hidden state: a run resumed at any step goes on with the same bits. Units
are steps; for epochs, multiply by the steps of an epoch. A step need not be a whole number. Names and arguments follow
torch.optim.lr_scheduler, else optax. Where a schedule has an end, it stays at its last value.

Every argument is checked when a schedule is made: TypeError or ValueError with its name, value and range. A rate is
finite and >= 0, a number of steps an integer >= 1, where nothing else is said.
"""

from .base import Schedule
from .cycles import CosineRestarts, Cyclic, MomentumOf, OneCycle
from .decays import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    InverseTime,
    Join,
    LinearWarmup,
    MultiStep,
    Polynomial,
    Step,
    WarmupStableDecay,
)
from .plateau import ReduceOnPlateau

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "Exponential",
    "InverseSqrt",
    "InverseTime",
    "Join",
    "LinearWarmup",
    "MomentumOf",
    "MultiStep",
    "OneCycle",
    "Polynomial",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "WarmupStableDecay",
]

for _name in __all__:  # pickles name what users import, wherever the class lies
    globals()[_name].__module__ = __name__
