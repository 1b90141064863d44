"""Layers of a model: forward and backward. ``LAYERS`` maps the stem of every file of this folder to its module."""

from ..spec import discover

LAYERS = discover(__name__, __path__)
