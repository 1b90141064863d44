"""Optimizer updates. ``RULES`` maps the stem of every file of this folder to its Rule."""

from ..spec import discover

RULES = {stem: module.RULE for stem, module in discover(__name__, __path__).items()}
