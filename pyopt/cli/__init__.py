"""The command line: ``pyopt train``, ``predict``, ``plot-schedule``, ``config``. Errors are one line, exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .terminal import shown

EXTRAS = {**dict.fromkeys(("matplotlib", "rich", "sklearn", "typer"), "demo"), "pyarrow": "parquet"}


class Refused(Exception):  # noqa: N818 - what is refused is no fault of the program
    """An option or a file is wrong; the text says how."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, on ``sys.argv`` where no arguments are given, and exit."""
    try:
        code = _run(args)
    except ImportError as error:  # of the estimators it has a text of its own, and what is missing as its cause
        package = (error.name or getattr(error.__cause__, "name", None) or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        _refuse(f"{package} is missing: pip install 'pyopt-kernels[{EXTRAS[package]}]'")
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _run(args: Sequence[str] | None) -> int:
    import typer

    from .commands import app

    # the base of what is wrong with arguments has no public name: older typers have it from click, newer their own
    usage_error: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    try:
        code = app(args=args, prog_name="pyopt", standalone_mode=False)
    except usage_error as error:
        _refuse(" ".join(error.format_message().split()))  # type: ignore[attr-defined]
    except Refused as refused:
        _refuse(" ".join(str(refused).split()))
    except typer.Abort:
        return 130
    except OSError as error:  # files that are asked for have messages of their own: this is the standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or what is left of it fails again at the exit
        _refuse(f"{error.filename or 'the output'} cannot be written: {error.strerror or error}")
    return code if isinstance(code, int) else 0


def _refuse(message: str) -> NoReturn:
    print(f"pyopt: {shown(message)}", file=sys.stderr)
    sys.exit(2)
