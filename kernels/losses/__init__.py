"""Losses: value and gradient in one pass. ``LOSSES`` maps the stem of every file of this folder to its module.

``loss.py`` of the folder above says what a module has. ``ELEMENTWISE`` are those with a term for every element; the
others have one for every row.
"""

from ..spec import discover

LOSSES = discover(__name__, __path__)
ELEMENTWISE = {stem: module for stem, module in LOSSES.items() if hasattr(module, "scalars")}
