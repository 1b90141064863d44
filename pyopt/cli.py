"""The command line: ``pyopt train``, ``plot-schedule`` and ``config``. Errors are one line, with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

DEMO = {"matplotlib", "rich", "sklearn", "typer"}


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, on ``sys.argv`` where no arguments are given, and exit."""
    try:
        code = _run(args)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in DEMO:
            raise
        _refuse(f"{package} is missing: pip install 'pyopt-kernels[demo]'")
    sys.exit(code)


def _run(args: Sequence[str] | None) -> int:
    import typer

    from ._commands import app

    # the base of what is wrong with arguments has no public name: older typers have it from click, newer their own
    usage_error: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    try:
        code = app(args=args, prog_name="pyopt", standalone_mode=False)
    except usage_error as error:
        _refuse(" ".join(error.format_message().split()))  # type: ignore[attr-defined]
    except (typer.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _refuse(message: str) -> NoReturn:
    print(f"pyopt: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
