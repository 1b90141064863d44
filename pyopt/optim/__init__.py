"""Optimizers over arrays: one class per rule, all of them ``Optimizer``. ``OPTIMIZERS`` has them by their rules."""

from .optimizer import Optimizer


class SGD(Optimizer, rule="sgd"): ...


class Adagrad(Optimizer, rule="adagrad"): ...


class Adam(Optimizer, rule="adam"): ...


class AdamW(Optimizer, rule="adamw"): ...


class LAMB(Optimizer, rule="lamb"): ...


class Lion(Optimizer, rule="lion"): ...


class Momentum(Optimizer, rule="momentum"): ...


class RMSprop(Optimizer, rule="rmsprop"): ...


OPTIMIZERS = {
    kind.rule.name: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
}

__all__ = ["Optimizer", *(kind.__name__ for kind in OPTIMIZERS.values())]  # noqa: PLE0604
