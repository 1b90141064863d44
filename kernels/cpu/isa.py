"""Choose the tile functions: the best that this CPU runs, or what PYOPT_ISA names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

from . import engine

NAMES = ("avx512", "avx2", "baseline", "neon")

_tables: dict[str, dict[str, Any]] = {}
_active: str


def available() -> list[str]:
    """Return the instruction sets that this CPU runs and this build has, the best first."""
    return [isa for isa in engine.features() if importlib.util.find_spec(f"{__package__}._tiles_{isa}") is not None]


def active() -> str:
    """Return the name of the instruction set in use."""
    return _active


def tiles(isa: str | None = None) -> dict[str, Any]:
    """Return the table of tile functions of ``isa``, or of the one in use."""
    isa = isa or _active
    if isa not in _tables:
        _tables[isa] = importlib.import_module(f"{__package__}._tiles_{isa}").TILES
    return _tables[isa]


@contextlib.contextmanager
def use(isa: str) -> Iterator[None]:
    """Take the tiles of ``isa`` for what is made inside the ``with`` block; bits do not depend on it."""
    global _active
    before = _active
    _active = _choose(isa)
    try:
        yield
    finally:
        _active = before


def _choose(wanted: str | None) -> str:
    can = available()
    if wanted is None:
        return can[0]
    if wanted not in NAMES:
        raise ImportError(f"PYOPT_ISA={wanted!r}: must be one of {', '.join(NAMES)}")
    if wanted not in can:
        raise ImportError(f"PYOPT_ISA={wanted!r}: this CPU and this build allow {', '.join(can)}")
    return wanted


_active = _choose(os.environ.get("PYOPT_ISA"))
