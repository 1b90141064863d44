"""Fused optimizer kernels: from the loss gradient to the new weights in one trip through memory."""

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

# the source folder hides an installed wheel, or has lost what was built in it
if _find_spec("pyopt.kernels") is None or _find_spec("pyopt.kernels.cpu.engine") is None:
    raise ImportError("this is pyopt's source folder: run `pip install -e .` in it, or start Python in another folder")

from . import kernels as _kernels

_here, _there = _Path(__file__).resolve().parents[1], _Path(_kernels.__file__).resolve().parents[1]
if _there not in (_here, _here / "pyopt"):  # an editable install of another clone
    raise ImportError(f"pyopt comes from {_here} but its kernels from {_there}: run `pip install -e .` in {_here}")

from . import augment, functional, layers, losses, optim, schedules
from .config import show_config
from .kernels.cpu.threads import get_num_threads, set_num_threads
from .kernels.penalties.box import Box
from .kernels.penalties.elastic_net import ElasticNet
from .kernels.penalties.group_lasso import GroupLasso
from .kernels.penalties.huber_l1 import HuberL1
from .kernels.penalties.l1 import L1
from .kernels.penalties.l2 import L2
from .kernels.penalties.log_sum import LogSum
from .kernels.penalties.max_norm import MaxNorm
from .kernels.penalties.mcp import MCP
from .kernels.penalties.non_negative import NonNegative
from .kernels.penalties.scad import SCAD
from .optim import *  # noqa: F403  # a class for each rule: optim.__all__
from .training.averaging import PolyakAverage, SnapshotEnsemble
from .training.early_stopping import EarlyStopping
from .training.loss_scale import DynamicLossScale

__all__ = [
    "L1",
    "L2",
    "MCP",
    "SCAD",
    "Box",
    "DynamicLossScale",
    "EarlyStopping",
    "ElasticNet",
    "GroupLasso",
    "HuberL1",
    "LogSum",
    "MaxNorm",
    "NonNegative",
    "PolyakAverage",
    "SnapshotEnsemble",
    "augment",
    "functional",
    "get_num_threads",
    "layers",
    "losses",
    "schedules",
    "set_num_threads",
    "show_config",
]
__all__ += optim.__all__


def __getattr__(name: str) -> object:
    """Find the version, and import ``estimators``, which needs scikit-learn, when they are first asked for."""
    if name == "__version__":
        from .config import version

        return version()
    if name == "estimators":
        from importlib import import_module

        return import_module(f"{__name__}.estimators")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what users call."""
    return [*__all__, "__version__", "estimators"]
