"""What reaches a terminal: text from files and options is shown as it is, and never obeyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def shown(text: object) -> str:
    r"""Return text with ``\x1b`` and the like in place of control characters, line ends among them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def console(stderr: bool = False) -> Console:
    """Return a console on which ``[red]`` and ``:star:`` mean themselves: they may be the name of a file."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
