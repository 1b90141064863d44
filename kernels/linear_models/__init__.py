"""Linear models as a whole: epochs in one call, rows of sparse matrices, probabilities, moments of the data.

No user calls them: their arrays are checked by ``pyopt.estimators``, or not at all. ``MODELS`` maps the stem of every
file of this folder to its module.
"""

from ..spec import discover

MODELS = discover(__name__, __path__)
