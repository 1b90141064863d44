"""Optimizers over arrays: one class per rule, all of them ``Optimizer``."""

from .optimizer import SGD, Adagrad, Adam, AdamW, Lion, Momentum, Optimizer, RMSprop

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Lion", "Momentum", "Optimizer", "RMSprop"]
