"""Losses: value and gradient in one pass. ``LOSSES`` maps the stem of every file of this folder to its module.

A module has ``reference(prediction, target, factor)``, which returns a term for every element or row, in float64, and
the gradient; ``compute(prediction, target, gradient, mean)`` fills the gradient and returns the value.
"""

from ..spec import discover

LOSSES = discover(__name__, __path__)
