"""Dynamic loss scaling for gradients in low precision: grow until overflow, then back off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kernels.hyper import Hyper
from ..validate import integer, saved

_SMALLEST, _LARGEST = 2.0**-126, 2.0**126  # float32 has the inverse of what lies between as a normal number

_SETTINGS = (
    Hyper("init_scale", 65536.0, low=_SMALLEST, high=_LARGEST, closed=True),
    Hyper("growth_factor", 2.0, low=1.0),
    Hyper("backoff_factor", 0.5, above=True, high=1.0),
)


class DynamicLossScale:
    """What the loss is multiplied by, so that small gradients do not vanish in float16.

    Multiply the loss by ``scale``, hand this object to ``opt.step(grads, grad_scale=...)``, which divides by it and
    takes no step where a gradient is infinite or NaN, and call ``update()`` once an iteration, after all optimizers.

    Parameters
    ----------
    init_scale : float
        First scale, in [2**-126, 2**126].
    growth_factor : float
        The scale is multiplied by it after ``growth_interval`` iterations without a non-finite gradient; >= 1.
    backoff_factor : float
        The scale is multiplied by it after an iteration with one; in (0, 1).
    growth_interval : int
        >= 1.

    Names and defaults are those of torch.amp.GradScaler. The scale stays within [2**-126, 2**126], of which
    float32 has the inverse.

    Source: P. Micikevicius et al., "Mixed precision training", ICLR 2018, https://arxiv.org/abs/1710.03740

    >>> import numpy as np, pyopt
    >>> w, scaler = np.ones(2, np.float32), pyopt.DynamicLossScale(init_scale=1024.0)
    >>> opt = pyopt.SGD([w], lr=0.5)
    >>> opt.step([np.array([np.inf, 0], np.float32)], grad_scale=scaler)
    >>> scaler.update()
    >>> opt.skipped, scaler.scale, w.tolist()
    (True, 512.0, [1.0, 1.0])
    """

    def __init__(self, init_scale: float = 65536.0, growth_factor: float = 2.0, backoff_factor: float = 0.5,
                 growth_interval: int = 2000) -> None:  # fmt: skip
        given = (init_scale, growth_factor, backoff_factor)
        self.scale, self.growth_factor, self.backoff_factor = (
            hyper.check(value) for hyper, value in zip(_SETTINGS, given, strict=True)
        )
        self.growth_interval = integer("growth_interval", growth_interval, 1)
        self.found_nonfinite = False
        self._growth_tracker = 0

    def update(self) -> None:
        """Adapt the scale to what the steps since the last call have found."""
        scale, tracker = self.scale, self._growth_tracker + 1
        if self.found_nonfinite:
            scale, tracker = max(scale * self.backoff_factor, _SMALLEST), 0
        elif tracker == self.growth_interval:
            grown = scale * self.growth_factor
            scale, tracker = grown if grown <= _LARGEST else scale, 0
        vars(self).update(scale=scale, _growth_tracker=tracker, found_nonfinite=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, its settings and its progress, with the keys of torch's."""
        return {
            "scale": self.scale,
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``; ValueError or TypeError, and no change, where a value is out of range."""
        state_dict = saved(state_dict, self)
        settings = {key: value for key, value in state_dict.items() if key not in ("version", "_growth_tracker")}
        checked = DynamicLossScale(settings.pop("scale"), **settings)
        tracker = integer("_growth_tracker", state_dict["_growth_tracker"], 0)
        if tracker >= checked.growth_interval:
            raise ValueError(f"_growth_tracker={tracker!r}: must be < growth_interval={checked.growth_interval}")
        self.__dict__.update(vars(checked), _growth_tracker=tracker)
