"""Files that the command line writes: whole or not at all, with what was there before left until then."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO


def check(name: str, path: Path, endings: Sequence[str]) -> None:
    """Raise ValueError where a file cannot be written: before the work, not after."""
    if path.suffix.lower() not in endings:
        older = "; .skops was the format of older versions" if path.suffix.lower() == ".skops" else ""
        raise ValueError(f"{name}={str(path)!r}: must end in {' or '.join(endings)}{older}")
    with _refusing(name, path):
        target, mode = _target(path)
        if mode is not None:
            target.open("ab").close()
        if mode is None or stat.S_ISREG(mode):
            beside = _beside(target)
            beside.open("xb").close()
            beside.unlink()


@contextlib.contextmanager
def replaced(name: str, path: Path) -> Iterator[BinaryIO]:
    """Yield a new file, which takes the place of ``path`` once it is whole and on the disk.

    Where that fails, or the body does, what was there before stays, and nothing is left beside it; of what the system
    refuses ValueError says the reason. A device or a pipe is written to directly.
    """
    with _refusing(name, path):
        target, mode = _target(path)
        if mode is not None and not stat.S_ISREG(mode):
            with target.open("wb") as device:
                yield device
            return
        beside = _beside(target)
        file = beside.open("xb")
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                beside.chmod(stat.S_IMODE(mode))
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    with contextlib.suppress(OSError):  # the file is there; some systems cannot sync folders
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _target(path: Path) -> tuple[Path, int | None]:
    """Return the file that a path leads to, by links or not, and its mode, or None where there is none."""
    target = Path(os.path.realpath(path))
    try:
        return target, target.stat().st_mode
    except FileNotFoundError:
        return target, None


def _beside(target: Path) -> Path:
    """Return a name that no other run has, in the same folder: only there is a rename one step."""
    return target.with_name(f".{secrets.token_hex(8)}.part")


@contextlib.contextmanager
def _refusing(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{name}={str(path)!r} cannot be written: {error.strerror or error}") from None
