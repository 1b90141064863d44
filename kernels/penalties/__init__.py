"""Penalties. ``PENALTIES`` maps the stem of every file of this folder to its class."""

from ..penalty import Penalty
from ..spec import discover

PENALTIES: dict[str, type[Penalty]] = {
    stem: next(
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Penalty) and c.__module__ == module.__name__
    )
    for stem, module in discover(__name__, __path__).items()
}
