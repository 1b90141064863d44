# Written by docs/from_rules.py.
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from numpy.typing import DTypeLike

from ..kernels.penalty import Penalty
from .optimizer import Optimizer, Params

Number: TypeAlias = float | Callable[[int], float]
Penalties: TypeAlias = Penalty | Sequence[Penalty] | None

__all__ = [
    "Optimizer",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "LAMB",
    "Lion",
    "Momentum",
    "RMSprop",
]

OPTIMIZERS: dict[str, type[Optimizer]]

class SGD(Optimizer, rule="sgd"):
    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        momentum: Number = 0.0,
        dampening: Number = 0.0,
        weight_decay: Number = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        clip_value: Number | None = None,
        max_tensor_norm: Number | None = None,
        ema_decay: Number | None = None,
        ema_bias_correction: bool = False,
        *,
        penalty: Penalties = None,
        prox: Penalties = None,
        metric: Literal["lr"] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = "nearest",
        seed: int = 0,
        state_dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
        shadow_dtype: DTypeLike | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
    ) -> None: ...

class Adagrad(Optimizer, rule="adagrad"):
    def __init__(
        self,
        params: Params,
        lr: Number = 0.01,
        lr_decay: Number = 0.0,
        weight_decay: Number = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: Number = 1e-10,
        maximize: bool = False,
        clip_value: Number | None = None,
        max_tensor_norm: Number | None = None,
        ema_decay: Number | None = None,
        ema_bias_correction: bool = False,
        *,
        penalty: Penalties = None,
        prox: Penalties = None,
        metric: Literal["lr"] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = "nearest",
        seed: int = 0,
        state_dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
        shadow_dtype: DTypeLike | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
    ) -> None: ...

class Adam(Optimizer, rule="adam"):
    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: Number = 1e-08,
        weight_decay: Number = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        clip_value: Number | None = None,
        max_tensor_norm: Number | None = None,
        ema_decay: Number | None = None,
        ema_bias_correction: bool = False,
        *,
        penalty: Penalties = None,
        prox: Penalties = None,
        metric: Literal["lr"] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = "nearest",
        seed: int = 0,
        state_dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
        shadow_dtype: DTypeLike | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
    ) -> None: ...

class AdamW(Optimizer, rule="adamw"):
    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: Number = 1e-08,
        weight_decay: Number = 0.01,
        amsgrad: bool = False,
        maximize: bool = False,
        clip_value: Number | None = None,
        max_tensor_norm: Number | None = None,
        ema_decay: Number | None = None,
        ema_bias_correction: bool = False,
        *,
        penalty: Penalties = None,
        prox: Penalties = None,
        metric: Literal["lr"] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = "nearest",
        seed: int = 0,
        state_dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
        shadow_dtype: DTypeLike | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
    ) -> None: ...

class LAMB(Optimizer, rule="lamb"):
    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: Number = 1e-06,
        weight_decay: Number = 0.01,
        trust_clip: bool = False,
        maximize: bool = False,
        clip_value: Number | None = None,
        max_tensor_norm: Number | None = None,
        ema_decay: Number | None = None,
        ema_bias_correction: bool = False,
        *,
        penalty: Penalties = None,
        prox: Penalties = None,
        metric: Literal["lr"] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = "nearest",
        seed: int = 0,
        state_dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
        shadow_dtype: DTypeLike | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
    ) -> None: ...

class Lion(Optimizer, rule="lion"):
    def __init__(
        self,
        params: Params,
        lr: Number = 0.0001,
        betas: tuple[Number, Number] = (0.9, 0.99),
        weight_decay: Number = 0.0,
        maximize: bool = False,
        clip_value: Number | None = None,
        max_tensor_norm: Number | None = None,
        ema_decay: Number | None = None,
        ema_bias_correction: bool = False,
        *,
        penalty: Penalties = None,
        prox: Penalties = None,
        metric: Literal["lr"] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = "nearest",
        seed: int = 0,
        state_dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
        shadow_dtype: DTypeLike | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
    ) -> None: ...

class Momentum(Optimizer, rule="momentum"):
    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        momentum: Number = 0.9,
        weight_decay: Number = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        clip_value: Number | None = None,
        max_tensor_norm: Number | None = None,
        ema_decay: Number | None = None,
        ema_bias_correction: bool = False,
        *,
        penalty: Penalties = None,
        prox: Penalties = None,
        metric: Literal["lr"] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = "nearest",
        seed: int = 0,
        state_dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
        shadow_dtype: DTypeLike | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
    ) -> None: ...

class RMSprop(Optimizer, rule="rmsprop"):
    def __init__(
        self,
        params: Params,
        lr: Number = 0.01,
        alpha: Number = 0.99,
        eps: Number = 1e-08,
        weight_decay: Number = 0.0,
        momentum: Number = 0.0,
        centered: bool = False,
        maximize: bool = False,
        clip_value: Number | None = None,
        max_tensor_norm: Number | None = None,
        ema_decay: Number | None = None,
        ema_bias_correction: bool = False,
        *,
        penalty: Penalties = None,
        prox: Penalties = None,
        metric: Literal["lr"] | None = None,
        rounding: Literal["nearest", "stochastic", "remainder"] = "nearest",
        seed: int = 0,
        state_dtype: DTypeLike | Mapping[str, DTypeLike] | None = None,
        shadow_dtype: DTypeLike | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
    ) -> None: ...
